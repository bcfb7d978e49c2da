"""Seeds for every test, and the C++ ops, built once where `scalpel-tf build` has not."""

import platform
import zlib

import keras
import pytest
import tensorflow as tf

# On other processors NEON runs in an emulator: test_kernels_cc.
ARM = platform.machine() in ("aarch64", "arm64")
ISAS = ("scalar", "neon") if ARM else ("scalar", "avx2", "avx512")


@pytest.fixture(autouse=True, scope="session")
def _no_autotuning():
    """The end of an epoch does not wait for the thread that tunes tf.data's pipelines.

    In TensorFlow 2.21 that thread can miss that it was cancelled; the iterator then waits for its
    next turn, up to as long as the epoch has taken.
    """
    start = tf.data.Dataset.__iter__
    options = tf.data.Options()
    options.autotune.enabled = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.data.Dataset, "__iter__", lambda self: start(self.with_options(options)))
        yield


@pytest.fixture(autouse=True)
def _seeded(request):
    """Every test draws the same weights in every run, in whichever order."""
    keras.utils.set_random_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def _library():
    from scalpel_tf.deploy import op_library, ops

    if not ops.available():
        ops.build()
    assert ops.why_not() is None
    return op_library.load()


@pytest.fixture(scope="session")
def library(_library):
    """The generated ops."""
    return _library.ops


@pytest.fixture
def kernels(_library):
    """The kernels that the ops call, on two threads; the best instruction set is chosen."""
    kernels = _library.kernels
    threads = kernels.threads
    kernels.set_threads(2)
    yield kernels
    kernels.use_isa(kernels.isas()[0])
    kernels.set_threads(threads)


@pytest.fixture(params=ISAS)
def any_isa(request, kernels):
    """The kernels with one instruction set chosen, each in its turn."""
    if request.param not in kernels.isas():
        pytest.skip(f"This machine has no {request.param} kernels, but {kernels.isas()}.")
    kernels.use_isa(request.param)
    return kernels


@pytest.fixture(params=["c++", "tensorflow"])
def engine(request, monkeypatch):
    """Both computations of every product of deploy/ops.py."""
    from scalpel_tf.deploy import ops

    if request.param == "tensorflow":
        monkeypatch.setenv(ops.FORCED, "1")
    assert ops.available() == (request.param == "c++")
    return request.param
