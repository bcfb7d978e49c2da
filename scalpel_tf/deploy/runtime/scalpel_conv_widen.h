/* The parts of a grouped-CSR convolution that are assembly with the DSP extension, and others with
 * Helium. */
#ifndef SCALPEL_CONV_WIDEN_H
#define SCALPEL_CONV_WIDEN_H

#include "scalpel_conv.h"

/* `count` entries, a multiple of 4: four int8 each, `step` bytes apart, to what the
 * band holds. */
void scalpel_conv_widen(const int8_t *from, int32_t step, int32_t count, scalpel_conv_input *to);

/* The same, each entry's bytes where `mask` is 255 from `from`, where it is 0 from `second`. */
void scalpel_conv_widen_split(const int8_t *from, int32_t step, int32_t count,
                              scalpel_conv_input *to, const int8_t *second, uint32_t mask);

/* count bytes, not negative; `to` and `from` may overlap if to <= from. */
void scalpel_conv_copy(int8_t *to, const int8_t *from, int32_t count);

/* count times the value; nothing where count < 1. */
void scalpel_conv_fill(int8_t *to, int32_t value, int32_t count);

#endif /* SCALPEL_CONV_WIDEN_H */
