#include <string.h>

#include "scalpel_ops.h"

void scalpel_fill_s8(int8_t value, int32_t count, int8_t *y) { memset(y, value, (size_t)count); }
