/* int8 to int16 for the DSP extension, four inputs at a time in the order 0, 2, 1, 3.
 *
 * void scalpel_widen_s8(const int8_t *x, uint32_t n, uint32_t width, int16_t *y)
 */
#include "scalpel_tier.h"

#if SCALPEL_DSP

    .syntax unified
    .thumb

.macro WIDEN8
    ldr r4, [r0], #4
    ldr r5, [r0], #4
    sxtb16 r6, r4
    sxtb16 r4, r4, ror #8
    sxtb16 r7, r5
    sxtb16 r5, r5, ror #8
    str r6, [r3], #4
    str r4, [r3], #4
    str r7, [r3], #4
    str r5, [r3], #4
.endm
.macro WIDEN4
    ldr r4, [r0], #4
    sxtb16 r6, r4
    sxtb16 r4, r4, ror #8
    str r6, [r3], #4
    str r4, [r3], #4
.endm

    .section .text.scalpel_widen_s8, "ax", %progbits
    .global scalpel_widen_s8
    .type scalpel_widen_s8, %function
    .thumb_func
    .balign 16
scalpel_widen_s8:
    push {r4-r9, lr}
    add r9, r0, r1              /* the end of x */
    sub r8, r2, #1
    ands r8, r8, r1             /* inputs of a short last group */
    sub r1, r1, r8
    subs r1, r1, #32
    blo 2f
1:  WIDEN8
    WIDEN8
    WIDEN8
    WIDEN8
    subs r1, r1, #32
    bhs 1b
2:  adds r1, r1, #32
    beq 4f
3:  WIDEN4
    subs r1, r1, #4
    bne 3b
4:  cmp r8, #0
    beq 6f
    sub r0, r9, r2
5:  WIDEN4
    subs r2, r2, #4
    bne 5b
6:  pop {r4-r9, pc}
    .size scalpel_widen_s8, . - scalpel_widen_s8

#endif
