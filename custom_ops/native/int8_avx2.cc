// For processors with AVX2: products in 16 bits, since those of bytes could saturate.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2")))

#include "int8_dense.h"
#include "int8_planes.h"
#include "int8_pool.h"
#include "int8_rows.h"

namespace scalpel {
namespace {

struct Avx2Bytes {
  static constexpr int kPixels = 2;

  template <int kCount>
  SCALPEL_INLINE static void Sums(const scalpel_int8_dense &a, int32_t channel,
                                  const uint8_t *const (&from)[kCount],
                                  int32_t (&out)[kCount][kChannels]) {
    __m256i sums[kCount][4];  // two sums of each of four channels
    for (int p = 0; p < kCount; ++p) {
      for (int i = 0; i < 4; ++i) sums[p][i] = _mm256_setzero_si256();
    }
    const int8_t *weights = WeightsOf(a, channel);
    for (int32_t tap = 0; tap < a.tap_count; ++tap) {
      for (int32_t step = 0; step < a.steps; ++step, weights += 64) {
        __m256i inputs[kCount];
        for (int p = 0; p < kCount; ++p) {
          int32_t four;
          memcpy(&four, from[p] + a.taps[tap] + 4 * step, 4);
          inputs[p] = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m256i w = _mm256_cvtepi8_epi16(
              _mm_loadu_si128(reinterpret_cast<const __m128i *>(weights + 16 * i)));
#pragma GCC unroll 2
          for (int p = 0; p < kCount; ++p) {
            sums[p][i] = _mm256_add_epi32(sums[p][i], _mm256_madd_epi16(w, inputs[p]));
          }
        }
      }
    }
    for (int p = 0; p < kCount; ++p) {
      for (int i = 0; i < 2; ++i) {
        const __m256i pairs = _mm256_hadd_epi32(sums[p][2 * i], sums[p][2 * i + 1]);
        const __m256i start =
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.sums + channel + 8 * i));
        const __m256i sum = _mm256_add_epi32(start, _mm256_permute4x64_epi64(pairs, 0xD8));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out[p] + 8 * i), sum);
      }
    }
  }

  // Two vectors at a time: even and odd bytes of eight words each, in 16 bits.
  template <int kVectors>
  SCALPEL_INLINE static void Words(const int8_t *weights, const int32_t *offsets, int32_t count,
                                   const uint32_t *from, int32_t start,
                                   int32_t (&out)[kVectors][kChannels]) {
    constexpr int kTogether = kVectors < 2 ? 1 : 2;
    const __m256i low = _mm256_set1_epi32(0xFF00FF);
    for (int v = 0; v < kVectors; v += kTogether) {
      __m256i sums[2 * kTogether];
      for (int k = 0; k < 2 * kTogether; ++k) sums[k] = _mm256_set1_epi32(start);
      const int8_t *w = weights;
      for (int32_t i = 0; i < count; ++i, w += 4) {
        const __m256i even = Pair(w[0], w[2]), odd = Pair(w[1], w[3]);
        const uint32_t *x = from + offsets[i] + kChannels * v;
#pragma GCC unroll 4
        for (int k = 0; k < 2 * kTogether; ++k) {
          const __m256i word = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(x + 8 * k));
          const __m256i first = _mm256_madd_epi16(_mm256_and_si256(word, low), even);
          const __m256i second =
              _mm256_madd_epi16(_mm256_and_si256(_mm256_srli_epi32(word, 8), low), odd);
          sums[k] = _mm256_add_epi32(sums[k], _mm256_add_epi32(first, second));
        }
      }
      for (int k = 0; k < 2 * kTogether; ++k) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out[v + k / 2] + 8 * (k % 2)), sums[k]);
      }
    }
  }

  SCALPEL_INLINE static void Gathered(const int8_t *weights, const uint16_t *columns, int32_t steps,
                                      const uint8_t *x, const int32_t *start,
                                      int32_t (&out)[kChannels]) {
    __m256i sums[2] = {Load(start), Load(start + 8)};
    const __m256i low = _mm256_set1_epi16(0xFF);
    for (int32_t step = 0; step < steps; ++step, weights += 64, columns += kChannels) {
      for (int i = 0; i < 2; ++i) {
        const __m256i column = _mm256_cvtepu16_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i *>(columns + 8 * i)));
        const __m256i words = _mm256_i32gather_epi32(reinterpret_cast<const int *>(x), column, 4);
        const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(weights + 32 * i));
        const __m256i even = _mm256_madd_epi16(_mm256_and_si256(words, low),
                                               _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
        const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(words, 8), _mm256_srai_epi16(w, 8));
        sums[i] = _mm256_add_epi32(sums[i], _mm256_add_epi32(even, odd));
      }
    }
    for (int i = 0; i < 2; ++i) {
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + 8 * i), sums[i]);
    }
  }

  // What is the same for all sums of sixteen channels is computed once; `Eight` of them.
  template <bool kOnce>
  struct Scaler {
    struct Eight {
      __m256i multiplier, multiplier_odd, left, right, mask, half;  // rounded twice
      __m256i total, total_odd, nearest, nearest_odd;               // rounded once
    };
    Eight of[2];

    SCALPEL_INLINE Scaler(const int32_t *multipliers, const int32_t *shifts) {
      for (int i = 0; i < 2; ++i) of[i] = Prepared(Load(multipliers + 8 * i), Load(shifts + 8 * i));
    }

    SCALPEL_INLINE void operator()(int32_t (&sums)[kChannels]) const {
      for (int i = 0; i < 2; ++i) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(sums + 8 * i),
                            Scaled(of[i], Load(sums + 8 * i)));
      }
    }

    SCALPEL_INLINE static Eight Prepared(__m256i multiplier, __m256i shift) {
      const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
      Eight made;
      made.multiplier = multiplier;
      made.multiplier_odd = Odd(multiplier);
      if constexpr (kOnce) {
        const __m256i both = _mm256_sub_epi32(_mm256_set1_epi32(31), shift);
        const __m256i wide = _mm256_set1_epi64x(1);
        made.total = _mm256_and_si256(both, _mm256_set1_epi64x(0xFFFFFFFF));
        made.total_odd = Odd(both);
        made.nearest = _mm256_sllv_epi64(wide, _mm256_sub_epi64(made.total, wide));
        made.nearest_odd = _mm256_sllv_epi64(wide, _mm256_sub_epi64(made.total_odd, wide));
      } else {
        made.left = _mm256_max_epi32(shift, zero);
        made.right = _mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
        made.mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, made.right), one);
        made.half = _mm256_srli_epi32(made.mask, 1);
      }
      return made;
    }

    SCALPEL_INLINE static __m256i Scaled(const Eight &a, __m256i sum) {
      if constexpr (kOnce) {
        return Together(Once(sum, a.multiplier, a.nearest, a.total),
                        Once(Odd(sum), a.multiplier_odd, a.nearest_odd, a.total_odd));
      } else {
        const __m256i wide = _mm256_sllv_epi32(sum, a.left);
        const __m256i middle = _mm256_set1_epi64x(INT64_C(1) << 30);
        const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(wide, a.multiplier), middle);
        const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(Odd(wide), a.multiplier_odd), middle);
        const __m256i high = Together(_mm256_srli_epi64(even, 31), _mm256_srli_epi64(odd, 31));
        const __m256i most = _mm256_add_epi32(a.half, _mm256_srli_epi32(high, 31));
        const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(high, a.mask), most);
        return _mm256_sub_epi32(_mm256_srav_epi32(high, a.right), up);
      }
    }
  };

 private:
  SCALPEL_INLINE static __m256i Pair(int8_t a, int8_t b) {
    return _mm256_set1_epi32(static_cast<int32_t>(
        static_cast<uint16_t>(a) | static_cast<uint32_t>(static_cast<uint16_t>(b)) << 16));
  }

  SCALPEL_INLINE static __m256i Load(const int32_t *from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
  }

  // The odd lanes, where the products of 64 bits take them from.
  SCALPEL_INLINE static __m256i Odd(__m256i lanes) { return _mm256_srli_epi64(lanes, 32); }

  SCALPEL_INLINE static __m256i Together(__m256i even, __m256i odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  }

  // (sum * multiplier, to the nearest) >> total, of the even lanes; total is of 64 bits. There is
  // no arithmetic shift of those: what is not negative is shifted, and then moved back.
  SCALPEL_INLINE static __m256i Once(__m256i sum, __m256i multiplier, __m256i nearest,
                                     __m256i total) {
    const __m256i product = _mm256_mul_epi32(sum, multiplier);
    const __m256i less = _mm256_cmpgt_epi64(_mm256_setzero_si256(), product);
    const __m256i rounded = _mm256_add_epi64(product, _mm256_add_epi64(nearest, less));
    const __m256i lowest = _mm256_set1_epi64x(INT64_MIN);
    return _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(rounded, lowest), total),
                            _mm256_srlv_epi64(lowest, total));
  }
};

int Supported() { return __builtin_cpu_supports("avx2"); }

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_int8_kernels scalpel_int8_avx2 = {
    "avx2",
    scalpel::Supported,
    scalpel::Int8Dense<scalpel::Avx2Bytes>,
    scalpel::Int8Planes<scalpel::Avx2Bytes>,
    scalpel::Int8Rows<scalpel::Avx2Bytes>,
    scalpel::PoolOf<scalpel::Largest>,
    scalpel::PoolOf<scalpel::Mean>,
};

#endif  // defined(__x86_64__)
