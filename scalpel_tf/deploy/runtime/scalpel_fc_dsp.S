/* Dense fully connected, int8, for the DSP extension: two rows at a time share the loads of x.
 *
 * r0 x  r1, r2 the rows' weights  r3 words a row  r10, r11 accumulators  r12 row  r9 loops left
 * r4-r8, lr free.  On the stack: rows, end, y, z behind the saved registers, and x below them.
 */
#include "scalpel_rounding.h"
#include "scalpel_tier.h"

#if SCALPEL_DSP

    .syntax unified
    .thumb

/* Four columns of two rows: 12 instructions, 13 cycles on a Cortex-M4. */
.macro COLUMNS4
    ldr.w r4, [r0], #4
    ldr.w r5, [r0], #4
    ldr.w r6, [r1], #4
    ldr.w r7, [r2], #4
    sxtb16 lr, r6
    sxtb16 r6, r6, ror #8
    smlad r10, lr, r4, r10
    smlad r10, r6, r5, r10
    sxtb16 lr, r7
    sxtb16 r7, r7, ror #8
    smlad r11, lr, r4, r11
    smlad r11, r7, r5, r11
.endm

/* As STORE_S8 of the sparse kernels; r12 has moved past the row. */
.macro STORE_S8 acc
    ldr r5, [r12, #-8]
    ldr r6, [r12, #-4]
    ldr r8, [sp, #48]
    ldr r7, [sp, #52]
    lsl \acc, \acc, #1
#if SCALPEL_DOUBLE_ROUNDING
    smmulr \acc, \acc, r5
    add \acc, \acc, \acc, asr #31
#else
    smmul \acc, \acc, r5
#endif
    lsl r7, r7, r6
    add \acc, \acc, r7, asr #1
    asr \acc, \acc, r6
    ssat \acc, #8, \acc
    strb \acc, [r8], #1
    str r8, [sp, #48]
.endm
.macro STORE_S32 acc
    ldr r8, [sp, #48]
    str \acc, [r8], #4
    str r8, [sp, #48]
.endm

.macro KERNEL name, store
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 16
\name:
    push {r4-r11, lr}
    push {r0, r3}               /* [sp] x  [sp, #44] end  [sp, #48] y  [sp, #52] z */
    mov r12, r3
    mov r3, r2
1:  ldr r0, [sp]
    ldr r10, [r12], #12
    ldr r5, [sp, #44]
    mov r2, r1                  /* the last of an odd number of rows is its own partner */
    cmp r12, r5
    beq 2f
    add r2, r1, r3, lsl #2
    ldr r11, [r12]
2:  lsr r9, r3, #3
    and r4, r3, #7
    rsb r4, r4, #8
    add r4, r4, r4, lsl #1      /* 48 bytes an entry */
    lsl r4, r4, #4
    .balign 4
    add pc, r4
    nop
3:
  .rept 8
    COLUMNS4
  .endr
    subs r9, r9, #1
    bhs.w 3b
    \store r10
    ldr r5, [sp, #44]
    cmp r12, r5
    beq 4f
    add r12, r12, #12
    mov r1, r2
    \store r11
    ldr r5, [sp, #44]
    cmp r12, r5
    bne.w 1b
4:  add sp, sp, #8
    pop {r4-r11, pc}
    .size \name, . - \name
.endm

    KERNEL scalpel_fc_dsp_s8, STORE_S8
    KERNEL scalpel_fc_dsp_s32, STORE_S32

#endif
