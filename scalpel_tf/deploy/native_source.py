"""A lowered model -> the C of a library for this machine, and the folder that it is built from.

model.h, model.c       the network: one function per operator, no globals that are written
model_constants.{S,bin} its constants, at cache lines
model.json             what the files hold, for people and for `native`
kernels/, runtime/     what model.c calls
CMakeLists.txt         builds it
"""

import math

from scalpel_tf.deploy.c_text import comment_safe
from scalpel_tf.deploy.float_constants import ALIGNMENT, SYMBOL
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.memory import MemoryPlan, aliases
from scalpel_tf.deploy.tflite import Model

C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}
FLOAT_HEAD = """\
#include "kernels/native/scalpel_float.h"

extern const unsigned char model_constants[];
"""


def model_h(model: Model, layers: list[Layer], plan: MemoryPlan, dtype: str) -> str:
    """The header: how to call the network, and what it is made of."""
    rows = "".join(
        f" *   {index}  {comment_safe(layer.name)}: {layer.op}, {layer.kernel}, {layer.bytes}\n"
        for index, layer in enumerate(layers)
    )
    sizes = "".join(
        f"#define MODEL_{name.upper()}_SIZE {math.prod(tensor.shape)} "
        f"/* {comment_safe(tensor.name)} {comment_safe(str(tensor.shape))} */\n"
        for name, tensor in _ends(model)
    )
    return MODEL_H.format(
        dtype=dtype,
        rows=rows,
        arena=max(plan.arena, 1),
        alignment=ALIGNMENT,
        layers=len(layers),
        inputs=len(model.inputs),
        outputs=len(model.outputs),
        sizes=sizes,
        parameters=", ".join(_parameters(model)),
    )


def model_c(model: Model, layers: list[Layer], plan: MemoryPlan, head: str, kind: str) -> str:
    """The source. head: what it includes.  kind: of its kernels, "float" or "int8"."""
    names = _names(model)
    fields = "".join(f"  {text};\n" for text in _parameters(model)[:-1])
    parts = [MODEL_C_HEAD.format(head=head, kind=kind, fields=fields)]
    places, copies = _places(model, plan)
    for index, layer in enumerate(layers):
        inputs = [_address(model, i, places, "const ") for i in layer.inputs]
        y = _address(model, layer.y, places, "")
        body = layer.call(inputs, y, f"m->arena + {plan.scratch[index]}").replace("\n", "\n  ")
        parts.append(
            f"\n/* {comment_safe(layer.name)}: {layer.op}, {layer.kernel} */\n{layer.constants}"
            f"static void model_layer_{index}(const model_memory *m) {{\n  {body}\n}}\n"
        )
    end = [
        f"  memcpy(m->{name}, {source}, MODEL_{name.upper()}_SIZE * sizeof *m->{name});\n"
        for name, source in copies
    ]
    calls = "".join(f"  model_layer_{index}(m);\n" for index in range(len(layers)))
    inputs, outputs = ([name for name in names if name.startswith(kind)] for kind in ("in", "out"))
    arrays = [
        f"({const}{kind} *){which}[{i}] + sample * MODEL_{name.upper()}_SIZE"
        for which, const, group in (("inputs", "const ", inputs), ("outputs", "", outputs))
        for i, (name, kind) in enumerate(zip(group, _kinds(model, which), strict=True))
    ]
    parts.append(
        MODEL_C_TAIL.format(
            calls="".join([calls, *end]),
            table=",\n".join(f"    model_layer_{index}" for index in range(len(layers))) or "    0",
            parameters=", ".join(_parameters(model)),
            kind=kind,
            arguments=", ".join([*names, "arena"]),
            sample=",\n      ".join([*arrays, "arena"]),
        )
    )
    return "".join(parts)


def _names(model):
    def numbered(kind, count):
        return [kind] if count == 1 else [f"{kind}_{i}" for i in range(count)]

    return [*numbered("input", len(model.inputs)), *numbered("output", len(model.outputs))]


def _ends(model):
    indices = (*model.inputs, *model.outputs)
    return zip(_names(model), (model.tensors[i] for i in indices), strict=True)


def _kinds(model, which):
    indices = model.inputs if which == "inputs" else model.outputs
    return [C_TYPES[model.tensors[i].dtype.name] for i in indices]


def _parameters(model):
    texts = []
    for name, tensor in _ends(model):
        const = "const " if name.startswith("input") else ""
        texts.append(f"{const}{C_TYPES[tensor.dtype.name]} *{name}")
    return [*texts, "void *arena"]


def _places(model, plan):
    """(tensor that is not in the arena -> the parameter that is it, outputs to copy at the end)."""
    alias, names = aliases(model), _names(model)
    inputs, outputs = names[: len(model.inputs)], names[len(model.inputs) :]
    root_places = {alias(i): f"m->{name}" for i, name in zip(model.inputs, inputs, strict=True)}
    copies = []
    for index, name in zip(model.outputs, outputs, strict=True):
        root = alias(index)
        if root in root_places:
            copies.append((name, root_places[root]))
        else:
            root_places[root] = f"m->{name}"
    places = {i: root_places.get(alias(i)) for i in range(len(model.tensors))}
    return {i: place or plan.tensors.get(i) for i, place in places.items()}, copies


def _address(model, index, places, const):
    place = places[index]
    if isinstance(place, str):
        return place
    return f"({const}{C_TYPES[model.tensors[index].dtype.name]} *)(m->arena + {place})"


MODEL_H = """\
/* A {dtype} network, compiled for x86-64: for AVX-512, AVX2 or neither, whichever is here.
 *
 * layer  name: operator, kernel, bytes of constants
{rows} */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define MODEL_ARENA_BYTES {arena}
#define MODEL_ARENA_ALIGNMENT {alignment} /* where it is fastest; any will do */
#define MODEL_LAYERS {layers}
#define MODEL_INPUTS {inputs}
#define MODEL_OUTPUTS {outputs}
{sizes}
/* One sample through the network.  arena: MODEL_ARENA_BYTES bytes of the caller's, to work in;
 * nothing is kept there, and nothing else is written to, so that threads with an arena each may
 * call at the same time. */
void model_invoke({parameters});

/* For tools.  The instruction sets that this machine has, best first, and NULL past the end;
 * samples that follow one another, with one of them. */
const char *model_isa(int index);
void model_run(int isa, int64_t samples, const void *const *inputs, void *const *outputs,
               void *arena);

/* seconds[round * (MODEL_LAYERS + 1)]: of one call, the mean of `calls`; after it those of every
 * layer in a call more, without what looking at the clock takes. */
void model_profile(int isa, int64_t rounds, int64_t calls, const void *const *inputs,
                   void *const *outputs, void *arena, double *seconds);

#ifdef __cplusplus
}}
#endif

#endif /* MODEL_H */
"""

MODEL_C_HEAD = """\
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include "model.h"

#include <math.h>
#include <string.h>
#include <time.h>

{head}
/* What one call works with. */
typedef struct model_memory {{
  const scalpel_{kind}_kernels *kernels;
{fields}  unsigned char *arena;
}} model_memory;
"""

MODEL_C_TAIL = """
static void model_layers_run(const model_memory *m) {{
{calls}}}

void model_invoke({parameters}) {{
  const model_memory m = {{scalpel_{kind}_isa(0), {arguments}}};
  model_layers_run(&m);
}}

const char *model_isa(int index) {{
  const scalpel_{kind}_kernels *kernels = scalpel_{kind}_isa(index);
  return kernels ? kernels->isa : 0;
}}

static model_memory model_sample(int isa, int64_t sample, const void *const *inputs,
                                 void *const *outputs, unsigned char *arena) {{
  const model_memory m = {{
      scalpel_{kind}_isa(isa),
      {sample},
  }};
  return m;
}}

void model_run(int isa, int64_t samples, const void *const *inputs, void *const *outputs,
               void *arena) {{
  for (int64_t sample = 0; sample < samples; ++sample) {{
    const model_memory m = model_sample(isa, sample, inputs, outputs, arena);
    model_layers_run(&m);
  }}
}}

static double model_clock(void) {{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}}

void model_profile(int isa, int64_t rounds, int64_t calls, const void *const *inputs,
                   void *const *outputs, void *arena, double *seconds) {{
  static void (*const layers[])(const model_memory *) = {{
{table},
  }};
  const model_memory m = model_sample(isa, 0, inputs, outputs, arena);
  double clock = 1;
  for (int i = 0; i < 100; ++i) {{
    const double before = model_clock(), once = model_clock() - before;
    clock = once < clock ? once : clock;
  }}
  for (int64_t round = 0; round < rounds; ++round) {{
    model_layers_run(&m);
    double before = model_clock();
    for (int64_t i = 0; i < calls; ++i) model_layers_run(&m);
    double now = model_clock();
    *seconds++ = (now - before - clock) / (double)calls;
    for (int i = 0; i < MODEL_LAYERS; ++i) {{
      before = model_clock();
      layers[i](&m);
      now = model_clock();
      *seconds++ = now - before > clock ? now - before - clock : 0;
    }}
  }}
}}
"""

CONSTANTS_S = f"""\
    .section .rodata
    .balign {ALIGNMENT}
    .hidden {SYMBOL}
    .globl {SYMBOL}
{SYMBOL}:
    .incbin "{SYMBOL}.bin"
    .byte 0
    .section .note.GNU-stack,"",%progbits
"""
