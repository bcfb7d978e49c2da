/* Whole networks behind one call each, product(state), for the loop of repeat.c.
 *
 * scalpel_chain runs convolutions and fully connected layers on a BLAS with 64-bit integers, or on
 * MKL's sparse BLAS, and pools between them in plain C. Images are NHWC float32, batch 1; weights
 * of a dense step are (taps and inputs of a group, out), of a fully connected one (out, inputs).
 * scalpel_onnx is one call of a session of ONNX Runtime, scalpel_native one of a library that
 * `scalpel-tf export --target x86-64` wrote. */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { ROW_MAJOR = 101, COLUMN_MAJOR = 102, PLAIN = 111, TRANSPOSED = 112, PACKED = 151 };
enum { SPARSE_PLAIN = 10 };
enum { DENSE, CONV, MAX_POOL, AVERAGE_POOL, SPARSE_DENSE, SPARSE_CONV };

typedef struct {
  int type, mode, diag;
} description; /* struct matrix_descr of mkl_spblas.h */

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

/* One layer. w: the weights, or MKL's handles, one a group, where kind is SPARSE_.
 * variant: of CONV, whether w holds one packed matrix a group; of DENSE, whether w is transposed.
 */
typedef struct {
  int32_t kind, relu, variant, groups;
  int32_t in_height, in_width, in, out_height, out_width, out;
  int32_t kernel_height, kernel_width, stride_height, stride_width, pad_top, pad_left;
  const void *const *w;
  const float *bias;
  float *y;
} step;

/* columns: room for the largest im2col matrix.  seconds: one sum a step, or NULL. */
typedef struct {
  gemv *gemv;
  gemm *gemm;
  gemm_packed *gemm_packed;
  sparse_mv *sparse_mv;
  sparse_mm *sparse_mm;
  const float *x;
  float *columns;
  double *seconds;
  const step *steps;
  int64_t count;
} chain;

static const description GENERAL = {20, 0, 0};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* (positions, taps * channels) of the channels from `first` on. */
static void im2col(const step *s, const float *x, int first, int channels, float *columns) {
  for (int row = 0; row < s->out_height; row++) {
    for (int column = 0; column < s->out_width; column++) {
      for (int i = 0; i < s->kernel_height; i++) {
        const int from_row = row * s->stride_height - s->pad_top + i;
        for (int j = 0; j < s->kernel_width; j++) {
          const int from = column * s->stride_width - s->pad_left + j;
          const size_t bytes = sizeof(float) * (size_t)channels;
          if (from_row < 0 || from_row >= s->in_height || from < 0 || from >= s->in_width) {
            memset(columns, 0, bytes);
          } else {
            memcpy(columns, x + ((size_t)from_row * s->in_width + from) * s->in + first, bytes);
          }
          columns += channels;
        }
      }
    }
  }
}

static void start_with_bias(const step *s, int64_t positions) {
  for (int64_t p = 0; p < positions; p++) {
    memcpy(s->y + p * s->out, s->bias, sizeof(float) * (size_t)s->out);
  }
}

static void convolve(const chain *c, const step *s, const float *x) {
  const int64_t positions = (int64_t)s->out_height * s->out_width;
  const int in = s->in / s->groups, out = s->out / s->groups;
  const int64_t taps = (int64_t)s->kernel_height * s->kernel_width * in;
  const int as_it_is = taps == s->in && s->stride_height == 1 && s->stride_width == 1;
  start_with_bias(s, positions);
  for (int g = 0; g < s->groups; g++) {
    const float *columns = as_it_is ? x : c->columns;
    float *y = s->y + (size_t)g * out;
    if (!as_it_is) {
      im2col(s, x, g * in, in, c->columns);
    }
    if (s->kind == SPARSE_CONV) {
      c->sparse_mm(SPARSE_PLAIN, 1, (void *)s->w[g], GENERAL, COLUMN_MAJOR, columns, (int)positions,
                   (int)taps, 1, y, s->out);
    } else if (s->variant) {
      c->gemm_packed(ROW_MAJOR, PLAIN, PACKED, positions, out, taps, columns, taps, s->w[g], out, 1,
                     y, s->out);
    } else {
      c->gemm(ROW_MAJOR, PLAIN, PLAIN, positions, out, taps, 1, columns, taps, s->w[g], out, 1, y,
              s->out);
    }
  }
}

static void multiply(const chain *c, const step *s, const float *x) {
  memcpy(s->y, s->bias, sizeof(float) * (size_t)s->out);
  if (s->kind == SPARSE_DENSE) {
    c->sparse_mv(SPARSE_PLAIN, 1, (void *)s->w[0], GENERAL, x, 1, s->y);
  } else if (s->variant) {
    c->gemv(ROW_MAJOR, TRANSPOSED, s->in, s->out, 1, s->w[0], s->out, x, 1, 1, s->y, 1);
  } else {
    c->gemv(ROW_MAJOR, PLAIN, s->out, s->in, 1, s->w[0], s->in, x, 1, 1, s->y, 1);
  }
}

static void pool(const step *s, const float *x) {
  for (int row = 0; row < s->out_height; row++) {
    for (int column = 0; column < s->out_width; column++) {
      float *y = s->y + ((size_t)row * s->out_width + column) * s->out;
      int cells = 0;
      for (int i = 0; i < s->kernel_height; i++) {
        const int from_row = row * s->stride_height - s->pad_top + i;
        for (int j = 0; j < s->kernel_width; j++) {
          const int from = column * s->stride_width - s->pad_left + j;
          if (from_row < 0 || from_row >= s->in_height || from < 0 || from >= s->in_width) {
            continue;
          }
          const float *cell = x + ((size_t)from_row * s->in_width + from) * s->in;
          if (!cells++) {
            memcpy(y, cell, sizeof(float) * (size_t)s->out);
          } else if (s->kind == MAX_POOL) {
            for (int k = 0; k < s->out; k++) {
              y[k] = cell[k] > y[k] ? cell[k] : y[k];
            }
          } else {
            for (int k = 0; k < s->out; k++) {
              y[k] += cell[k];
            }
          }
        }
      }
      if (s->kind == AVERAGE_POOL) {
        for (int k = 0; k < s->out; k++) {
          y[k] /= (float)cells;
        }
      }
    }
  }
}

void scalpel_chain(const chain *c) {
  const float *x = c->x;
  for (int64_t index = 0; index < c->count; index++) {
    const step *s = c->steps + index;
    const double start = c->seconds ? now() : 0;
    if (s->kind == CONV || s->kind == SPARSE_CONV) {
      convolve(c, s, x);
    } else if (s->kind == DENSE || s->kind == SPARSE_DENSE) {
      multiply(c, s, x);
    } else {
      pool(s, x);
    }
    if (s->relu) {
      const int64_t size = (int64_t)s->out_height * s->out_width * s->out;
      for (int64_t k = 0; k < size; k++) {
        s->y[k] = s->y[k] > 0 ? s->y[k] : 0;
      }
    }
    if (c->seconds) {
      c->seconds[index] += now() - start;
    }
    x = s->y;
  }
}

typedef void *onnx_run(void *session, const void *options, const char *const *names,
                       const void *const *inputs, size_t input_count,
                       const char *const *output_names, size_t output_count, void **outputs);

/* OrtApi::Run of one input and one output, both in memory of the caller; status is of the last. */
typedef struct {
  onnx_run *run;
  void *session, *input, *output, *status;
  const char *input_name, *output_name;
} onnx_call;

void scalpel_onnx(onnx_call *c) {
  const char *const names[] = {c->input_name}, *const output_names[] = {c->output_name};
  const void *const inputs[] = {c->input};
  void *outputs[] = {c->output};
  c->status = c->run(c->session, NULL, names, inputs, 1, output_names, 1, outputs);
}

typedef void invoke(const float *input, float *output, void *arena);

typedef struct {
  invoke *invoke;
  const float *input;
  float *output;
  void *arena;
} native_call;

void scalpel_native(const native_call *c) { c->invoke(c->input, c->output, c->arena); }
