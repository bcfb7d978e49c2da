"""One operator of an int8 model as C."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from scalpel_tf.deploy.tflite import Tensor


@dataclass(frozen=True)
class Layer:
    """A call of the runtime, and the constants that it needs.

    inputs, y: tensor indices, of activations only.  constants: definitions that go to flash.
    call: (inputs, y, scratch), the C expressions of addresses, one per input -> statements.
    scratch: bytes that the call works in.
    in_place: whether y may lie at the first input's address.
    bytes, bytes_dense: constants in flash, and what the dense format would take.
    density: kept fraction of the weights, in whole groups; None without weights.
    """

    name: str
    op: str
    kernel: str
    inputs: tuple[int, ...]
    y: int
    constants: str
    call: Callable[[list[str], str, str], str]
    scratch: int = 0
    in_place: bool = False
    macs: int = 0
    bytes: int = 0
    bytes_dense: int = 0
    density: float | None = None


def layer_name(fallback: str, *tensors: Tensor) -> str:
    """The Keras layer behind the first tensor that the converter named `model/layer/op`.

    Keras numbers both names alike where it traces a model again; that number is left out.
    """
    for tensor in tensors:
        parts = tensor.name.split(";")[0].split("/")
        if len(parts) > 2:
            number = re.search(r"_\d+$", parts[0])
            return parts[-2].removesuffix(number.group()) if number else parts[-2]
    return fallback
