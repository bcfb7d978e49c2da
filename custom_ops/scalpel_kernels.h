/* Matrices in grouped CSR times dense activations, on this machine's CPU. Plain C ABI.
 *
 * Grouped CSR (Yu et al., Scalpel, ISCA 2017, section 4: A', JA', IA'), `rows` x `cols`:
 *   values   (groups, width)  float32, bfloat16 or int8; row-major
 *   columns  (groups,)        uint16, or uint32 where column_bytes is 4: first input of the group
 *   offsets  (rows + 1,)      row r owns groups offsets[r] : offsets[r + 1]
 *   scales   (rows,)          int8 only: weight = value * scales[row]
 * Within a row columns ascend, and a group ends within its row, unless the whole row is shorter
 * than a group: then its column is 0 and the lanes past the row are never used.
 *
 * Activations are float32 and sums are float32. Nothing is read past x or written past y. The same
 * arguments give the same bits, whatever the number of threads and whoever else is calling.
 *
 * The functions that compute return SCALPEL_OK or SCALPEL_OUT_OF_MEMORY. They trust their
 * arguments; scalpel_gcsr_check and scalpel_conv2d_check are for those who do not.
 */
#ifndef SCALPEL_KERNELS_H_
#define SCALPEL_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SCALPEL_FLOAT32 = 0, SCALPEL_BFLOAT16 = 1, SCALPEL_INT8 = 2 }; /* value_type */
enum { SCALPEL_LINEAR = 0, SCALPEL_RELU = 1, SCALPEL_RELU6 = 2 };     /* activation */
enum { SCALPEL_OK = 0, SCALPEL_INVALID = 1, SCALPEL_OUT_OF_MEMORY = 2 };

typedef struct scalpel_gcsr {
  const void *values;
  const void *columns;
  const uint32_t *offsets;
  const float *scales; /* NULL unless value_type is SCALPEL_INT8 */
  int64_t rows;
  int64_t cols;
  int32_t value_type;
  int32_t width;        /* 2, 4, 8 or 16 */
  int32_t column_bytes; /* 2 or 4 */
} scalpel_gcsr;

/* A convolution of NHWC images with a (rows, kernel_height * kernel_width * channels) matrix, whose
 * rows run in the order (kernel_height, kernel_width, channels). Taps outside the image are 0. */
typedef struct scalpel_conv2d {
  int64_t batch, in_height, in_width, channels;
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left;
} scalpel_conv2d;

/* SCALPEL_OK, or SCALPEL_INVALID and one sentence in message[0 : size], when these arrays are not
 * grouped CSR. groups: length of columns and of the first axis of values. offset_count: length of
 * offsets. Sizes that were given are believed; what the arrays hold is not. */
int scalpel_gcsr_check(const scalpel_gcsr *w, int64_t groups, int64_t offset_count, char *message,
                       size_t size);

/* The same for a convolution: sizes of at least 1 (batch: 0) whose products fit 2^40, and cols that
 * is kernel_height * kernel_width * channels. */
int scalpel_conv2d_check(const scalpel_gcsr *w, const scalpel_conv2d *conv, char *message,
                         size_t size);

/* y = activation(x W^T + bias): x (n, cols), y (n, rows), both row-major. bias (rows,) or NULL. */
int scalpel_gcsr_matmul(const scalpel_gcsr *w, int64_t n, const float *x, const float *bias,
                        int activation, float *y);

/* y = activation(W x + bias): x (cols, n), y (rows, n), both row-major. */
int scalpel_gcsr_matmul_columns(const scalpel_gcsr *w, int64_t n, const float *x, const float *bias,
                                int activation, float *y);

/* x (batch, in_height, in_width, channels), y (batch, out_height, out_width, rows). */
int scalpel_gcsr_conv2d(const scalpel_gcsr *w, const scalpel_conv2d *conv, const float *x,
                        const float *bias, int activation, float *y);

/* Gradients of a linear product: dx (n, cols), dvalues float32 (groups, width), dbias (rows,) from
 * dy (n, rows). grad_values does not read w->values or w->scales. */
int scalpel_gcsr_matmul_grad_inputs(const scalpel_gcsr *w, int64_t n, const float *dy, float *dx);
int scalpel_gcsr_matmul_grad_values(const scalpel_gcsr *w, int64_t n, const float *x,
                                    const float *dy, float *dvalues);
int scalpel_gcsr_conv2d_grad_inputs(const scalpel_gcsr *w, const scalpel_conv2d *conv,
                                    const float *dy, float *dx);
int scalpel_gcsr_conv2d_grad_values(const scalpel_gcsr *w, const scalpel_conv2d *conv,
                                    const float *x, const float *dy, float *dvalues);
int scalpel_bias_grad(int64_t rows, int64_t n, const float *dy, float *dbias);

/* The instruction sets that were built in and that this machine has, best first; NULL past the end.
 * scalpel_use_isa chooses one for all later calls (SCALPEL_INVALID where it is not among them);
 * the best is chosen until then. */
const char *scalpel_isa_name(int index);
const char *scalpel_isa(void);
int scalpel_use_isa(const char *name);

/* Threads that one call may use, its caller among them; at first, the processors that this process
 * may run on. A call that finds the others busy computes alone. */
int scalpel_threads(void);
void scalpel_set_threads(int threads);

#ifdef __cplusplus
}
#endif
#endif /* SCALPEL_KERNELS_H_ */
