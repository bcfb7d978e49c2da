#ifdef __ARM_FEATURE_DSP
    .syntax unified
    .thumb
    .section .text.tiny_dot8, "ax", %progbits
    .global tiny_dot8
    .type tiny_dot8, %function
    .thumb_func
tiny_dot8:
    ldr     r2, [r0], #4
    sxtb16  r3, r2
    sxtb16  r2, r2, ror #8
    push    {r4, r5}
    ldr     r4, [r1], #4
    sxtb16  r5, r4
    sxtb16  r4, r4, ror #8
    smuad   r3, r3, r5
    smlad   r3, r2, r4, r3
    ldr     r2, [r0]
    sxtb16  r12, r2
    sxtb16  r2, r2, ror #8
    ldr     r4, [r1]
    sxtb16  r5, r4
    sxtb16  r4, r4, ror #8
    smlad   r3, r12, r5, r3
    smlad   r0, r2, r4, r3
    pop     {r4, r5}
    bx      lr
    .size tiny_dot8, . - tiny_dot8
#endif
