/* Calls in a loop, timed here, so that no figure holds the overhead of Python or ctypes.
 *
 * repeat_<kind>(function, its arguments ..., repetitions) returns the seconds of all repetitions.
 * Sizes and leading dimensions are in elements; matrices are row-major float32. The functions are
 * those of the kernel library, of CBLAS with 64-bit integers, and of MKL's sparse BLAS. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

enum { ROW_MAJOR = 101, PLAIN = 111, PACKED = 151, SPARSE_PLAIN = 10 };

typedef struct {
  int type, mode, diag;
} description; /* struct matrix_descr of mkl_spblas.h */

typedef int matmul(const void *w, int64_t n, const float *x, const float *bias, int activation,
                   float *y);
typedef int conv2d(const void *w, const void *conv, const float *x, const float *bias,
                   int activation, float *y);
typedef void gemv(int order, int trans, int64_t m, int64_t n, float alpha, const float *a,
                  int64_t lda, const float *x, int64_t step_x, float beta, float *y,
                  int64_t step_y);
typedef void gemm(int order, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                  int64_t ldc);
typedef void gemm_packed(int order, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                         const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                         float *c, int64_t ldc);
typedef int sparse_mv(int trans, float alpha, void *a, description d, const float *x, float beta,
                      float *y);
typedef int sparse_mm(int trans, float alpha, void *a, description d, int layout, const float *x,
                      int columns, int ldx, float beta, float *y, int ldy);
typedef void product(void *state);

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define REPEAT(call)                          \
  const double start = now();                 \
  for (int64_t i = 0; i < repetitions; i++) { \
    call;                                     \
  }                                           \
  return now() - start

double repeat_matmul(matmul *f, const void *w, int64_t n, const float *x, const float *bias,
                     int activation, float *y, int64_t repetitions) {
  REPEAT(f(w, n, x, bias, activation, y));
}

double repeat_conv2d(conv2d *f, const void *w, const void *conv, const float *x, const float *bias,
                     int activation, float *y, int64_t repetitions) {
  REPEAT(f(w, conv, x, bias, activation, y));
}

double repeat_gemv(gemv *f, int trans, int64_t m, int64_t n, const float *a, const float *x,
                   float *y, int64_t repetitions) {
  REPEAT(f(ROW_MAJOR, trans, m, n, 1, a, n, x, 1, 0, y, 1));
}

double repeat_gemm(gemm *f, int trans_b, int64_t m, int64_t n, int64_t k, const float *a,
                   const float *b, int64_t ldb, float *c, int64_t repetitions) {
  REPEAT(f(ROW_MAJOR, PLAIN, trans_b, m, n, k, 1, a, k, b, ldb, 0, c, n));
}

/* a was packed by cblas_sgemm_pack. */
double repeat_gemm_packed(gemm_packed *f, int64_t m, int64_t n, int64_t k, const float *a,
                          const float *b, float *c, int64_t repetitions) {
  REPEAT(f(ROW_MAJOR, PACKED, PLAIN, m, n, k, a, k, b, n, 0, c, n));
}

double repeat_sparse_mv(sparse_mv *f, void *a, description d, const float *x, float *y,
                        int64_t repetitions) {
  REPEAT(f(SPARSE_PLAIN, 1, a, d, x, 0, y));
}

double repeat_sparse_mm(sparse_mm *f, void *a, description d, int layout, const float *x,
                        int columns, int ldx, float *y, int ldy, int64_t repetitions) {
  REPEAT(f(SPARSE_PLAIN, 1, a, d, layout, x, columns, ldx, 0, y, ldy));
}

double repeat_product(product *f, void *state, int64_t repetitions) { REPEAT(f(state)); }

/* Reads data[0 : words] with loads and adds that the compiler makes as wide as the machine's. */
double repeat_read(const uint64_t *data, int64_t words, int64_t repetitions) {
  enum { LANES = 64 };
  static volatile uint64_t sink;
  const double start = now();
  for (int64_t i = 0; i < repetitions; i++) {
    uint64_t sums[LANES] = {0};
    for (int64_t word = 0; word + LANES <= words; word += LANES) {
      for (int lane = 0; lane < LANES; lane++) {
        sums[lane] += data[word + lane];
      }
    }
    for (int lane = 0; lane < LANES; lane++) {
      sink += sums[lane];
    }
  }
  return now() - start;
}
