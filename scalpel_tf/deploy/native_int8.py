"""An int8 model for this machine: the layers of the Cortex-M path, on its runtime's plain C."""

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy.c_source import RUNTIME, runtime_files, with_rounding
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.tflite import Model

HEAD = """\
#include "runtime/scalpel_conv.h"
#include "runtime/scalpel_ops.h"
#include "runtime/scalpel_runtime.h"

#define MODEL_ALIGNED __attribute__((aligned(64)))
"""
COSTS_OF = "cortex-m7"  # the cost model that chooses the formats


def layers(model: Model, rounding: str) -> list[Layer]:
    """The layers of a model that `require_int8` accepts."""
    return lower(model, find_target(COSTS_OF), rounding=rounding)


def files(source: str, rounding: str) -> dict[str, bytes]:
    """Relative path -> contents, of what of the runtime a model.c calls."""
    chosen = [path for path in runtime_files(source) if path.suffix != ".S"]
    contents = {f"runtime/{path.relative_to(RUNTIME)}": path.read_bytes() for path in chosen}
    return with_rounding(contents, rounding)
