// The TensorFlow ops: names, arguments and shapes, on TensorFlow's C API, so that one library
// serves all versions since 2.16. The kernels are in tf_kernels.cc.
//
// values (groups, width), columns (groups,), offsets (rows + 1,) and scales (rows,) are those of
// scalpel_kernels.h; scales is empty unless values is int8, bias where there is none. C API shape
// functions see no integer attributes: a size that depends on one stays unknown.
#include <memory>
#include <vector>

#include "tensorflow/c/ops.h"
#include "tf_call.h"

namespace scalpel {
namespace {

using Dimension = std::unique_ptr<TF_DimensionHandle, Deleter<TF_DeleteDimensionHandle>>;
using Shape = std::unique_ptr<TF_ShapeHandle, Deleter<TF_DeleteShapeHandle>>;

// What a shape function does with its context. The first failure stays in `status`; what follows it
// computes with unknown shapes, which does no harm.
class Inference {
 public:
  Inference(TF_ShapeInferenceContext *context, TF_Status *status)
      : context_(context), status_(status) {}

  Shape Input(int index, int rank) {
    Shape shape(TF_NewShapeHandle()), ranked(TF_NewShapeHandle());
    if (Ok()) TF_ShapeInferenceContextGetInput(context_, index, shape.get(), status_);
    if (!Ok()) return shape;
    TF_ShapeInferenceContextWithRank(context_, shape.get(), rank, ranked.get(), status_);
    return ranked;
  }

  Shape Part(const Shape &shape, int64_t begin, int64_t end) {
    Shape part(TF_NewShapeHandle());
    if (Ok())
      TF_ShapeInferenceContextSubshape(context_, shape.get(), begin, end, part.get(), status_);
    return part;
  }

  Shape Joined(const Shape &first, const Shape &second) {
    Shape both(TF_NewShapeHandle());
    if (!Ok()) return both;
    TF_ShapeInferenceContextConcatenateShapes(context_, first.get(), second.get(), both.get(),
                                              status_);
    return both;
  }

  // `rank` unknown sizes. A new handle has no rank, and neither has what it is joined to.
  Shape Unknown(int rank) {
    const Shape nothing(TF_NewShapeHandle()), any = Joined(nothing, nothing);
    Shape shape(TF_NewShapeHandle());
    if (Ok()) TF_ShapeInferenceContextWithRank(context_, any.get(), rank, shape.get(), status_);
    return shape;
  }

  // The (rows,) of offsets (rows + 1,).
  Shape Rows(const Shape &offsets) {
    const Dimension count(TF_NewDimensionHandle());
    if (Ok()) TF_ShapeInferenceContextDim(context_, offsets.get(), 0, count.get());
    if (!Ok() || !TF_DimensionHandleValueKnown(count.get())) return Unknown(1);
    const int64_t value = TF_DimensionHandleValue(count.get());
    if (value < 1) {
      TF_SetStatus(status_, TF_INVALID_ARGUMENT,
                   "`offsets` has rows + 1 entries, at least 1; got none.");
      return Unknown(1);
    }
    return Shape(TF_ShapeInferenceContextVectorFromSize(context_, value - 1));
  }

  void Return(const Shape &shape) {
    if (Ok()) TF_ShapeInferenceContextSetOutput(context_, 0, shape.get(), status_);
  }

 private:
  bool Ok() const { return TF_GetCode(status_) == TF_OK; }

  TF_ShapeInferenceContext *context_;
  TF_Status *status_;
};

void ProductShape(Inference infer, int x_rank) {
  const Shape x = infer.Input(0, x_rank), offsets = infer.Input(3, 1);
  infer.Input(1, 2);
  for (int index : {2, 4, 5}) infer.Input(index, 1);
  const Shape batch = infer.Part(x, 0, 1), rows = infer.Rows(offsets);
  const Shape outer = x_rank == 2 ? infer.Part(x, 0, 1) : infer.Joined(batch, infer.Unknown(2));
  infer.Return(infer.Joined(outer, rows));
}

void MatMulShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  ProductShape({context, status}, 2);
}

void Conv2DShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  ProductShape({context, status}, 4);
}

void GradInputsShape(Inference infer, int rank) {
  const Shape batch = infer.Part(infer.Input(0, rank), 0, 1);
  infer.Return(infer.Joined(batch, infer.Unknown(rank - 1)));
}

void MatMulGradInputsShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  GradInputsShape({context, status}, 2);
}

void Conv2DGradInputsShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  GradInputsShape({context, status}, 4);
}

void GradValuesShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  Inference infer(context, status);
  infer.Return(infer.Joined(infer.Input(2, 1), infer.Unknown(1)));
}

void BiasGradShape(TF_ShapeInferenceContext *context, TF_Status *status) {
  Inference infer(context, status);
  const Shape grad(TF_NewShapeHandle()), ranked(TF_NewShapeHandle());
  TF_ShapeInferenceContextGetInput(context, 0, grad.get(), status);
  if (TF_GetCode(status) != TF_OK) return;
  TF_ShapeInferenceContextWithRankAtLeast(context, grad.get(), 1, ranked.get(), status);
  if (TF_GetCode(status) != TF_OK) return;
  if (!TF_ShapeInferenceContextRankKnown(context, ranked.get()))
    return infer.Return(infer.Unknown(1));
  const int64_t rank = TF_ShapeInferenceContextRank(context, ranked.get());
  infer.Return(infer.Part(ranked, rank - 1, rank));
}

using Specs = std::vector<const char *>;

void Define(const char *name, const Specs &inputs, const char *output, const Specs &attributes,
            void (*shape)(TF_ShapeInferenceContext *, TF_Status *)) {
  const Status status;
  TF_OpDefinitionBuilder *builder = TF_NewOpDefinitionBuilder(name);
  for (const char *spec : inputs) TF_OpDefinitionBuilderAddInput(builder, spec);
  TF_OpDefinitionBuilderAddOutput(builder, output);
  for (const char *spec : attributes) TF_OpDefinitionBuilderAddAttr(builder, spec);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, shape);
  TF_RegisterOpDefinition(builder, status);  // takes the builder
}

constexpr char kValueType[] = "T: {float, bfloat16, int8}";
constexpr char kColumnType[] = "C: {uint16, uint32}";
constexpr char kActivation[] = "activation: {'LINEAR', 'RELU', 'RELU6'} = 'LINEAR'";
constexpr char kKernelSize[] = "kernel_size: list(int) >= 2";
constexpr char kStrides[] = "strides: list(int) >= 2";
constexpr char kDilations[] = "dilations: list(int) >= 2";
constexpr char kPadding[] = "padding: {'SAME', 'VALID'}";

__attribute__((constructor)) void RegisterOps() {
  const Specs product = {"x: float",        "values: T",     "columns: C",
                         "offsets: uint32", "scales: float", "bias: float"};
  const Specs grad_values = {"x: float", "grad: float", "columns: C", "offsets: uint32"};

  Define("GroupedCsrMatMul", product, "y: float", {kValueType, kColumnType, kActivation},
         MatMulShape);
  Define("GroupedCsrMatMulGradInputs",
         {"grad: float", "values: T", "columns: C", "offsets: uint32", "scales: float"},
         "x_grad: float", {kValueType, kColumnType, "cols: int"}, MatMulGradInputsShape);
  Define("GroupedCsrMatMulGradValues", grad_values, "values_grad: float",
         {kColumnType, "width: int"}, GradValuesShape);

  Define("GroupedCsrConv2D", product, "y: float",
         {kValueType, kColumnType, kActivation, kKernelSize, kStrides, kDilations, kPadding},
         Conv2DShape);
  Define("GroupedCsrConv2DGradInputs",
         {"grad: float", "values: T", "columns: C", "offsets: uint32", "scales: float",
          "input_shape: int32"},
         "x_grad: float", {kValueType, kColumnType, kKernelSize, kStrides, kDilations, kPadding},
         Conv2DGradInputsShape);
  Define("GroupedCsrConv2DGradValues", grad_values, "values_grad: float",
         {kColumnType, "width: int", kKernelSize, kStrides, kDilations, kPadding}, GradValuesShape);

  Define("GroupedCsrBiasGrad", {"grad: float"}, "bias_grad: float", {}, BiasGradShape);
}

}  // namespace
}  // namespace scalpel
