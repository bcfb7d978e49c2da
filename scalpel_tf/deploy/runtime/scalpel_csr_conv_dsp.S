/* CSR convolution, int8, for the DSP extension: four places share every weight.
 *
 * r0 inputs  r1 columns  r2 values  r3 inputs + 4  r4-r7 columns and inputs  r8, r9 weights
 * r10, r11, r12, lr the places' sums
 */
#include "scalpel_requantize_dsp.h"
#include "scalpel_tier.h"

#if SCALPEL_DSP

    .syntax unified
    .thumb

/* The inputs at two columns: r6 and r4 of the first, r7 and r5 of the second. */
.macro INPUTS2 load, bytes
    \load r4, [r1], #\bytes
    \load r5, [r1], #\bytes
.endm
.macro FETCH2
    ldr.w r6, [r0, r4, lsl #3]
    ldr.w r4, [r3, r4, lsl #3]
    ldr.w r7, [r0, r5, lsl #3]
    ldr.w r5, [r3, r5, lsl #3]
.endm

/* Four weights: 124 bytes, 33 cycles on a Cortex-M4 for 16 multiplications. */
.macro GROUP load, bytes
    INPUTS2 \load, \bytes
    ldr.w r9, [r2], #4
    FETCH2
    sxtb16 r8, r9
    sxtb16 r9, r9, ror #8
    smlabb r10, r8, r6, r10
    smlabt r11, r8, r6, r11
    smlabb r12, r8, r4, r12
    smlabt lr, r8, r4, lr
    smlabb r10, r9, r7, r10
    smlabt r11, r9, r7, r11
    smlabb r12, r9, r5, r12
    smlabt lr, r9, r5, lr
    INPUTS2 \load, \bytes
    FETCH2
    smlatb r10, r8, r6, r10
    smlatt r11, r8, r6, r11
    smlatb r12, r8, r4, r12
    smlatt lr, r8, r4, lr
    smlatb r10, r9, r7, r10
    smlatt r11, r9, r7, r11
    smlatb r12, r9, r5, r12
    smlatt lr, r9, r5, lr
.endm

/* The frame: [sp] row  #4 end  #8 y  #12 pitch  #16 loops left. */
.macro CONV4 name, load, bytes, pool
    FUNCTION \name
    push {r4-r11, lr}
    sub sp, sp, #20
    ldm r0, {r4-r10}            /* x, columns, values, rows, end, y, pitch */
    mov r0, r4
    mov r1, r5
    mov r2, r6
    add r3, r4, #4
    stm sp, {r7-r10}
    .balign 4
1:
    ldr.w r4, [sp]
    ldr.w r10, [r4]
    ldrb r5, [r4, #13]
    ldrh r4, [r4, #14]          /* 124 bytes a group that is left out */
    str r5, [sp, #16]
    mov r11, r10
    mov r12, r10
    mov lr, r10
    add pc, r4                  /* from a multiple of 4: lands (r4) bytes behind label 2 */
    nop
2:
  .rept 8
    GROUP \load, \bytes
  .endr
    ldr r4, [sp, #16]
    subs r4, r4, #1
    str r4, [sp, #16]
    bhs.w 2b
    ldr r4, [sp]
    ldr r9, [sp, #8]
    ldr r5, [r4, #4]
    ldr r6, [r4, #8]
    ldr r7, [r4, #12]
    adds r4, r4, #16
    str r4, [sp]
  .if \pool
    LARGER r10, r11
    LARGER r12, lr
    LARGER r10, r12
    REQUANTIZE r10, 0, r11
  .else
    REQUANTIZE r10, 0, r8
    REQUANTIZE r11, 0, r8
    REQUANTIZE r12, 0, r8
    REQUANTIZE lr, 0, r8
    ldr r8, [sp, #12]
    strb r11, [r9, r8]
    strb r12, [r9, r8, lsl #1]
    add r8, r8, r8, lsl #1
    strb lr, [r9, r8]
  .endif
    strb r10, [r9], #1
    str r9, [sp, #8]
    ldr r8, [sp, #4]
    cmp r4, r8
    bne.w 1b
    add sp, sp, #20
    pop {r4-r11, pc}
    .size \name, . - \name
.endm

    CONV4 scalpel_csr_conv4, ldrb.w, 1, 0
    CONV4 scalpel_csr_conv4_wide, ldrh.w, 2, 0
    CONV4 scalpel_csr_conv4_pool2, ldrb.w, 1, 1
    CONV4 scalpel_csr_conv4_wide_pool2, ldrh.w, 2, 1

#endif
