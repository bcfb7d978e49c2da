/* Depthwise windows of two or three columns for the DSP extension, four channels at a time, all but
 * channels % 4 of them; the declaration in scalpel_depthwise_conv_s8.c says what they take.
 *
 * r0 x  r1 x_row  r2 weights  r3 channels  r4 the offset of x in both lanes  r5-r8 sums
 * r9-r12 pixels and weights  lr the channels' scales
 */
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)

    .syntax unified
    .thumb

.equ ROWS, 0
.equ ROWS_LEFT, 4
.equ WORDS_LEFT, 8
.equ SAVED, 12 + 36
.equ SCALE, SAVED + 4
.equ OFFSET, SAVED + 8
.equ ZERO_POINT, SAVED + 12
.equ Y, SAVED + 16

/* Adds the products of four channels of x, in r9, and of weights, in r11. */
.macro MULTIPLY
    sxtab16 r10, r4, r9, ror #8
    sxtab16 r9, r4, r9
    sxtb16 r12, r11, ror #8
    sxtb16 r11, r11
    smlabb r5, r9, r11, r5
    smlatt r7, r9, r11, r7
    smlabb r6, r10, r12, r6
    smlatt r8, r10, r12, r8
.endm

/* scalpel_narrow_output of one channel, its multiplier and shift at lr + place. */
.macro OUTPUT acc, place
    ldrd r9, r10, [lr, #\place]
    lsl \acc, \acc, #1
    mvn r10, r10
    smmulr \acc, \acc, r9
    add \acc, \acc, \acc, asr #31
    asr \acc, \acc, r10
    add \acc, \acc, r11
    asr \acc, \acc, #1
    ssat \acc, #8, \acc
.endm

.macro WINDOW name, columns
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 16
\name:
    push {r4-r11, lr}
    sub sp, sp, #12
    ldr r5, [sp, #SAVED]
    str r5, [sp, #ROWS]
    lsr r6, r3, #2
    str r6, [sp, #WORDS_LEFT]
    ldr lr, [sp, #SCALE]
    ldr r4, [sp, #OFFSET]
1:  ldr r9, [sp, #ROWS]
    ldr r5, [lr]
    ldr r6, [lr, #12]
    ldr r7, [lr, #24]
    ldr r8, [lr, #36]
2:  str r9, [sp, #ROWS_LEFT]
    ldr r9, [r0]
    ldr r11, [r2]
    MULTIPLY
    ldr r9, [r0, r3]
    ldr r11, [r2, r3]
    MULTIPLY
  .if \columns == 3
    ldr r9, [r0, r3, lsl #1]
    ldr r11, [r2, r3, lsl #1]
    MULTIPLY
  .endif
    ldr r9, [sp, #ROWS_LEFT]
    add r0, r0, r1
    add r2, r2, r3
    add r2, r2, r3, lsl #1
    subs r9, r9, #1
    bne 2b
    ldr r9, [sp, #ROWS]
    ldr r11, [sp, #ZERO_POINT]
    mls r0, r9, r1, r0
    add r10, r9, r9, lsl #1
    mls r2, r10, r3, r2
    add r0, r0, #4
    add r2, r2, #4
    OUTPUT r5, 4
    OUTPUT r6, 16
    OUTPUT r7, 28
    OUTPUT r8, 40
    ldr r10, [sp, #WORDS_LEFT]
    ldr r9, [sp, #Y]
    bfi r5, r6, #8, #8
    bfi r5, r7, #16, #8
    bfi r5, r8, #24, #8
    str r5, [r9], #4
    str r9, [sp, #Y]
    add lr, lr, #48
    subs r10, r10, #1
    str r10, [sp, #WORDS_LEFT]
    bne 1b
    add sp, sp, #12
    pop {r4-r11, pc}
    .size \name, . - \name
.endm

    WINDOW scalpel_depthwise_two_columns, 2
    WINDOW scalpel_depthwise_three_columns, 3

#endif
