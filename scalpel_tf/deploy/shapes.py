"""What shape an operator makes of its inputs and its constants, checked against what a model says.

Each function returns the output's shape. ValueError, the end of a sentence, where the constants
make none. `inputs` are tflite.Tensors, the constant ones with data.
"""

import math

import numpy as np


def elementwise(operator, inputs) -> tuple[int, ...]:
    """ADD, SUB, MUL: what two shapes broadcast to."""
    shapes = [tensor.shape for tensor in inputs]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"cannot broadcast {' and '.join(map(str, shapes))}") from None


def concatenation(operator, inputs) -> tuple[int, ...]:
    """CONCATENATION: one axis adds up, the others agree."""
    first, axis = inputs[0].shape, operator.options["axis"]
    if not -len(first) <= axis < len(first):
        raise ValueError(f"joins along axis {axis} of {first}")
    axis %= len(first)
    others = {(*t.shape[:axis], *t.shape[axis + 1 :]) for t in inputs}
    if len(others) != 1 or len({len(t.shape) for t in inputs}) != 1:
        raise ValueError(f"joins {', '.join(str(t.shape) for t in inputs)}")
    return (*first[:axis], sum(t.shape[axis] for t in inputs), *first[axis + 1 :])


def mean(operator, inputs) -> tuple[int, ...]:
    """MEAN over neighbouring axes, which stay with size 1; `reduction` says which."""
    outer, _, inner = reduction(inputs[0].shape, integers(inputs[1]))
    return (outer, inner)


def pad(operator, inputs) -> tuple[int, ...]:
    """PAD, PADV2: (before, after) for every axis."""
    shape, amounts = inputs[0].shape, integers(inputs[1])
    if amounts.shape != (len(shape), 2) or (amounts < 0).any():
        raise ValueError(f"pads {shape} by {amounts.tolist()}")
    return tuple(int(size + both) for size, both in zip(shape, amounts.sum(1), strict=True))


def transpose(operator, inputs) -> tuple[int, ...]:
    """TRANSPOSE by a permutation."""
    shape, order = inputs[0].shape, integers(inputs[1]).tolist()
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"permutes {shape} by {order}")
    return tuple(shape[axis] for axis in order)


def tile(operator, inputs) -> tuple[int, ...]:
    """TILE: every axis some times."""
    shape, times = inputs[0].shape, integers(inputs[1])
    if times.shape != (len(shape),) or (times < 1).any():
        raise ValueError(f"repeats {shape} {times.tolist()} times")
    return tuple(int(size * n) for size, n in zip(shape, times, strict=True))


def sliced(operator, inputs) -> tuple[int, ...]:
    """SLICE, STRIDED_SLICE; an axis that STRIDED_SLICE drops stays with size 1."""
    return tuple(
        len(range(size)[part])
        for size, part in zip(inputs[0].shape, slices(operator, inputs), strict=True)
    )


def slices(operator, inputs) -> list[slice]:
    """The part of every axis that SLICE or STRIDED_SLICE takes, none of them empty."""
    shape = inputs[0].shape
    starts, ends, *rest = (integers(tensor).tolist() for tensor in inputs[1:])
    steps = rest[0] if rest else [1] * len(starts)
    if not len(shape) == len(starts) == len(ends) == len(steps) or 0 in steps:
        raise ValueError(f"takes {starts} to {ends} by {steps} of {shape}")
    if operator.name == "SLICE":
        parts = [
            slice(start, size if count == -1 else start + count)
            for start, count, size in zip(starts, ends, shape, strict=True)
        ]
        inside = all(0 <= p.start < p.stop <= size for p, size in zip(parts, shape, strict=True))
    else:
        masks = operator.options
        if masks["ellipsis"] or masks["new_axis"] or masks["offset"]:
            raise ValueError("has an ellipsis, a new axis or an offset, which are not supported")
        parts = [
            slice(start, start + 1 or None)
            if masks["shrink"] >> axis & 1
            else slice(
                None if masks["begin"] >> axis & 1 else start,
                None if masks["end"] >> axis & 1 else end,
                step,
            )
            for axis, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True))
        ]
        inside = all(len(range(size)[p]) for p, size in zip(parts, shape, strict=True))
    if not inside:
        raise ValueError(f"takes {starts} to {ends} by {steps} of {shape}")
    return parts


def reduction(shape: tuple[int, ...], axes: np.ndarray) -> tuple[int, int, int]:
    """(outer, reduced, inner) sizes where `axes` are neighbours, but for axes of size 1."""
    rank = len(shape)
    if not axes.size or (axes < -rank).any() or (axes >= rank).any():
        raise ValueError(f"reduces the axes {axes.tolist()} of {shape}")
    reduced = {int(axis) % rank for axis in axes.ravel()}
    kept = [axis for axis in range(rank) if axis not in reduced and shape[axis] > 1]
    wide = [axis for axis in reduced if shape[axis] > 1]
    first, last = (min(wide), max(wide)) if wide else (0, -1)
    if any(first < axis < last for axis in kept):
        raise ValueError(f"reduces the axes {axes.tolist()} of {shape}, which are no neighbours")
    before = math.prod(shape[axis] for axis in kept if axis < first)
    after = math.prod(shape[axis] for axis in kept if axis > last)
    return before, math.prod(shape[axis] for axis in wide), after


def integers(tensor) -> np.ndarray:
    """The contents of a constant int32 or int64 tensor."""
    if tensor.data is None or tensor.dtype not in (np.int32, np.int64):
        raise ValueError("needs constant integers beside its input")
    return tensor.data


OUTPUTS = {
    **dict.fromkeys(("ADD", "SUB", "MUL"), elementwise),
    "CONCATENATION": concatenation,
    "MEAN": mean,
    "PAD": pad,
    "PADV2": pad,
    "TRANSPOSE": transpose,
    "TILE": tile,
    "SLICE": sliced,
    "STRIDED_SLICE": sliced,
}
