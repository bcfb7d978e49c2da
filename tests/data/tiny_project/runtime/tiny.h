#ifndef TINY_H_
#define TINY_H_

#include <stdint.h>

/* The sum of x[i] * w[i] for i in [0, 8). x and w need no alignment. */
int32_t tiny_dot8(const int8_t *x, const int8_t *w);

#endif /* TINY_H_ */
