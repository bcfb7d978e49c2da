"""The rivals of the Scalpel paper on a microcontroller: the same network in other formats.

Yu et al., Scalpel, ISCA 2017, section 6: "traditional" pruning takes single weights by magnitude
(Han et al., NIPS 2015) and stores every layer as CSR; "optimized" keeps a layer dense where that is
faster. Kernels for single weights are as careful as those for groups: unrolled assembly on the DSP
extension, four outputs of a convolution at a time, a maximum of 2 x 2 taken inside of it.
"""

import tempfile
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, conv, convert, csr_conv, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.int8 import require_int8
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.verify import write

SAMPLES = 2


def dense(weights: np.ndarray) -> list[fc.Packed]:
    return [fc.pack_dense(weights)]


def dense_conv(weights: np.ndarray, shape: conv.Shape) -> list[conv.Packed]:
    return [packed for packed in conv.candidates(weights, shape) if packed.density == 1]


def csr(weights: np.ndarray) -> list[fc.Packed]:
    """CSR; dense only where a row is too long for it."""
    return [fc.pack_csr(weights)] if weights.shape[1] <= fc.LONGEST_ROW else dense(weights)


def csr_of_conv(weights: np.ndarray, shape: conv.Shape) -> list[csr_conv.Packed | conv.Packed]:
    """CSR; dense only where a row is too long for it."""
    return csr_conv.candidates(weights, shape) or dense_conv(weights, shape)


def either(weights: np.ndarray) -> list[fc.Packed]:
    return [*dense(weights), *csr(weights)]


def either_conv(weights: np.ndarray, shape: conv.Shape) -> list[csr_conv.Packed | conv.Packed]:
    return [*dense_conv(weights, shape), *csr_conv.candidates(weights, shape)]


FORMATS = {
    "traditional": {"formats": csr, "conv_formats": csr_of_conv},
    "optimized": {"formats": either, "conv_formats": either_conv},
    "dense": {"formats": dense, "conv_formats": dense_conv},
    "scalpel": {},
}


def formats(kind: str) -> dict:
    """What `lower` takes as `formats` and `conv_formats`.

    kind: "traditional" (CSR in every layer), "optimized" (of each layer the faster of dense and CSR
    by the cost model), "dense", or "scalpel" (what `export` does).
    """
    if kind not in FORMATS:
        raise ValueError(f"`kind` is one of {', '.join(map(repr, FORMATS))}; got {kind!r}.")
    return FORMATS[kind]


def measure(data: bytes, target: str, kind: str = "scalpel") -> tuple[board.BoardRun, list[Layer]]:
    """A run of an int8 `.tflite` on the virtual board in those formats, and its layers.

    kind: as in `formats`.  The weights stay as they are: they have to be pruned for it.
    Raises ValueError as `export` does; RuntimeError where the outputs are not those of TensorFlow
    Lite, bit for bit, and without a compiler for the target.
    """
    chosen, facts, network = formats(kind), find_target(target), tflite.read(data)
    require_int8(network)
    layers = lower(network, facts, **chosen)
    rng = np.random.default_rng(0)
    inputs = [_noise(rng, network.tensors[index]) for index in network.inputs]
    outputs = convert.run_reference(data, inputs)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        write(project, c_source.emit(network, data, layers, facts, inputs, outputs))
        run = board.run(board.build(project, folder, target), inputs)
    for got, expected in zip(run.outputs, outputs, strict=True):
        if not np.array_equal(got, expected):
            raise RuntimeError(f"On {target}, {kind!r} does not give TensorFlow Lite's outputs.")
    return run, layers


def _noise(rng, tensor):
    shape = (SAMPLES, *tensor.shape[1:])
    if tensor.dtype.kind == "f":
        return rng.uniform(-1, 1, shape).astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    return rng.integers(limits.min, limits.max, shape, tensor.dtype, endpoint=True)
