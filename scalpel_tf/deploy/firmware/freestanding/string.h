/* The part of <string.h> that the runtime uses, for a compiler without a C library. As builtins,
 * because a freestanding compiler would make a call of even a 4-byte memcpy. */
#ifndef SCALPEL_FREESTANDING_STRING_H_
#define SCALPEL_FREESTANDING_STRING_H_

#include <stddef.h>

#define memcpy(to, from, bytes) __builtin_memcpy(to, from, bytes)
#define memmove(to, from, bytes) __builtin_memmove(to, from, bytes)
#define memset(to, value, bytes) __builtin_memset(to, value, bytes)
#define memcmp(a, b, bytes) __builtin_memcmp(a, b, bytes)

#endif /* SCALPEL_FREESTANDING_STRING_H_ */
