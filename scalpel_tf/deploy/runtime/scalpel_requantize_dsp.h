/* Macros of the convolutions in assembly: what comes after the sums. */
#ifndef SCALPEL_REQUANTIZE_DSP_H
#define SCALPEL_REQUANTIZE_DSP_H

#ifdef __ASSEMBLER__
/* clang-format off */

/* r5 multiplier, r6 rounding, r7 shift: two roundings, ties away from zero, in one go.  A negative
 * sum rounds to nothing above zero, so its sign stands for that of the product.  Where all that is
 * below the zero point is clamped to it, how a negative tie rounds does not matter (relu). */
.macro REQUANTIZE acc, relu, free=r0
  .if \relu
    lsl.w \acc, \acc, #1
    smmlar \acc, \acc, r5, r6
  .else
    add.w \free, r6, \acc, asr #31
    lsl.w \acc, \acc, #1
    smmlar \acc, \acc, r5, \free
  .endif
    asr.w \acc, \acc, r7
    ssat \acc, #8, \acc
.endm

.macro LARGER acc, other
    cmp \acc, \other
    it lt
    movlt \acc, \other
.endm

.macro FUNCTION name
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 16
\name:
.endm

#endif

#endif /* SCALPEL_REQUANTIZE_DSP_H */
