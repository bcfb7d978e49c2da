"""Int8 models of random convolutions side by side, some with a pooling behind them."""

import math

import numpy as np

from scalpel_tf.deploy.int8 import window
from scalpel_tf.deploy.tflite import Model, Operator, Tensor

ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def random_case(seed, **fixed):
    """Sizes, weights and scales of one convolution; `fixed` is left to no chance."""
    rng = np.random.default_rng(seed)

    def pair(least, most):
        return tuple(int(n) for n in rng.integers(least, most + 1, 2))

    case = {
        "input": pair(1, 13),
        "channels": int(rng.choice([1, 2, 3, 4, 5, 8, 12, 20])),
        "filters": int(rng.integers(1, 10)),
        "filter": pair(1, 5),
        "stride": pair(1, 3) if rng.random() < 0.5 else (1, 1),
        "dilation": pair(1, 2) if rng.random() < 0.25 else (1, 1),
        "padding": str(rng.choice(["SAME", "VALID"])),
        "density": float(rng.choice([0.0, 0.1, 0.4, 0.8, 1.0])),
        "activation": str(rng.choice(ACTIVATIONS)),
        "zero_points": tuple(int(z) for z in rng.choice([-128, -77, 0, 5, 127], 2)),
        "right_shift": int(rng.integers(3, 14)),
        "pool": None,
    }
    if rng.random() < 0.6:
        size, stride = pair(1, 3), pair(1, 3)
        if rng.random() < 0.4:
            size = stride = (2, 2)
        case["pool"] = {
            "name": str(rng.choice(["MAX_POOL_2D", "AVERAGE_POOL_2D"])),
            "filter": size,
            "stride": stride,
            "padding": str(rng.choice(["SAME", "VALID"])),
            "activation": str(rng.choice(ACTIVATIONS)),
        }
    return {**case, **fixed, "seed": seed}


def model(cases) -> Model:
    """Input i goes through convolution i, and its pooling, to output i.  ValueError where a window
    does not fit."""
    tensors, operators, inputs, outputs = [], [], [], []

    def add(name, shape, dtype, scale, zero_point, data=None):
        scale = np.atleast_1d(np.asarray(scale, np.float32))
        zero_point = np.full(len(scale), zero_point, np.int64)
        kind = np.dtype(dtype)
        tensors.append(Tensor(len(tensors), name, shape, kind, scale, zero_point, 0, data))
        return len(tensors) - 1

    for index, case in enumerate(cases):
        rng = np.random.default_rng(case["seed"])
        filters, channels = case["filters"], case["channels"]
        weights, scale, bias = _weights(case, rng)
        size = _size(case["input"], case["filter"], case)
        x = add(f"x{index}", (1, *case["input"], channels), "i1", 1.0, case["zero_points"][0])
        w = add(f"w{index}", weights.shape, "i1", scale, 0, weights)
        b = add(f"b{index}", (filters,), "i4", scale, 0, bias)
        y = add(f"y{index}", (1, *size, filters), "i1", 1 / 16, case["zero_points"][1])
        options = {key: case[key] for key in ("padding", "stride", "dilation", "activation")}
        operators.append(Operator("CONV_2D", (x, w, b), (y,), options))
        if case["pool"] is not None:
            options = {key: value for key, value in case["pool"].items() if key != "name"}
            size = _size(size, options["filter"], {**options, "dilation": (1, 1)})
            conv = y
            y = add(f"p{index}", (1, *size, filters), "i1", 1 / 16, case["zero_points"][1])
            operators.append(Operator(case["pool"]["name"], (conv,), (y,), options))
        inputs.append(x)
        outputs.append(y)
    return Model(tuple(tensors), tuple(operators), tuple(inputs), tuple(outputs), 0)


def random_inputs(network, samples, seed=0):
    """One array per input: noise, and the two ends."""
    rng = np.random.default_rng(seed)
    arrays = []
    for index in network.inputs:
        array = rng.integers(-128, 128, (samples, *network.tensors[index].shape[1:]))
        array[0] = rng.choice([-128, 127], array[0].shape)
        arrays.append(array.astype(np.int8))
    return arrays


def _weights(case, rng):
    shape = (case["filters"], *case["filter"], case["channels"])
    cols = math.prod(shape[1:])
    groups = -(-cols // 4)
    keep = rng.random((case["filters"], groups)) < case["density"]
    keep = np.repeat(keep, 4, 1)[:, :cols].reshape(shape)
    weights = np.where(keep, rng.integers(-127, 128, shape), 0).astype(np.int8)
    shifts = case["right_shift"] + rng.integers(-1, 2, case["filters"])
    scale = (2.0**-shifts * rng.uniform(0.51, 0.99, case["filters"]) / 16).astype(np.float32)
    bias = rng.integers(-(2**12), 2**12, case["filters"]).astype(np.int32)
    return weights, scale, bias


def _size(size, reach, case):
    return tuple(
        window(n, r, stride, dilation, case["padding"])[0]
        for n, r, stride, dilation in zip(
            size, reach, case["stride"], case["dilation"], strict=True
        )
    )
