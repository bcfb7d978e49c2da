#include "scalpel_pool.h"
#include "scalpel_simd.h"

/* sum / count, ties away from zero. */
static int32_t rounded_mean(int32_t sum, int32_t count) {
  return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

#if SCALPEL_SIMD
/* How sums of `count` <= LARGEST bytes are divided without a division: (n * reciprocal) >> 24 is
 * n / count rounded down, as reciprocal = (2^24 + e) / count with 0 <= e < count, so that the error
 * n * e / (count * 2^24) is below 1 / count while n * e < 2^24, and n <= 255.5 * count, e < count.
 * n * reciprocal < 255.5 * 2^24 + 255.5 * count < 2^32.
 * n is the sum moved to 0 .. 255 * count and half of count, which rounds ties upwards; where count
 * is even and the sum negative, ties go the other way by one less, which no other n notices. */
enum { LARGEST = 256 };
typedef struct {
  uint32_t reciprocal, moved, ties;
} division;

static inline division divide_by(int32_t count) {
  const uint32_t n = (uint32_t)count;
  return (division){((UINT32_C(1) << 24) + n - 1) / n, 128 * n + n / 2, n % 2 ? 0 : UINT32_MAX};
}

/* The mean + 128. */
static inline int32_t mean_of(int32_t sum, const division *by) {
  const uint32_t n = (uint32_t)sum + by->moved + ((uint32_t)(sum >> 31) & by->ties);
  return (int32_t)(n * by->reciprocal >> 24);
}

static inline uint32_t means(uint32_t even, uint32_t odd, const division *by) {
  const int32_t first = mean_of(scalpel_low(even), by), second = mean_of(scalpel_low(odd), by);
  const int32_t third = mean_of(scalpel_high(even), by), fourth = mean_of(scalpel_high(odd), by);
  return scalpel_pack4(first, second, third, fourth) ^ 0x80808080u;
}

/* The means of four channels.  256 bytes add up to -32768 .. 32512, which a lane holds. */
static inline uint32_t means_of_four(const scalpel_area *a, int32_t c, const division *by) {
  const int8_t *row = a->from + c;
  uint32_t even = 0, odd = 0;
  for (int32_t i = a->rows; i > 0; --i, row += a->row_bytes) {
    const int8_t *x = row;
    for (int32_t j = a->columns; j > 0; --j, x += a->channels) {
      const uint32_t bytes = scalpel_load4(x);
      even = scalpel_add_even(even, bytes);
      odd = scalpel_add_odd(odd, bytes);
    }
  }
  return means(even, odd, by);
}
#endif

static int32_t sum_of_one(const scalpel_area *a, int32_t c) {
  const int8_t *row = a->from + c;
  int32_t sum = 0;
  for (int32_t i = a->rows; i > 0; --i, row += a->row_bytes) {
    const int8_t *x = row;
    for (int32_t j = a->columns; j > 0; --j, x += a->channels) {
      sum += *x;
    }
  }
  return sum;
}

static void pixel(const scalpel_pool_params *params, const scalpel_area *a, int8_t *y) {
  const int32_t count = a->rows * a->columns;
  int32_t c = 0;
#if SCALPEL_SIMD
  if (a->rows == 3 && a->columns == 3 && a->channels >= 4) {
    c = a->channels & ~3;
    scalpel_average_3x3(a->from, a->row_bytes, a->channels, y);
    if (scalpel_pool_is_bounded(params)) {
      scalpel_clamp_s8(y, (uint32_t)c, params->lowest, params->highest);
    }
  } else if (count <= LARGEST) {
    const uint32_t lowest = scalpel_repeat4(params->lowest);
    const uint32_t highest = scalpel_repeat4(params->highest);
    const division by = divide_by(count);
    for (; c + 4 <= a->channels; c += 4) {
      const uint32_t mean = scalpel_max4(means_of_four(a, c, &by), lowest);
      scalpel_store4(y + c, scalpel_min4(mean, highest));
    }
  }
#endif
  for (; c < a->channels; ++c) {
    const int32_t mean = rounded_mean(sum_of_one(a, c), count);
    y[c] = (int8_t)scalpel_clamp(mean, params->lowest, params->highest);
  }
}

void scalpel_average_pool_s8(const scalpel_pool_params *params, const int8_t *x, int8_t *y) {
  scalpel_pool(params, x, y, pixel);
}
