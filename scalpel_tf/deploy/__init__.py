"""From a plain Keras model or any int8 `.tflite` to code that runs it; never sees a mask.

tflite.py        reads a flatbuffer into a `Model` and refuses what is damaged
int8.py          refuses what is not fully int8, or whose shapes and scales disagree
convert.py       Keras -> int8 bytes, and the TFLite reference kernels that exports must equal
shapes.py        what shape an operator makes of its inputs and constants
quantization.py  real scales -> the integers that the C kernels multiply and shift by
lower.py         operators -> layers: constants and a call of the runtime; its parts by operator are
                 lower_conv.py, depthwise.py, plain_ops.py, elementwise.py, lookup.py, movement.py
memory.py        when every activation and scratch buffer lives; placement.py: where
analyze.py       what every operator costs, and what pruning would gain
baselines.py     the formats of the paper's rivals, and what they cost on the virtual board
export.py        model -> verified C project: lower, plan the memory, emit, build, compare, write
rewrite.py       a flatbuffer in which some operators are custom ones
tflm.py          a model for TensorFlow Lite Micro with the custom operators of skeletons/tflm
verify.py        the C of an export beside TFLite's reference kernels, here and on the board
layouts.py       the project as CMake with a board, as an Arduino library, as a Zephyr module
stack.py         how deep the stack of a program can become
host.py          builds a project, or a program with the kernels of custom_ops, for this machine
board.py         builds a project for a Cortex-M and runs it on the virtual board
runtime/         the C kernels: C99, no allocation, no globals
skeletons/       the files around them, by build system
sparsify.py      Keras -> Keras: the layers that gain become sparse ones, and back
sparse_layers.py those layers
ops.py           the products that they call: TensorFlow ops in C++, differentiable
py_ops.py        the same products in plain TensorFlow, where the C++ ops are not built
op_library.py    builds, finds and loads the library of the C++ ops
kernels.py       the C++ kernels of custom_ops without TensorFlow, called with numpy arrays
"""
