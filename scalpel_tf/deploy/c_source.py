"""An int8 model -> the files of a self-contained C99 project, and of a stock TFLite Micro one.

model.h, model.c    the network: constants in flash, one function per operator, no globals
model.json          what the files hold, for people and for `board` and `host`
main.c              runs the stored test vectors; test_vectors.h has them
CMakeLists.txt      builds it
runtime/            the kernels
model_data.{h,cc}   the plain .tflite, for an unchanged TensorFlow Lite Micro
"""

import json
import re
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import Target
from scalpel_tf.deploy.c_text import array, comment_safe
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.memory import MemoryPlan, plan_memory, tensor_bytes
from scalpel_tf.deploy.tflite import Model, Tensor

RUNTIME = Path(__file__).parent / "runtime"
SKELETON = Path(__file__).parent / "skeletons" / "plain"


def describe(model: Model, layers: list[Layer], plan: MemoryPlan, target: Target) -> dict:
    """The contents of model.json."""
    return {
        "target": target.name,
        "arena_bytes": plan.arena,
        "constant_bytes": sum(layer.bytes for layer in layers),
        "inputs": [_describe_tensor(model.tensors[i]) for i in model.inputs],
        "outputs": [_describe_tensor(model.tensors[i]) for i in model.outputs],
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "kernel": layer.kernel,
                "macs": layer.macs,
                "density": layer.density,
                "bytes": layer.bytes,
                "bytes_dense": layer.bytes_dense,
                "ram": ram,
            }
            for layer, ram in zip(layers, plan.alive, strict=True)
        ],
    }


def _describe_tensor(tensor: Tensor) -> dict:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype.name,
        "scale": float(tensor.scale[0]) if tensor.scale.size else None,
        "zero_point": int(tensor.zero_point[0]) if tensor.scale.size else None,
        "bytes": tensor_bytes(tensor),
    }


def emit(
    model: Model,
    data: bytes,
    layers: list[Layer],
    target: Target,
    inputs: list[np.ndarray],
    outputs: list[np.ndarray],
    rounding: str = "single",
    crc: int | None = None,
) -> dict[str, bytes]:
    """Relative path -> contents, for every file of the project.

    data: the .tflite itself.  inputs, outputs: one array per model input and output, first axis
    test vectors.  rounding: what the layers were lowered with.  crc: what the constants' CRC-32 has
    to be, for a model_check(); None leaves that out.
    """
    plan = plan_memory(model, layers)
    files = {
        "model.h": _model_h(model, layers, plan, target, crc),
        "model.c": _model_c(model, layers, plan, crc),
        "model.json": json.dumps(
            {**describe(model, layers, plan, target), "rounding": rounding}, indent=2
        )
        + "\n",
        "test_vectors.h": _test_vectors_h(inputs, outputs),
        "model_data.h": MODEL_DATA_H.format(size=len(data)),
        "model_data.cc": model_data_cc(data),
    }
    contents = {name: text.encode() for name, text in files.items()}
    contents |= {path.name: path.read_bytes() for path in SKELETON.iterdir()}
    for path in runtime_files(files["model.c"]):
        contents[f"runtime/{path.name}"] = path.read_bytes()
    return with_rounding(contents, rounding)


def with_rounding(contents: dict[str, bytes], rounding: str) -> dict[str, bytes]:
    """The files, with the runtime's switch in the position of "single" or "double"."""
    name, once = "runtime/scalpel_rounding.h", b"#define SCALPEL_DOUBLE_ROUNDING 0"
    if rounding == "double" and name in contents:
        contents = {**contents, name: contents[name].replace(once, once[:-1] + b"1")}
    return contents


def runtime_files(source: str) -> list[Path]:
    """The files of the runtime that a C source needs: what it calls, what that calls, headers."""
    texts = {path: path.read_text() for path in RUNTIME.iterdir() if path.is_file()}
    chosen = {path for path in texts if path.suffix == ".h"}
    wanted = set(re.findall(NAME, source))
    defined = {path: set(re.findall(DEFINITION[path.suffix], texts[path], re.M)) for path in texts}
    while missing := [p for p in texts.keys() - chosen if wanted & defined[p]]:
        chosen.update(missing)
        wanted.update(*(re.findall(NAME, texts[path]) for path in missing))
    return sorted(chosen)


NAME = r"\bscalpel_\w+"
DEFINITION = {
    ".c": r"^\w.*?(scalpel_\w+)\(",
    ".S": r"^ +(?:[A-Z]\w+|\.global) (scalpel_\w+)",
    ".h": NAME,
}


def _model_h(model, layers, plan, target, crc):
    rows = "\n".join(
        f" *   {index}  {comment_safe(layer.name)}: {layer.op}, {layer.kernel}, {layer.bytes} bytes"
        for index, layer in enumerate(layers)
    )
    return MODEL_H.format(
        target=target.name,
        rows=rows,
        constants=sum(layer.bytes for layer in layers),
        arena=max(plan.arena, 1),
        layers=len(layers),
        inputs=len(model.inputs),
        outputs=len(model.outputs),
        input_bytes=tensor_bytes(model.tensors[model.inputs[0]]),
        output_bytes=tensor_bytes(model.tensors[model.outputs[0]]),
        check="" if crc is None else MODEL_CHECK_H.format(crc=crc),
    )


def _model_c(model, layers, plan, crc):
    parts = [MODEL_C_HEAD]
    for index, layer in enumerate(layers):
        inputs = [_address(model.tensors[i], plan.tensors[i], "const ") for i in layer.inputs]
        y = _address(model.tensors[layer.y], plan.tensors[layer.y], "")
        body = layer.call(inputs, y, f"arena + {plan.scratch[index]}").replace("\n", "\n  ")
        parts.append(
            f"\n/* {comment_safe(layer.name)}: {layer.op} */\n{layer.constants}"
            f"static MODEL_NOINLINE void model_layer_{index}(uint8_t *arena) {{\n  {body}\n}}\n"
        )
    calls = "".join(f"  model_layer_{index}(arena);\n" for index in range(len(layers)))
    parts.append(f"\nvoid model_invoke(uint8_t *arena) {{\n{calls or '  (void)arena;'}}}\n")
    for name, indices, const in (
        ("input", model.inputs, ""),
        ("output", model.outputs, "const "),
    ):
        offsets = np.array([plan.tensors[i] for i in indices], np.int32)
        parts.append(
            f"\n{const}void *model_{name}({const}uint8_t *arena, uint32_t index) {{\n"
            f"  {array('offsets', offsets).strip()}\n  return arena + offsets[index];\n}}\n"
        )
    if crc is not None:
        parts.append(_model_check("".join(layer.constants for layer in layers)))
    return "".join(parts)


def _model_check(constants):
    """The CRC of every constant but the structs with addresses, which only the linker knows."""
    definitions = re.findall(
        r"^static const [^=;]*?(\w+)(\[\d+\])? = (\{.*?\});$", constants, re.M | re.S
    )
    lines = "".join(
        f"  crc = scalpel_crc32(crc, {'' if bounds else '&'}{name}, sizeof {name});\n"
        for name, bounds, value in definitions
        if not re.search(r"\blayer_\d", value)
    )
    return MODEL_CHECK_C.format(lines=lines)


def _address(tensor, offset, const):
    kind = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}[tensor.dtype.name]
    return f"({const}{kind} *)(arena + {offset})"


def _test_vectors_h(inputs, outputs):
    text = "/* Inputs, and the outputs of the TensorFlow Lite reference kernels for them. */\n"
    text += f"#include <stdint.h>\n\n#define TEST_VECTORS {len(inputs[0])}\n"
    for name, arrays in (("input", inputs), ("output", outputs)):
        rows = [np.ascontiguousarray(a).reshape(len(a), -1).view(np.uint8) for a in arrays]
        sizes = np.array([r.shape[1] for r in rows], np.int32)
        text += array(f"test_{name}_bytes", sizes)
        text += array(f"test_{name}s", np.concatenate(rows, 1))
    return text


def model_data_cc(data: bytes) -> str:
    """C++ source of the array that model_data.h declares."""
    body = array("model_data", np.frombuffer(data, np.uint8), "alignas(16) const")
    head = '#include "model_data.h"\n\n#include <cstdint>\n\n'
    return f"{head}{body}const unsigned int model_data_size = {len(data)};\n"


MODEL_H = """\
/* An int8 network for {target}.
 *
 * layer  name: operator, kernel, constants
{rows}
 * in all {constants} bytes of constants in flash, {arena} bytes of RAM.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define MODEL_ARENA_BYTES {arena}
#define MODEL_LAYERS {layers}
#define MODEL_INPUTS {inputs}
#define MODEL_OUTPUTS {outputs}
#define MODEL_INPUT_BYTES {input_bytes}
#define MODEL_OUTPUT_BYTES {output_bytes}

/* arena: MODEL_ARENA_BYTES bytes, 16-byte aligned, the caller's.  Write every input, invoke, read
 * the outputs: an invocation reuses the inputs' memory.  Several arenas may run at once. */
void model_invoke(uint8_t *arena);

/* Where input or output `index` lies in the arena. */
void *model_input(uint8_t *arena, uint32_t index);
const void *model_output(const uint8_t *arena, uint32_t index);
{check}
#ifdef __cplusplus
}}
#endif

#endif /* MODEL_H */
"""

MODEL_C_HEAD = """\
#include "model.h"

#include "runtime/scalpel_conv.h"
#include "runtime/scalpel_csr_conv.h"
#include "runtime/scalpel_ops.h"
#include "runtime/scalpel_runtime.h"

#if defined(__GNUC__) || defined(__clang__)
#define MODEL_ALIGNED __attribute__((aligned(4)))
#define MODEL_NOINLINE __attribute__((noinline))
#else
#define MODEL_ALIGNED
#define MODEL_NOINLINE
#endif
"""

MODEL_CHECK_H = """
#define MODEL_CRC32 0x{crc:08x}u

/* 0 if the operators' constants in flash are what they were, 1 if not, by their CRC-32.  Addresses
 * and code are not looked at. */
int model_check(void);
uint32_t model_crc32(void);
"""

MODEL_CHECK_C = """
#include "runtime/scalpel_crc32.h"

uint32_t model_crc32(void) {{
  uint32_t crc = 0;
{lines}  return crc;
}}

int model_check(void) {{ return model_crc32() != MODEL_CRC32; }}
"""

MODEL_DATA_H = """\
/* The plain int8 model, for an unchanged TensorFlow Lite Micro. */
#ifndef MODEL_DATA_H
#define MODEL_DATA_H

#define MODEL_DATA_BYTES {size}

extern const unsigned char model_data[];
extern const unsigned int model_data_size;

#endif /* MODEL_DATA_H */
"""
