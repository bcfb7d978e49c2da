// Computes the ops of tf_ops.cc: takes the tensors, refuses what a kernel must not see with one
// sentence, allocates the output and calls scalpel_kernels.h.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "scalpel_kernels.h"
#include "tf_call.h"

namespace scalpel {
namespace {

// The attributes of all ops; those that an op does not have keep these values.
struct Attributes {
  int64_t cols = 0, width = 0;
  std::array<int64_t, 2> kernel_size = {}, strides = {}, dilations = {};
  int activation = SCALPEL_LINEAR;
  bool same = false;
};

void Check(int result) {
  if (result == SCALPEL_OK) return;
  throw Refusal{TF_RESOURCE_EXHAUSTED,
                "There is no memory left for the panels of a grouped CSR op."};
}

int64_t Rows(const Tensor &offsets) {
  offsets.CheckRank(1, "(rows + 1,)");
  if (offsets.sizes[0] < 1) Refuse("`offsets` has rows + 1 entries, at least 1; got none.");
  return offsets.sizes[0] - 1;
}

void CheckGroups(const scalpel_gcsr &w, const Tensor &columns, const Tensor &offsets) {
  char sentence[256];
  const int64_t groups = columns.sizes[0], offset_count = offsets.sizes[0];
  const int result = scalpel_gcsr_check(&w, groups, offset_count, sentence, sizeof sentence);
  if (result != SCALPEL_OK) Refuse("%s", sentence);
}

// A matrix without its values, as the gradients for values take it.
scalpel_gcsr Pattern(const Tensor &columns, const Tensor &offsets, int64_t cols, int64_t width) {
  columns.CheckRank(1, "(groups,)");
  if (width != 2 && width != 4 && width != 8 && width != 16) {
    Refuse("Groups hold 2, 4, 8 or 16 values; got a width of %lld.", static_cast<long long>(width));
  }
  scalpel_gcsr w = {};
  w.columns = columns.data<void>();
  w.offsets = offsets.data<uint32_t>();
  w.rows = Rows(offsets);
  w.cols = cols;
  w.value_type = SCALPEL_FLOAT32;
  w.width = static_cast<int32_t>(width);
  w.column_bytes = columns.type == TF_UINT16 ? 2 : 4;
  CheckGroups(w, columns, offsets);
  return w;
}

scalpel_gcsr Matrix(const Tensor &values, const Tensor &columns, const Tensor &offsets,
                    const Tensor &scales, int64_t cols) {
  values.CheckRank(2, "(groups, width)");
  scalpel_gcsr w = Pattern(columns, offsets, cols, values.sizes[1]);
  columns.CheckSizes({values.sizes[0]});
  w.values = values.data<void>();
  if (values.type == TF_BFLOAT16) w.value_type = SCALPEL_BFLOAT16;
  if (values.type == TF_INT8) w.value_type = SCALPEL_INT8;
  scales.CheckSizes({values.type == TF_INT8 ? w.rows : 0});
  if (values.type == TF_INT8) w.scales = scales.data<float>();
  return w;
}

// How many places one axis has for the kernel, and how far the first lies outside the image.
void PlaceAxis(const Attributes &a, int axis, int64_t size, int64_t *count, int64_t *before) {
  const int64_t span = (a.kernel_size[axis] - 1) * a.dilations[axis] + 1, stride = a.strides[axis];
  *before = 0;
  if (!a.same) {
    *count = size < span ? 0 : (size - span) / stride + 1;
  } else {
    *count = size / stride + (size % stride != 0);
    if (*count > 0) *before = std::max<int64_t>((*count - 1) * stride + span - size, 0) / 2;
  }
}

scalpel_conv2d Conv2D(const Attributes &a, const Sizes &image, int64_t rows) {
  scalpel_conv2d conv = {};
  for (int axis = 0; axis < 4; ++axis) {
    if (image[axis] >= 0 && image[axis] <= int64_t{1} << 40) continue;
    Refuse("Images have sizes in [0, 2^40]; got %s.", Text(image).c_str());
  }
  conv.batch = image[0];
  conv.in_height = image[1];
  conv.in_width = image[2];
  conv.channels = image[3];
  conv.kernel_height = a.kernel_size[0];
  conv.kernel_width = a.kernel_size[1];
  conv.stride_height = a.strides[0];
  conv.stride_width = a.strides[1];
  conv.dilation_height = a.dilations[0];
  conv.dilation_width = a.dilations[1];
  PlaceAxis(a, 0, conv.in_height, &conv.out_height, &conv.pad_top);
  PlaceAxis(a, 1, conv.in_width, &conv.out_width, &conv.pad_left);

  scalpel_gcsr w = {};
  w.rows = rows;
  w.cols = Product({conv.kernel_height, conv.kernel_width, conv.channels}, 1);
  char sentence[256];
  if (scalpel_conv2d_check(&w, &conv, sentence, sizeof sentence) != SCALPEL_OK) {
    Refuse("%s", sentence);
  }
  return conv;
}

int64_t Columns(const scalpel_conv2d &conv) {
  return conv.kernel_height * conv.kernel_width * conv.channels;
}

// The vector, or null where it is empty: there is no bias.
const float *Bias(const Tensor &bias, int64_t rows) {
  bias.CheckRank(1, "(rows,), or (0,) for none");
  if (bias.sizes[0] == 0) return nullptr;
  bias.CheckSizes({rows});
  return bias.data<float>();
}

void MatMul(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor x(context, 0, "x"), values(context, 1, "values"), columns(context, 2, "columns"),
      offsets(context, 3, "offsets"), scales(context, 4, "scales"), bias(context, 5, "bias");
  x.CheckRank(2, "(samples, cols)");
  const scalpel_gcsr w = Matrix(values, columns, offsets, scales, x.sizes[1]);
  const float *b = Bias(bias, w.rows);
  const Output y(context, {x.sizes[0], w.rows});
  Check(scalpel_gcsr_matmul(&w, x.sizes[0], x.data<float>(), b, a.activation, y));
}

void MatMulGradInputs(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor grad(context, 0, "grad"), values(context, 1, "values"),
      columns(context, 2, "columns"), offsets(context, 3, "offsets"), scales(context, 4, "scales");
  grad.CheckRank(2, "(samples, rows)");
  const scalpel_gcsr w = Matrix(values, columns, offsets, scales, a.cols);
  grad.CheckSizes({grad.sizes[0], w.rows});
  const Output dx(context, {grad.sizes[0], w.cols});
  Check(scalpel_gcsr_matmul_grad_inputs(&w, grad.sizes[0], grad.data<float>(), dx));
}

void MatMulGradValues(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor x(context, 0, "x"), grad(context, 1, "grad"), columns(context, 2, "columns"),
      offsets(context, 3, "offsets");
  x.CheckRank(2, "(samples, cols)");
  const scalpel_gcsr w = Pattern(columns, offsets, x.sizes[1], a.width);
  grad.CheckSizes({x.sizes[0], w.rows});
  const Output dvalues(context, {columns.sizes[0], w.width});
  Check(scalpel_gcsr_matmul_grad_values(&w, x.sizes[0], x.data<float>(), grad.data<float>(),
                                        dvalues));
}

void Convolve(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor x(context, 0, "x"), values(context, 1, "values"), columns(context, 2, "columns"),
      offsets(context, 3, "offsets"), scales(context, 4, "scales"), bias(context, 5, "bias");
  x.CheckRank(4, "(batch, height, width, channels)");
  const scalpel_conv2d conv = Conv2D(a, x.sizes, Rows(offsets));
  const scalpel_gcsr w = Matrix(values, columns, offsets, scales, Columns(conv));
  const float *b = Bias(bias, w.rows);
  const Output y(context, {conv.batch, conv.out_height, conv.out_width, w.rows});
  Check(scalpel_gcsr_conv2d(&w, &conv, x.data<float>(), b, a.activation, y));
}

void Conv2DGradInputs(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor grad(context, 0, "grad"), values(context, 1, "values"),
      columns(context, 2, "columns"), offsets(context, 3, "offsets"), scales(context, 4, "scales"),
      input_shape(context, 5, "input_shape");
  input_shape.CheckSizes({4});
  const int32_t *image = input_shape.data<int32_t>();
  const scalpel_conv2d conv = Conv2D(a, {image, image + 4}, Rows(offsets));
  const scalpel_gcsr w = Matrix(values, columns, offsets, scales, Columns(conv));
  grad.CheckSizes({conv.batch, conv.out_height, conv.out_width, w.rows});
  const Output dx(context, {conv.batch, conv.in_height, conv.in_width, conv.channels});
  Check(scalpel_gcsr_conv2d_grad_inputs(&w, &conv, grad.data<float>(), dx));
}

void Conv2DGradValues(const Attributes &a, TF_OpKernelContext *context) {
  const Tensor x(context, 0, "x"), grad(context, 1, "grad"), columns(context, 2, "columns"),
      offsets(context, 3, "offsets");
  x.CheckRank(4, "(batch, height, width, channels)");
  const scalpel_conv2d conv = Conv2D(a, x.sizes, Rows(offsets));
  const scalpel_gcsr w = Pattern(columns, offsets, Columns(conv), a.width);
  grad.CheckSizes({conv.batch, conv.out_height, conv.out_width, w.rows});
  const Output dvalues(context, {columns.sizes[0], w.width});
  Check(scalpel_gcsr_conv2d_grad_values(&w, &conv, x.data<float>(), grad.data<float>(), dvalues));
}

void BiasGrad(const Attributes &, TF_OpKernelContext *context) {
  const Tensor grad(context, 0, "grad");
  if (grad.sizes.empty()) Refuse("`grad` has the shape (..., rows); got a scalar.");
  const int64_t rows = grad.sizes.back();
  const int64_t n = Product({grad.sizes.begin(), grad.sizes.end() - 1}, 1);
  const Output dbias(context, {rows});
  Check(scalpel_bias_grad(rows, n, grad.data<float>(), dbias));
}

void *Create(TF_OpKernelConstruction *construction) {
  auto attributes = std::make_unique<Attributes>();
  Report(
      [&] {
        AttributeReader reader(construction);
        reader.Read("cols", &attributes->cols);
        reader.Read("width", &attributes->width);
        reader.Read("kernel_size", &attributes->kernel_size);
        reader.Read("strides", &attributes->strides);
        reader.Read("dilations", &attributes->dilations);
        const std::string activation = reader.Word("activation");
        if (activation == "RELU") attributes->activation = SCALPEL_RELU;
        if (activation == "RELU6") attributes->activation = SCALPEL_RELU6;
        attributes->same = reader.Word("padding") == "SAME";
      },
      [&](TF_Status *status) { TF_OpKernelConstruction_Failure(construction, status); });
  return attributes.release();
}

void Delete(void *attributes) { delete static_cast<Attributes *>(attributes); }

template <void (*kBody)(const Attributes &, TF_OpKernelContext *)>
void Compute(void *attributes, TF_OpKernelContext *context) {
  Report([&] { kBody(*static_cast<const Attributes *>(attributes), context); },
         [&](TF_Status *status) { TF_OpKernelContext_Failure(context, status); });
}

template <void (*kBody)(const Attributes &, TF_OpKernelContext *)>
void Register(const char *op) {
  // Two kernels of the same priority would make the op unusable. A copy of this library that lies
  // elsewhere in memory has another one.
  static const char here = 0;
  const auto priority = static_cast<int32_t>(reinterpret_cast<uintptr_t>(&here) >> 12 & INT32_MAX);
  const Status status;
  TF_KernelBuilder *builder = TF_NewKernelBuilder(op, "CPU", Create, Compute<kBody>, Delete);
  TF_KernelBuilder_Priority(builder, priority);
  TF_RegisterKernelBuilder(op, builder, status);  // takes the builder
}

__attribute__((constructor)) void RegisterKernels() {
  Register<MatMul>("GroupedCsrMatMul");
  Register<MatMulGradInputs>("GroupedCsrMatMulGradInputs");
  Register<MatMulGradValues>("GroupedCsrMatMulGradValues");
  Register<Convolve>("GroupedCsrConv2D");
  Register<Conv2DGradInputs>("GroupedCsrConv2DGradInputs");
  Register<Conv2DGradValues>("GroupedCsrConv2DGradValues");
  Register<BiasGrad>("GroupedCsrBiasGrad");
}

}  // namespace
}  // namespace scalpel
