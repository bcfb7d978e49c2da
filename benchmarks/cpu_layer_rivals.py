"""A whole layer, with bias and ReLU: this package's two ways to run it, and other runtimes' own.

Each is a function (layer, threads, ...) -> Alternative; it raises ImportError or RuntimeError with
the reason where it cannot take part.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
from cpu_layer import Layer
from cpu_libraries import tensorflow
from cpu_ours import at_cache_lines, convolve
from paired import Alternative, aligned, in_c, in_python, keeping

from scalpel_tf.deploy import kernels as scalpel


def c_abi(layer: Layer, threads: int, kernels: scalpel.Kernels) -> Alternative:
    """The kernels without TensorFlow."""
    name = "ours, C ABI"
    if layer.shape.kernel_size:
        arguments = (kernels, layer.sparse, layer.x, layer.bias)
        return convolve(*arguments, threads=threads, name=name, **layer.shape.geometry)
    sparse, x = at_cache_lines(layer.sparse), aligned(layer.x)
    w, y = scalpel.matrix(sparse), aligned(np.empty((len(x), layer.shape.units), np.float32))
    function, relu = kernels.library.scalpel_gcsr_matmul, ctypes.c_int(1)
    arguments = (function, ctypes.byref(w), len(x), x, layer.bias, relu, y)
    return keeping(in_c(name, threads, kernels.set_threads, "matmul", *arguments, y=y), w, sparse)


def sparse_keras(layer: Layer, threads: int) -> Alternative:
    """GroupedCSRDense or GroupedCSRConv2D in tf.function, on the C++ op."""
    tensorflow(threads)
    from scalpel_tf.deploy import ops, sparse_layers

    if not ops.available():
        raise RuntimeError(f"the TensorFlow op is missing: {ops.why_not()}")
    arguments = (layer.shape.units, layer.width, len(layer.sparse.values))
    if layer.shape.kernel_size:
        arguments = (layer.shape.units, layer.shape.kernel_size, *arguments[1:])
        options = {"strides": layer.shape.strides, "padding": layer.shape.padding}
        keras_layer = sparse_layers.GroupedCSRConv2D(*arguments, activation="relu", **options)
    else:
        keras_layer = sparse_layers.GroupedCSRDense(*arguments, activation="relu")
    keras_layer.build(layer.x.shape)
    keras_layer.assign_kernel(layer.sparse)
    keras_layer.bias.assign(layer.bias)
    return _function("ours, Keras", keras_layer, layer.x, threads)


def keras_layer(layer: Layer, threads: int) -> Alternative:
    """TensorFlow's own Dense or Conv2D in tf.function."""
    return _function("TensorFlow", _dense_keras(layer, threads), layer.x, threads)


def _dense_keras(layer, threads):
    tensorflow(threads)
    import keras

    if layer.shape.kernel_size:
        geometry = layer.shape.geometry
        dense = keras.layers.Conv2D(layer.shape.units, activation="relu", **geometry)
    else:
        dense = keras.layers.Dense(layer.shape.units, activation="relu")
    dense.build(layer.x.shape)
    dense.set_weights([layer.kernel, layer.bias])
    return dense


def _function(name, keras_layer, x, threads):
    tf = tensorflow(threads)
    x = tf.constant(x)
    return in_python(name, threads, tf.function(lambda: keras_layer(x), autograph=False))


def litert(layer: Layer, threads: int, models: Path) -> Alternative:
    """LiteRT, whose float32 layers are XNNPACK's. Its converter takes half a minute for a large
    layer, so that a folder keeps what it made."""
    from ai_edge_litert.interpreter import Interpreter

    model = models / f"{layer.shape.network} {layer.shape.name}.tflite"
    if not model.exists():
        tf, dense = tensorflow(threads), _dense_keras(layer, threads)
        inputs = [tf.TensorSpec((1, *layer.shape.input))]
        call = tf.function(lambda x: dense(x), input_signature=inputs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()])
        model.write_bytes(converter.convert())
    interpreter = Interpreter(str(model), num_threads=threads)
    place = interpreter.get_input_details()[0]["index"]
    if len(layer.x) > 1:
        interpreter.resize_tensor_input(place, layer.x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, layer.x)
    output = interpreter.get_output_details()[0]["index"]

    def result(_):
        return interpreter.get_tensor(output)

    return in_python("LiteRT", threads, interpreter.invoke, result)


def onnx_runtime(layer: Layer, threads: int) -> Alternative:
    """ONNX Runtime on its own layout of images, NCHW, with inputs and outputs bound beforehand."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        _onnx(layer).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    is_conv = bool(layer.shape.kernel_size)
    x = np.ascontiguousarray(layer.x.transpose(0, 3, 1, 2) if is_conv else layer.x)
    binding = session.io_binding()
    bound = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input("x", bound)
    binding.bind_output("y")

    def result(_):
        y = binding.copy_outputs_to_cpu()[0]
        return y.transpose(0, 2, 3, 1) if is_conv else y

    alternative = in_python(
        "ONNX Runtime", threads, lambda: session.run_with_iobinding(binding), result
    )
    return keeping(alternative, bound)


def _onnx(layer):
    from onnx import TensorProto, helper, numpy_helper

    kernel, shape = layer.kernel, layer.x.shape
    if layer.shape.kernel_size:
        conv, (kh, kw) = layer.conv, layer.shape.kernel_size
        kernel, shape = kernel.transpose(3, 2, 0, 1), (shape[0], shape[3], shape[1], shape[2])
        below = (conv.out_height - 1) * conv.stride_height + kh - conv.in_height - conv.pad_top
        right = (conv.out_width - 1) * conv.stride_width + kw - conv.in_width - conv.pad_left
        pads = [conv.pad_top, conv.pad_left, max(below, 0), max(right, 0)]
        strides = list(layer.shape.strides)
        product = helper.make_node("Conv", ["x", "w", "b"], ["s"], pads=pads, strides=strides)
    else:
        product = helper.make_node("Gemm", ["x", "w", "b"], ["s"])
    constants = {"w": np.ascontiguousarray(kernel), "b": layer.bias}
    graph = helper.make_graph(
        [product, helper.make_node("Relu", ["s"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
