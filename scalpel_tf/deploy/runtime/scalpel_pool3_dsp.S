/* 3 x 3 pools of int8 for the DSP extension, four channels at a time, all but channels % 4 of them.
 *
 * void scalpel_max_3x3(const int8_t *from, int32_t row_bytes, int32_t channels, int8_t *y)
 * void scalpel_average_3x3(... the same ...)
 * from: the first of nine pixels.  The sum of nine bytes, moved to 4 .. 2299, times
 * ceil(2^32 / 9) / 2^32 rounds to the nearest: the error is below 2299 / 2^32.
 *
 * r0-r2 rows  r3 y  r4-r6 pixels  r7, r8 results  r12 channels  lr words left
 */
#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)

    .syntax unified
    .thumb

.macro FUNCTION name
    .section .text.\name, "ax", %progbits
    .global \name
    .type \name, %function
    .thumb_func
    .balign 16
\name:
    push {r4-r11, lr}
    mov r12, r2
    lsr lr, r2, #2
    add r2, r0, r1, lsl #1
    add r1, r0, r1
.endm

.macro PIXELS row
    ldr.w r5, [\row, r12]
    ldr.w r6, [\row, r12, lsl #1]
    ldr.w r4, [\row], #4
.endm

.macro LARGER a, b
    ssub8 r8, \a, \b
    sel \a, \a, \b
.endm
.macro LARGEST first
    LARGER r5, r6
    LARGER r4, r5
  .if \first
    mov r7, r4
  .else
    LARGER r7, r4
  .endif
.endm

    FUNCTION scalpel_max_3x3
    .balign 4
1:  PIXELS r0
    LARGEST 1
    PIXELS r1
    LARGEST 0
    PIXELS r2
    LARGEST 0
    str.w r7, [r3], #4
    subs lr, lr, #1
    bne.w 1b
    pop {r4-r11, pc}
    .size scalpel_max_3x3, . - scalpel_max_3x3

.macro SUM
    sxtab16 r7, r7, r4
    sxtab16 r8, r8, r4, ror #8
    sxtab16 r7, r7, r5
    sxtab16 r8, r8, r5, ror #8
    sxtab16 r7, r7, r6
    sxtab16 r8, r8, r6, ror #8
.endm

    FUNCTION scalpel_average_3x3
    movw r10, #0xc71d
    movt r10, #0x1c71           /* ceil(2^32 / 9) */
    movw r11, #1156             /* 9 * 128, and 4 to round */
    orr r11, r11, r11, lsl #16
    .balign 4
1:  mov r7, r11
    mov r8, r11
    PIXELS r0
    SUM
    PIXELS r1
    SUM
    PIXELS r2
    SUM
    uxth r4, r7
    lsr r5, r7, #16
    uxth r6, r8
    lsr r8, r8, #16
    umull r9, r4, r4, r10
    umull r9, r5, r5, r10
    umull r9, r6, r6, r10
    umull r9, r8, r8, r10
    orr r4, r4, r6, lsl #8
    orr r4, r4, r5, lsl #16
    orr r4, r4, r8, lsl #24
    eor r4, r4, #0x80808080
    str.w r4, [r3], #4
    subs lr, lr, #1
    bne.w 1b
    pop {r4-r11, pc}
    .size scalpel_average_3x3, . - scalpel_average_3x3

#endif
