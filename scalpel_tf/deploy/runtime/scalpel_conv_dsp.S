/* Grouped-CSR convolution, int8, for the DSP extension: four output columns share every weight.
 *
 * r0 band  r1 steps  r2 values  r3 loops left, or the row  r4-r7 inputs  r8, r9 weights
 * r10, r11, r12, lr the columns' sums
 */
#include "scalpel_requantize_dsp.h"
#include "scalpel_tier.h"

#if SCALPEL_DSP

    .syntax unified
    .thumb

/* One group: 60 bytes, 24 cycles on a Cortex-M4 for 16 multiplications. r0 is 16 bytes ahead, so
 * that two LDMs without write-back cover the 32 bytes. */
.macro GROUP
    ldrb.w r8, [r1], #1
    ldr.w r9, [r2], #4
    add.w r0, r0, r8, lsl #3
    sxtb16 r8, r9
    sxtb16 r9, r9, ror #8
    ldmdb.w r0, {r4-r7}
    smlad r10, r8, r4, r10
    smlad r10, r9, r5, r10
    smlad r11, r8, r6, r11
    smlad r11, r9, r7, r11
    ldmia.w r0, {r4-r7}
    smlad r12, r8, r4, r12
    smlad r12, r9, r5, r12
    smlad lr, r8, r6, lr
    smlad lr, r9, r7, lr
.endm

/* The sums of the row at r3, which is stored to [sp, #4], over the inputs at r0. */
.macro SUMS
    .balign 4
    str r3, [sp, #4]
    ldr.w r10, [r3]
    ldrh r4, [r3, #14]          /* 60 bytes a group that is left out */
    ldrb r3, [r3, #13]
    mov r11, r10
    mov r12, r10
    mov lr, r10
    add pc, r4
    nop
8:
  .rept 16
    GROUP
  .endr
    subs r3, r3, #1
    bhs.w 8b
.endm

/* r3 the next row  r4 the last one's end  r5-r7 for REQUANTIZE  r8 y  r9 pitch */
.macro LOAD_ROW
    ldr r3, [sp, #4]
    ldr r4, [sp, #8]
    ldr r8, [sp, #12]
    ldr r9, [sp, #16]
    ldr r5, [r3, #4]
    ldr r6, [r3, #8]
    ldr r7, [r3, #12]
.endm

/* The frame: [sp] x + 16  #4 row  #8 end  #12 y  #16 pitch  #20 steps  #24 x_below + 16
 * #28, #32 what must wait for the second half of a pooled row  #36 values. */
.macro ENTER
    push {r4-r11, lr}
    sub sp, sp, #40
    ldm r0, {r4-r11}            /* x, x_below, steps, values, rows, end, y, pitch */
    add r4, r4, #16
    add r5, r5, #16
    mov r1, r6
    mov r2, r7
    mov r3, r8
    str r4, [sp]
    str r9, [sp, #8]
    str r10, [sp, #12]
    str r11, [sp, #16]
    str r6, [sp, #20]
    str r5, [sp, #24]
    mov r0, r4
.endm
.macro LEAVE name
    add sp, sp, #40
    pop {r4-r11, pc}
    .size \name, . - \name
.endm

.macro CONV4 name, shared, relu=0
    FUNCTION \name
    ENTER
    .balign 4
1:
  .if \shared
    ldr.w r1, [sp, #20]
  .endif
  .if \relu == 0
    ldr.w r0, [sp]
  .endif
    SUMS
    LOAD_ROW
  .if \relu
    ldr r0, [sp]
  .endif
    add.w r3, r3, #16
    REQUANTIZE r10, \relu
    REQUANTIZE r11, \relu
    REQUANTIZE r12, \relu
    REQUANTIZE lr, \relu
    strb r11, [r8, r9]
    strb r12, [r8, r9, lsl #1]
    add r9, r9, r9, lsl #1
    strb lr, [r8, r9]
    strb r10, [r8], #1
    str r8, [sp, #12]
    cmp r3, r4
    bne.w 1b
    LEAVE \name
.endm

.macro CONV4_POOL2 name, shared
    FUNCTION \name
    ENTER
    .balign 4
1:
    str r2, [sp, #36]
  .if \shared
    ldr r1, [sp, #20]
  .else
    str r1, [sp, #20]
  .endif
    ldr.w r0, [sp]
    SUMS
    LARGER r10, r11
    LARGER r12, lr
    strd r10, r12, [sp, #28]
    ldr r3, [sp, #4]
    ldr r1, [sp, #20]
    ldr r2, [sp, #36]
    ldr r0, [sp, #24]
    SUMS
    LARGER r10, r11
    LARGER r12, lr
    ldrd r4, r5, [sp, #28]
    LARGER r10, r4
    LARGER r12, r5
    LOAD_ROW
    add.w r3, r3, #16
    REQUANTIZE r10, 0
    REQUANTIZE r12, 0
    strb r12, [r8, r9]
    strb r10, [r8], #1
    str r8, [sp, #12]
    cmp r3, r4
    bne.w 1b
    LEAVE \name
.endm

    CONV4 scalpel_conv4, 0
    CONV4 scalpel_conv4_shared, 1
    CONV4 scalpel_conv4_relu, 0, 1
    CONV4 scalpel_conv4_relu_shared, 1, 1
    CONV4_POOL2 scalpel_conv4_pool2, 0
    CONV4_POOL2 scalpel_conv4_pool2_shared, 1

/* void scalpel_conv_widen(const int8_t *from, int32_t step, int32_t count, int16_t *to)
 * The four inputs of an entry in the order 0, 2, 1, 3; four entries at a time. */
    FUNCTION scalpel_conv_widen
    push {r4-r11}
    add r12, r1, r1, lsl #1
1:  ldr.w r4, [r0]
    ldr.w r6, [r0, r1]
    ldr.w r8, [r0, r1, lsl #1]
    ldr.w r10, [r0, r12]
    add.w r0, r0, r1, lsl #2
    sxtb16 r5, r4, ror #8
    sxtb16 r4, r4
    sxtb16 r7, r6, ror #8
    sxtb16 r6, r6
    sxtb16 r9, r8, ror #8
    sxtb16 r8, r8
    sxtb16 r11, r10, ror #8
    sxtb16 r10, r10
    stmia r3!, {r4-r11}
    subs r2, r2, #4
    bne 1b
    pop {r4-r11}
    bx lr
    .size scalpel_conv_widen, . - scalpel_conv_widen

/* void scalpel_conv_widen_split(const int8_t *from, int32_t step, int32_t count, int16_t *to,
 *                               const int8_t *second, uint32_t mask)
 * Two entries at a time. */
    FUNCTION scalpel_conv_widen_split
    push {r4-r8}
    ldrd r8, r12, [sp, #20]
    mov r4, #0x01010101
    uadd8 r12, r12, r4          /* GE: the bytes of the mask that overflow */
1:  ldr.w r4, [r0]
    ldr.w r5, [r8]
    ldr.w r6, [r0, r1]
    ldr.w r7, [r8, r1]
    add.w r0, r0, r1, lsl #1
    add.w r8, r8, r1, lsl #1
    sel r4, r4, r5
    sel r6, r6, r7
    sxtb16 r5, r4, ror #8
    sxtb16 r4, r4
    sxtb16 r7, r6, ror #8
    sxtb16 r6, r6
    stmia r3!, {r4-r7}
    subs r2, r2, #2
    bne 1b
    pop {r4-r8}
    bx lr
    .size scalpel_conv_widen_split, . - scalpel_conv_widen_split

/* void scalpel_conv_copy(int8_t *to, const int8_t *from, int32_t count)
 * Upwards: they may overlap if to <= from.  32 bytes at a time where both are words. */
    FUNCTION scalpel_conv_copy
    push {r4-r10}
    orr r3, r0, r1
    lsls r3, r3, #30
    bne 3f
    subs r2, r2, #32
    blo 2f
1:  ldmia r1!, {r3-r10}
    stmia r0!, {r3-r10}
    subs r2, r2, #32
    bhs 1b
2:  adds r2, r2, #32
3:  subs r2, r2, #8
    blo 5f
4:  ldr.w r3, [r1]
    ldr.w r4, [r1, #4]
    add r1, r1, #8
    str.w r3, [r0], #4
    str.w r4, [r0], #4
    subs r2, r2, #8
    bhs 4b
5:  adds r2, r2, #8
    beq 7f
6:  ldrb r3, [r1], #1
    strb r3, [r0], #1
    subs r2, r2, #1
    bne 6b
7:  pop {r4-r10}
    bx lr
    .size scalpel_conv_copy, . - scalpel_conv_copy

/* void scalpel_conv_fill(int8_t *to, int32_t value, int32_t count) */
    FUNCTION scalpel_conv_fill
    uxtb r1, r1
    orr r1, r1, r1, lsl #8
    orr r1, r1, r1, lsl #16
    subs r2, r2, #4
    blt 2f
1:  str.w r1, [r0], #4
    subs r2, r2, #4
    bge 1b
2:  adds r2, r2, #4
    ble 4f
3:  strb r1, [r0], #1
    subs r2, r2, #1
    bne 3b
4:  bx lr
    .size scalpel_conv_fill, . - scalpel_conv_fill

#endif
