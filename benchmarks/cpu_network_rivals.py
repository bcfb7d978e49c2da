"""Other runtimes' ways to run a whole Keras network, batch 1 and one thread.

Each is a function (model, x, folder) -> Alternative; it raises ImportError, OSError or RuntimeError
with the reason where it cannot take part. `bound` ways are the cheapest call that a runtime offers:
the input is where the runtime wants it, the output stays where the runtime leaves it. ONNX Runtime
and MKL run in C there; TensorFlow and LiteRT are called from Python, which for LiteRT's invoke is
an empty pybind11 method. `arrays` ways take a numpy array and give one, which is what Python pays.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.metadata import files
from pathlib import Path

import cpu_network_mkl
import keras
import numpy as np
from cpu_libraries import mkl, tensorflow
from cpu_rivals import quickest
from paired import Alternative, aligned, in_c, in_python, keeping

# Positions in OrtApi, the table of functions, which only ever grows at its end.
ORT = {
    "CreateEnv": 3,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "SetSessionGraphOptimizationLevel": 23,
    "SetIntraOpNumThreads": 24,
    "SetInterOpNumThreads": 25,
    "CreateTensorWithDataAsOrtValue": 49,
    "CreateCpuMemoryInfo": 69,
}
ORT_API, ORT_WARNING, ORT_ALL, ORT_FLOAT = 17, 2, 99, 1


def tensorflow_bound(model, x, folder: Path) -> Alternative:
    """The concrete function, as TensorFlow compiles it and by XLA: the faster."""
    tf = tensorflow(1)
    given = tf.constant(x)
    calls = [lambda f=f: f(given) for f in _functions(model, x)]
    return quickest([in_python("TensorFlow", 1, call) for call in calls])


def tensorflow_arrays(model, x, folder: Path) -> Alternative:
    tf = tensorflow(1)
    calls = [lambda f=f: f(tf.constant(x)).numpy() for f in _functions(model, x)]
    return quickest([in_python("TensorFlow", 1, call) for call in calls])


def _functions(model, x):
    tf = tensorflow(1)
    signature = [tf.TensorSpec(x.shape)]
    for jit in (False, True):
        function = tf.function(
            lambda x: model(x, training=False), input_signature=signature, jit_compile=jit
        )
        yield function.get_concrete_function()


def litert_bound(model, x, folder: Path) -> Alternative:
    interpreter, given, made = _litert(model, folder)
    interpreter.set_tensor(given, x)
    return in_python("LiteRT", 1, interpreter.invoke, lambda _: interpreter.get_tensor(made))


def litert_arrays(model, x, folder: Path) -> Alternative:
    interpreter, given, made = _litert(model, folder)

    def call():
        interpreter.set_tensor(given, x)
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return in_python("LiteRT", 1, call)


def _litert(model, folder):
    """LiteRT, whose float32 layers are XNNPACK's; its converter takes minutes for AlexNet, so that
    `folder` keeps what it made within a run."""
    from ai_edge_litert.interpreter import Interpreter

    path = folder / f"{model.name}.tflite"
    if not path.exists():
        tf = tensorflow(1)
        signature = [tf.TensorSpec((1, *model.input_shape[1:]))]
        call = tf.function(lambda x: model(x, training=False), input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()])
        path.write_bytes(converter.convert())
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    places = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    return interpreter, *(place["index"] for place in places)


def onnx_arrays(model, x, folder: Path) -> Alternative:
    import onnx_network
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        onnx_network.from_keras(model), options, providers=["CPUExecutionProvider"]
    )
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return in_python("ONNX Runtime", 1, lambda: session.run(None, {"x": given}), lambda y: y[0])


class OnnxCall(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("run", "session", "input", "output", "status")),
        *((name, ctypes.c_char_p) for name in ("input_name", "output_name")),
    ]


def onnx_bound(model, x, folder: Path) -> Alternative:
    """Its C API, in a loop in C, on memory that is bound once."""
    import onnx_network

    return onnx_session(onnx_network.from_keras(model), model, x)


def onnx_session(data: bytes, model, x) -> Alternative:
    """`onnx_bound` of the bytes of an ONNX model in the place of the Keras one."""
    session, memory, options = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    _ort("CreateSessionOptions", ctypes.byref(options))
    _ort("SetSessionGraphOptimizationLevel", options, ctypes.c_int(ORT_ALL))
    _ort("SetIntraOpNumThreads", options, ctypes.c_int(1))
    _ort("SetInterOpNumThreads", options, ctypes.c_int(1))
    size = ctypes.c_size_t(len(data))
    _ort("CreateSessionFromArray", _environment(), data, size, options, ctypes.byref(session))
    _ort("CreateCpuMemoryInfo", ctypes.c_int(0), ctypes.c_int(0), ctypes.byref(memory))
    given = aligned(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    y = aligned(np.empty((1, model.output_shape[-1]), np.float32))
    values = []
    for array in (given, y):
        value, sizes = ctypes.c_void_p(), (ctypes.c_int64 * array.ndim)(*array.shape)
        place = (memory, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))
        kind = (ctypes.c_size_t(array.ndim), ctypes.c_int(ORT_FLOAT), ctypes.byref(value))
        _ort("CreateTensorWithDataAsOrtValue", *place, sizes, *kind)
        values.append(value)
    call = OnnxCall(_api()[ORT["Run"]], session, *values, None, b"x", b"y")
    function = cpu_network_mkl.library().scalpel_onnx
    function(ctypes.byref(call))
    if call.status:
        raise RuntimeError(f"ONNX Runtime refused the call: {_message(call.status)}")
    made = in_c("ONNX Runtime", 1, lambda n: None, "product", function, ctypes.byref(call), y=y)
    return keeping(made, call, given)


@lru_cache
def _api():
    """The functions of ONNX Runtime's C API by position."""
    found = [file for file in files("onnxruntime") if file.name.startswith("libonnxruntime.so")]
    if not found:
        raise OSError("this wheel of ONNX Runtime has no C library")
    library = ctypes.CDLL(str(found[0].locate()))
    library.OrtGetApiBase.restype = ctypes.POINTER(ctypes.c_void_p)
    get = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint32)
    table = get(library.OrtGetApiBase()[0])(ORT_API)
    if not table:
        raise OSError(f"this ONNX Runtime has no version {ORT_API} of its C API")
    return table


def _ort(name, *arguments):
    status = ctypes.CFUNCTYPE(ctypes.c_void_p)(_api()[ORT[name]])(*arguments)
    if status:
        raise RuntimeError(f"ONNX Runtime's {name}: {_message(status)}")


def _message(status):
    message = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(_api()[2])
    return message(status).decode()


@lru_cache
def _environment():
    environment = ctypes.c_void_p()
    _ort("CreateEnv", ctypes.c_int(ORT_WARNING), b"benchmark", ctypes.byref(environment))
    return environment


def mkl_bound(model, x, folder: Path) -> Alternative:
    mkl()
    return cpu_network_mkl.fastest("MKL", cpu_network_mkl.plain(model), aligned(x))


BOUND = (tensorflow_bound, litert_bound, onnx_bound, mkl_bound)
ARRAYS = (tensorflow_arrays, litert_arrays, onnx_arrays)


def present(rivals, model: keras.Model, x: np.ndarray, folder: Path):
    """The rivals that can take part, and why the others cannot, by name."""
    alternatives, reasons = [], {}
    for rival in rivals:
        try:
            alternatives.append(rival(model, x, folder))
        except (ImportError, OSError, RuntimeError) as error:
            reasons[rival.__name__] = f"{error}"
    return alternatives, reasons
