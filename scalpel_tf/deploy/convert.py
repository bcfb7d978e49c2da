"""Keras 3 -> the bytes of a full-int8 `.tflite`, and TFLite's reference kernels to run it.

Both are the yardstick: an export is right when it equals `run_reference` bit for bit.
"""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.deploy import tflite


def load(model):
    """The bytes of a `.tflite` or the Keras model, of a path; anything else as it is.

    ValueError where there is no such file.
    """
    if not isinstance(model, (str, Path)):
        return model
    path = Path(model)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the path of a .tflite or .keras model.")
    return keras.models.load_model(path) if path.suffix == ".keras" else path.read_bytes()


def convert(model, representative_data) -> bytes:
    """The `.tflite` bytes of a Keras 3 model: int8 weights, activations, inputs and outputs.

    model: Sequential or functional, built, with static shapes but for the batch, which becomes 1.
    representative_data: samples that set the activations' ranges. For one input, an array
    (n, *input shape) or an iterable of samples or batches; for several, a sequence with one such
    array per input, or an iterable of tuples. The same call gives the same bytes.
    Raises ValueError for a model or data that cannot be converted, saying why.
    """
    shapes = _input_shapes(model)
    _require_finite_weights(model)
    samples = _samples(representative_data, shapes)
    data = _converted(model, shapes, samples)
    tflite.require_int8(tflite.read(data))
    return data


def convert_float(model) -> bytes:
    """The `.tflite` bytes of a Keras 3 model in float32, normalisations folded; as `convert`."""
    shapes = _input_shapes(model)
    _require_finite_weights(model)
    return _converted(model, shapes, None)


def run_reference(data: bytes, inputs) -> list[np.ndarray]:
    """What the TFLite reference kernels make of `inputs`: one array (n, *shape) per output.

    inputs: one array (n, *input shape), or a sequence of them, of the model's own types.
    Raises ValueError for a model that `tflite.read` refuses or inputs that do not fit.
    """
    return _interpreted(data, inputs, "BUILTIN_REF")


def run_litert(data: bytes, inputs) -> list[np.ndarray]:
    """What LiteRT makes of `inputs` with the kernels that it takes by default, XNNPACK's in
    float32; arguments and errors as `run_reference`."""
    return _interpreted(data, inputs, "AUTO")


def _interpreted(data, inputs, resolver):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = tflite.read(data)
    arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    _require_inputs(model, arrays)
    interpreter = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType[resolver], num_threads=1
    )
    results = [[] for _ in model.outputs]
    try:
        interpreter.allocate_tensors()
        for sample in range(len(arrays[0])):
            for index, array in zip(model.inputs, arrays, strict=True):
                interpreter.set_tensor(index, array[sample].reshape(model.tensors[index].shape))
            interpreter.invoke()
            for index, result in zip(model.outputs, results, strict=True):
                result.append(interpreter.get_tensor(index))
    except RuntimeError as error:
        raise ValueError(f"TFLite cannot run this model: {_reason(error)}.") from error
    return [
        np.stack(result).reshape(len(result), *_sample_shape(model.tensors[index]))
        for index, result in zip(model.outputs, results, strict=True)
    ]


def _sample_shape(tensor):
    return tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape


def _converted(model, shapes, samples):
    """In int8 with the ranges that the samples show; in float32 where they are None."""
    signature = [
        tf.TensorSpec((1, *shape), tensor.dtype, tensor.name)
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]

    @tf.function(input_signature=signature)
    def serve(*inputs):
        return model(inputs if len(inputs) > 1 else inputs[0], training=False)

    with _quiet():
        try:
            function = serve.get_concrete_function()
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            if samples is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: iter(samples)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
            return converter.convert()
        except Exception as error:
            raise ValueError(f"TFLite cannot convert this model: {_reason(error)}.") from error


def _reason(error):
    """The operators that the converter's diagnostics blame, or their last line."""
    blamed = sorted(set(re.findall(r"'tf\.(\w+)' op", str(error))))
    if blamed:
        return f"it has no int8 kernel for {', '.join(blamed)}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")


def run_tflite_micro(data: bytes, inputs) -> list[np.ndarray]:
    """What TensorFlow Lite Micro makes of `inputs`; arguments and errors as `run_reference`.

    RuntimeError where the wheel tflite-micro is not installed.
    """
    try:
        from tflite_micro import runtime
    except ImportError:
        raise RuntimeError('tflite-micro is missing: `pip install "scalpel_tf[demo]"`.') from None
    model = tflite.read(data)
    arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    _require_inputs(model, arrays)
    interpreter = runtime.Interpreter.from_bytes(data)
    results = [[] for _ in model.outputs]
    for sample in range(len(arrays[0])):
        for position, (index, array) in enumerate(zip(model.inputs, arrays, strict=True)):
            interpreter.set_input(array[sample].reshape(model.tensors[index].shape), position)
        interpreter.invoke()
        for position, result in enumerate(results):
            result.append(np.array(interpreter.get_output(position)))
    return [np.concatenate(result) for result in results]


def _input_shapes(model):
    """The shape of each input of a convertible model, without the batch."""
    if any(base.__module__.split(".")[0] == "tf_keras" for base in type(model).__mro__):
        raise ValueError(
            "This is a tf_keras (Keras 2) model; convert it with tf.lite.TFLiteConverter and "
            "export the .tflite, or build it with Keras 3."
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Keras runs on {keras.backend.backend()}; TensorFlow is needed.")
    if not isinstance(model, keras.Model):
        raise ValueError(f"A Keras model is needed; got {type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError("The Sequential model has no input shape yet; start it with keras.Input.")
    if not hasattr(model, "inputs"):
        raise ValueError(
            f"{type(model).__name__} is a subclassed model; a functional or Sequential is needed."
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    for shape, tensor in zip(shapes, model.inputs, strict=True):
        if None in shape or tensor.dtype != "float32":
            raise ValueError(
                f"Input {tensor.name!r} needs a static float32 shape; got {tensor.dtype} {shape}."
            )
    return shapes


def _require_finite_weights(model):
    for variable in model.variables:
        values = np.asarray(variable)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ValueError(f"The weights {variable.path!r} hold NaN or infinity.")


def _samples(data, shapes):
    """[[one (1, *shape) float32 array per input], ...], one inner list per sample."""
    if not isinstance(data, Iterable):
        raise ValueError(f"The representative data must be samples; got {type(data).__name__}.")
    if len(shapes) == 1:
        columns = [_rows(data, shapes[0])]
    elif _is_column_per_input(data, shapes):
        columns = [_rows(*pair) for pair in zip(data, shapes, strict=True)]
    else:
        items = [tuple(item) for item in data]
        if any(len(item) != len(shapes) for item in items):
            raise ValueError(f"Each representative sample needs {len(shapes)} arrays.")
        columns = [_rows([item[i] for item in items], shape) for i, shape in enumerate(shapes)]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("The inputs have different numbers of representative samples.")
    if not len(columns[0]):
        raise ValueError("The representative data is empty; a few hundred samples are usual.")
    return [[row[None] for row in rows] for rows in zip(*columns, strict=True)]


def _is_column_per_input(data, shapes):
    return (
        isinstance(data, (list, tuple))
        and [column.shape[1:] if hasattr(column, "shape") else None for column in data] == shapes
    )


def _rows(items, shape):
    """(n, *shape) float32 from an iterable of samples or batches."""
    rows = [np.empty((0, *shape), np.float32)]
    for item in items:
        try:
            array = np.asarray(item, np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"A representative sample is not an array: {error}.") from error
        if array.shape != shape and array.shape[1:] != shape:
            raise ValueError(f"A representative sample must have shape {shape}; got {array.shape}.")
        rows.append(array.reshape(-1, *shape))
    rows = np.concatenate(rows)
    if not np.isfinite(rows).all():
        raise ValueError("The representative data holds NaN or infinity.")
    return rows


def _require_inputs(model, arrays):
    if len(arrays) != len(model.inputs):
        raise ValueError(f"The model has {len(model.inputs)} inputs; got {len(arrays)} arrays.")
    for index, array in zip(model.inputs, arrays, strict=True):
        tensor = model.tensors[index]
        expected = _sample_shape(tensor)
        if array.dtype != tensor.dtype or array.ndim < 1 or array.shape[1:] != expected:
            raise ValueError(
                f"Input {tensor.name!r} takes {tensor.dtype} samples of shape {expected}; "
                f"got {array.dtype} of shape {array.shape}."
            )
        if len(array) != len(arrays[0]) or not len(array):
            raise ValueError("Every input needs the same number of samples, at least one.")


@contextlib.contextmanager
def _quiet():
    """Silences what the converter says in Python and, by file descriptor 2, in C++."""
    sys.stderr.flush()
    level, saved = logging.root.manager.disable, os.dup(2)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        logging.disable(level)
