/* Grouped-CSR and CSR fully connected, int8, for the DSP extension (Cortex-M4, M7, M33, M55).
 *
 * Eight steps stand unrolled; a row enters them part of the way in (bits 8-11 of `packed`), so that
 * it pays no loop control until its ninth step.  Every instruction of a step is 4 bytes long, and
 * the entry is computed from the step's size.
 *
 * r0 x  r1 indices or columns  r2 values  r3 packed  r10 accumulator  r11 next row
 * r12 x + 4 (delta: x)
 * r4-r9, lr free.  On the stack: end, y, z.
 */
#include "scalpel_rounding.h"
#include "scalpel_tier.h"

#if SCALPEL_DSP

    .syntax unified
    .thumb

/* Four weights in \w times two words of x: the accumulator grows by their products. */
.macro MAC4 w, even, odd
    sxtb16 lr, \w
    sxtb16 \w, \w, ror #8
    smlad r10, lr, \even, r10
    smlad r10, \w, \odd, r10
.endm

/* Two groups of 4: 16 instructions, 17 cycles on a Cortex-M4. */
.macro STEP4
    ldrb.w r4, [r1], #1
    ldrb.w r5, [r1], #1
    ldr.w r6, [r2], #4
    ldr.w r7, [r2], #4
    ldr.w r8, [r0, r4, lsl #3]
    ldr.w r4, [r12, r4, lsl #3]
    ldr.w r9, [r0, r5, lsl #3]
    ldr.w r5, [r12, r5, lsl #3]
    MAC4 r6, r8, r4
    MAC4 r7, r9, r5
.endm
.macro LAST4
    ldrb.w r4, [r1], #1
    ldr.w r6, [r2], #4
    ldr.w r8, [r0, r4, lsl #3]
    ldr.w r9, [r12, r4, lsl #3]
    MAC4 r6, r8, r9
.endm
.macro BEGIN4
    add r12, r0, #4
.endm
.macro ROW4
.endm
.macro ENTRY4
.endm

/* Two groups of 4, indices relative to the group before: 18 instructions, 20 cycles. */
.macro STEP4_DELTA
    ldrb.w r4, [r1], #1
    ldrb.w r5, [r1], #1
    ldr.w r6, [r2], #4
    ldr.w r7, [r2], #4
    add.w r4, r0, r4, lsl #3
    add.w r0, r4, r5, lsl #3
    ldr.w r8, [r4]
    ldr.w r4, [r4, #4]
    ldr.w r9, [r0]
    ldr.w r5, [r0, #4]
    MAC4 r6, r8, r4
    MAC4 r7, r9, r5
.endm
.macro LAST4_DELTA
    ldrb.w r4, [r1], #1
    ldr.w r6, [r2], #4
    add.w r4, r0, r4, lsl #3
    sxtb16 lr, r6
    ldr.w r8, [r4]
    ldr.w r9, [r4, #4]
    sxtb16 r6, r6, ror #8
    smlad r10, lr, r8, r10
    smlad r10, r6, r9, r10
.endm
.macro BEGIN4_DELTA
    mov r12, r0
.endm
.macro ROW4_DELTA
    mov.w r0, r12
.endm
.macro ENTRY4_DELTA
    add.w r4, r4, r4, lsr #3      /* 72 bytes a step, not 64 */
.endm

/* One group of 8: 16 instructions, 18 cycles. */
.macro STEP8
    ldrb.w r4, [r1], #1
    ldr.w r6, [r2], #4
    ldr.w r7, [r2], #4
    add.w r4, r0, r4, lsl #4
    sxtb16 lr, r6
    ldr.w r5, [r4]
    ldr.w r8, [r4, #4]
    ldr.w r9, [r4, #8]
    ldr.w r4, [r4, #12]
    smlad r10, lr, r5, r10
    sxtb16 r6, r6, ror #8
    smlad r10, r6, r8, r10
    sxtb16 lr, r7
    smlad r10, lr, r9, r10
    sxtb16 r7, r7, ror #8
    smlad r10, r7, r4, r10
.endm
.macro BEGIN8
.endm
.macro ROW8
.endm
.macro ENTRY8
.endm

/* Four single weights: 15 instructions, 16 cycles.  The columns come first, so that no load waits
 * for its address. */
.macro STEP_CSR_OF load, bytes
    \load r4, [r1], #\bytes
    \load r5, [r1], #\bytes
    \load r6, [r1], #\bytes
    \load r7, [r1], #\bytes
    ldrsb.w r4, [r0, r4]
    ldrsb.w r5, [r0, r5]
    ldrsb.w r6, [r0, r6]
    ldrsb.w r7, [r0, r7]
    ldr.w r8, [r2], #4
    sxtb16 r9, r8
    sxtb16 r8, r8, ror #8
    smlabb r10, r9, r4, r10
    smlabb r10, r8, r5, r10
    smlatb r10, r9, r6, r10
    smlatb r10, r8, r7, r10
.endm
.macro STEPCSR
    STEP_CSR_OF ldrb.w, 1
.endm
.macro STEPCSR_WIDE
    STEP_CSR_OF ldrh.w, 2
.endm
.macro BEGINCSR
.endm
.macro BEGINCSR_WIDE
.endm
.macro ROWCSR
.endm
.macro ROWCSR_WIDE
.endm
.macro ENTRYCSR
    sub.w r4, r4, r4, lsr #4      /* 60 bytes a step, not 64 */
.endm
.macro ENTRYCSR_WIDE
    ENTRYCSR
.endm

/* out = ssat8((v + z * 2^shift / 2) >> shift), where v = acc * multiplier / 2^31 is rounded down, or,
 * where every product is rounded twice, to the nearest with ties upwards, and less 1 if negative. */
.macro STORE_S8
    ldr r5, [r11, #-8]
    ldr r8, [sp, #40]
    ldr r9, [sp, #44]
    ldr r6, [sp, #36]
    lsl r10, r10, #1
#if SCALPEL_DOUBLE_ROUNDING
    smmulr r10, r10, r5
    add r10, r10, r10, asr #31
#else
    smmul r10, r10, r5
#endif
    lsl r9, r9, r3
    add r10, r10, r9, asr #1
    asr r10, r10, r3
    ssat r10, #8, r10
    strb r10, [r8], #1
    str r8, [sp, #40]
.endm
.macro STORE_S32
    ldr r8, [sp, #40]
    ldr r6, [sp, #36]
    str r10, [r8], #4
    str r8, [sp, #40]
.endm

.macro KERNEL name, form, store, pairs=1
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 16
\name:
    push {r4-r11, lr}
    mov r11, r3
    BEGIN\form
    .balign 4
1:  ldr.w r10, [r11], #12
    ldr r3, [r11, #-4]          /* 4 bytes long, as all from label 1 on */
    ROW\form
    and.w r4, r3, #0xf00
    lsr.w r4, r4, #2
    ENTRY\form
    add pc, r4                  /* from a multiple of 4: lands (r4) bytes behind label 2 */
    nop
2:
  .rept 8
    STEP\form
  .endr
    subs r3, r3, #0x10000
    bhs.w 2b
  .if \pairs
    lsls r4, r3, #19
    bpl 3f
    LAST\form
3:
  .endif
    \store
    cmp r11, r6
    bne.w 1b
    pop {r4-r11, pc}
    .size \name, . - \name
.endm

    KERNEL scalpel_gcsr_fc4_dsp_s8, 4, STORE_S8
    KERNEL scalpel_gcsr_fc4_dsp_s32, 4, STORE_S32
    KERNEL scalpel_gcsr_fc8_dsp_s8, 8, STORE_S8, 0
    KERNEL scalpel_gcsr_fc8_dsp_s32, 8, STORE_S32, 0
    KERNEL scalpel_gcsr_fc4_delta_dsp_s8, 4_DELTA, STORE_S8
    KERNEL scalpel_gcsr_fc4_delta_dsp_s32, 4_DELTA, STORE_S32
    KERNEL scalpel_csr_fc_dsp_s8, CSR, STORE_S8, 0
    KERNEL scalpel_csr_fc_dsp_s32, CSR, STORE_S32, 0
    KERNEL scalpel_csr_fc_wide_dsp_s8, CSR_WIDE, STORE_S8, 0
    KERNEL scalpel_csr_fc_wide_dsp_s32, CSR_WIDE, STORE_S32, 0

#endif
