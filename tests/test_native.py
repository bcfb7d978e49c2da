"""Models as shared libraries: float32 operators against LiteRT, int8 bit for bit, the C API."""

import ctypes
import functools
import subprocess
import tempfile
import threading
from pathlib import Path

import keras
import models
import numpy as np
import pytest
from keras import layers

import scalpel_tf as sc
from scalpel_tf.deploy import (
    convert,
    float_formats,
    float_winograd,
    kernels,
    native,
    native_build,
    native_int8,
    tflite,
    verify,
)
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_lower import lower
from scalpel_tf.zoo import networks

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "native" / "lenet_5.c"


def sparse(kernel, density, width, rng):
    """The kernel with zeros in all but a part of its groups, one row an output."""
    matrix = kernel.reshape(-1, kernel.shape[-1]).T
    groups = -(-matrix.shape[1] // width)
    keep = np.repeat(rng.random((len(matrix), groups)) < density, width, 1)[:, : matrix.shape[1]]
    return (matrix * keep).T.reshape(kernel.shape)


def randomised(model, density=1.0, width=8, seed=0):
    """The model with weights of every kind: groups of zeros, biases, statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for weight in layer.weights:
            values = rng.uniform(0.5, 1.5, weight.shape) if "variance" in weight.path else None
            if values is None:
                values = rng.normal(
                    0, 1 / np.sqrt(max(np.prod(weight.shape[:-1]), 1)), weight.shape
                )
            if weight is getattr(layer, "kernel", None):
                values = sparse(values, density, width, rng)
            weight.assign(values)
    return model


def chain(shape, *more, density=1.0, width=8):
    return randomised(keras.Sequential([keras.Input(shape), *more]), density, width)


def side_by_side(**chains):
    """One model of all the chains, each with its own input and output."""
    inputs = [keras.Input(each.input_shape[1:]) for each in chains.values()]
    outputs = [each(x) for each, x in zip(chains.values(), inputs, strict=True)]
    return keras.Model(inputs, outputs)


def branches():
    """What takes several inputs, and what is left of broadcasting."""
    x = keras.Input((6, 7, 5), name="x")
    a = layers.Conv2D(9, 3, padding="same", name="a")(x)
    b = layers.Activation("relu6")(layers.Conv2D(9, 1, name="b")(x))
    gate = layers.Dense(9, activation="sigmoid", name="gate")(
        layers.GlobalAveragePooling2D(keepdims=True)(a)
    )
    y = layers.Add()([layers.Multiply()([a, gate]), b])
    y = layers.Concatenate()([y, a, b])
    y = layers.BatchNormalization()(layers.MaxPooling2D(2)(y))
    flat = layers.Flatten()(y)
    return randomised(keras.Model(x, [layers.Dense(4, name="c")(flat), flat]))


def dense():
    return chain((37,), layers.Dense(53, activation="relu"), layers.Dense(1))


def products():
    return side_by_side(
        dense=dense(),
        rows=chain((3, 17), layers.Dense(40), density=0.3),
        groups_of_4=chain((301,), layers.Dense(43, name="groups_of_4"), density=0.1, width=4),
        groups_of_8=chain((301,), layers.Dense(43, name="groups_of_8"), density=0.1, width=8),
        groups_of_16=chain((307,), layers.Dense(41, name="groups_of_16"), density=0.1, width=16),
    )


def convolutions():
    conv = layers.Conv2D
    named = {"name": "groups_of_8"}
    return side_by_side(
        same=chain((9, 11, 3), conv(23, 5, padding="same")),
        strides=chain((14, 9, 4), conv(40, 3, 2, padding="same")),
        valid=chain((15, 9, 1), conv(17, (3, 5), activation="relu")),
        dilated=chain((13, 12, 6), conv(8, 3, dilation_rate=2)),
        pointwise=chain((5, 5, 33), conv(10, 1)),
        grouped=chain((8, 9, 8), conv(6, 3, groups=2)),
        groups=chain((13, 13, 16), conv(21, 3, padding="same", **named), density=0.2),
        short_rows=chain((5, 6, 8), conv(9, 3, activation="relu", **named), density=0.2),
        one_row=chain((7, 3, 64), conv(9, 1, **named), density=0.2),
        strided=chain((9, 12, 24), conv(7, 3, 2, padding="same", **named), density=0.2),
        sparse_grouped=chain((6, 9, 32), conv(6, 3, groups=2, **named), density=0.2),
    )


def squares():
    """Convolutions by tiles of 2x2: even and odd sizes, groups, several blocks, all panels."""
    conv = layers.Conv2D
    return side_by_side(
        same=chain((10, 13, 48), conv(40, 3, padding="same")),
        valid=chain((9, 8, 37), conv(33, 3, activation="relu")),
        smallest=chain((4, 4, 64), conv(24, 3)),
        grouped=chain((8, 9, 68), conv(34, 3, padding="same", groups=2)),
        blocks=chain((29, 23, 100), conv(58, 5, activation="relu", groups=2)),
    )


def lines():
    """By tiles of 1x4: few channels, two, a vector of them and more."""
    conv = layers.Conv2D
    return side_by_side(
        few=chain((13, 14, 3), conv(33, 5, padding="same", activation="relu")),
        two=chain((10, 20, 2), conv(56, 5, padding="same")),
        more=chain((7, 8, 19), conv(40, 5, padding="same")),
        wide=chain((5, 11, 17), conv(24, 3)),
        vector=chain((3, 4, 16), conv(8, 5, padding="same")),
    )


def windows():
    return side_by_side(
        depthwise=chain((9, 8, 19), layers.DepthwiseConv2D(3, 2, padding="same")),
        twice=chain((6, 6, 3), layers.DepthwiseConv2D(3, depth_multiplier=2)),
        largest=chain((11, 9, 18), layers.MaxPooling2D(3, 2, padding="same")),
        average=chain((11, 9, 37), layers.AveragePooling2D(3, 2, padding="same")),
        pad=chain((5, 4, 3), layers.ZeroPadding2D(((1, 2), (3, 0))), layers.ReLU()),
    )


def two_inputs():
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    y = layers.Dense(3, activation="softmax")(layers.Add()([layers.Multiply()([a, b]), b]))
    return randomised(keras.Model([a, b], y))


@pytest.mark.parametrize(
    "make", [products, convolutions, squares, lines, windows, branches, two_inputs]
)
def test_every_instruction_set_equals_litert(make, tmp_path):
    report = sc.export(make(), target="x86-64", out=tmp_path / "native")
    assert report.error <= 1e-5 and report.isas[-1] == "portable"
    for layer in report.layers:
        if layer["name"].startswith("groups"):
            assert layer["kernel"].replace(" ", "_") == layer["name"]
            assert layer["density"] < 0.5
    chosen = {layer["kernel"] for layer in report.layers}
    assert chosen == {squares: {"winograd 2x2"}, lines: {"winograd 1x4"}}.get(make, chosen)


@pytest.mark.parametrize("size, filter", [(4, 3), (6, 5), (6, 3), (8, 5)])
def test_products_at_points_are_a_convolution(size, filter):
    """Toom and Cook's identity: values at points, multiplied, are those of the product."""
    rng = np.random.default_rng(size)
    outputs = size - filter + 1
    points = np.array([0, *(s * p for p in float_winograd.PAIRS[size] for s in (1, -1))])
    at_points = np.vstack([points[:, None] ** np.arange(size), np.eye(size)[-1:]])
    apart = points[:, None] - points
    np.fill_diagonal(apart, 1)
    x, w = rng.normal(size=size), rng.normal(size=filter)
    products = np.linalg.inv(at_points).T @ x * [*apart.prod(1), 1]
    products *= float_winograd.evaluation(size, filter) @ w
    products += 3 * float_winograd.constant(size, outputs)
    to_outputs = np.vstack([points[:, None] ** np.arange(outputs), np.eye(outputs)[-1:]])
    np.testing.assert_allclose(products @ to_outputs, np.correlate(x, w) + 3, atol=1e-12)


def test_an_error_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "run_litert", lambda *a: [np.ones((8, 1), np.float32)])
    with pytest.raises(RuntimeError, match="differs from TensorFlow Lite"):
        sc.export(dense(), target="x86-64", out=tmp_path / "native")
    assert not (tmp_path / "native").exists()


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """(a sparse LeNet-5, its exported folder)."""
    model = randomised(networks.lenet_5(), density=0.1)
    folder = tmp_path_factory.mktemp("lenet") / "native"
    sc.export(model, target="x86-64", out=folder)
    return model, folder


def images(count, seed=0):
    return np.random.default_rng(seed).random((count, 28, 28, 1), np.float32)


def test_a_loaded_model_predicts(lenet):
    model, folder = lenet
    x = images(3)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(native.load(folder)(x), expected, atol=1e-5 * np.abs(expected).max())


def test_a_profile_times_every_layer(lenet):
    profile = native.profile(lenet[1], images(1), repeats=3)
    assert [name for name, _ in profile["layers"]] == [
        "conv1", "pool1", "conv2", "pool2", "fc1", "fc2",
    ]  # fmt: skip
    assert 0 < max(seconds for _, seconds in profile["layers"]) < 2 * profile["seconds"] < 1


def test_threads_with_an_arena_each(lenet):
    model = native.load(lenet[1])
    x = images(4)
    expected, wrong = model(x), []

    def call(index):
        for _ in range(200):
            if not np.array_equal(model(x[index : index + 1])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_sample_is_as_many(lenet):
    model, x = native.load(lenet[1]), images(4)
    expected = model(x)
    x.flags.writeable = False
    answers = [model(x[index : index + 1]) for index in range(4)]  # none overwrites another
    np.testing.assert_array_equal(np.concatenate(answers), expected)
    strided = np.repeat(x[2:3], 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(model(strided), expected[2:3])


@pytest.mark.parametrize(
    "x, match",
    [
        (np.zeros((1, 28, 28, 1)), "is float32 of shape .*; got float64"),
        (np.zeros((1, 28, 1, 1), np.float32), r"got float32 of shape \(1, 28, 1, 1\)"),
        (np.zeros((0, 28, 28, 1), np.float32), "at least 1"),
    ],
)
def test_what_a_loaded_model_does_not_take(lenet, x, match):
    with pytest.raises(ValueError, match=match):
        native.load(lenet[1])(x)


def test_a_thread_keeps_its_arena(lenet):
    model, addresses = native.load(lenet[1]), []

    def note():
        model(images(1))
        addresses.append(model.memory.own.arena)
        model(images(1))
        addresses.append(model.memory.own.arena)

    note()
    other = threading.Thread(target=note)
    other.start()
    other.join()
    assert addresses[0] == addresses[1] != addresses[2] == addresses[3]


ALLOWED = {"__bss_start", "_edata", "_end", "__TMC_END__", "completed.0", "__cpu_model"}
ALLOWED |= {"__cpu_features2"}


def test_no_global_is_written(lenet):
    """.data and .bss hold what the linker puts there, and what libgcc finds out about the processor
    when the library is loaded; addresses are filled in before they turn read-only."""
    lines = subprocess.run(
        ["nm", lenet[1] / native.LIBRARY], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    written = [line.split()[-1] for line in lines if line.split()[-2] in "bBD"]
    assert set(written) <= ALLOWED


def test_the_example_in_c_prints_what_python_says(lenet, tmp_path):
    program = tmp_path / "lenet_5"
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{lenet[1]}", EXAMPLE,
         lenet[1] / native.LIBRARY, f"-Wl,-rpath,{lenet[1]}", "-o", program], check=True,
    )  # fmt: skip
    x = images(1)
    result = subprocess.run([program], input=x.tobytes(), capture_output=True, check=True)
    printed = [float(line.split()[1]) for line in result.stdout.decode().splitlines()]
    np.testing.assert_allclose(printed, native.load(lenet[1])(x)[0], atol=1e-6)


def test_the_header_is_cxx(lenet, tmp_path):
    source = tmp_path / "main.cc"
    source.write_text('#include "model.h"\nint main() { return model_isa(0) == nullptr; }\n')
    subprocess.run(
        ["c++", "-Wall", "-Wextra", "-Werror", f"-I{lenet[1]}", source, lenet[1] / native.LIBRARY,
         f"-Wl,-rpath,{lenet[1]}", "-o", tmp_path / "main"], check=True,
    )  # fmt: skip
    subprocess.run([tmp_path / "main"], check=True)


def test_int8_is_equal_bit_for_bit(tmp_path):
    data = models.int8(models.conv_model)
    report = sc.export(data, target="x86-64", dtype="int8", out=tmp_path / "native")
    assert report.error == 0 and report.isas[-1] == "portable"
    x = np.random.default_rng(3).integers(-128, 128, (5, 9, 8, 3)).astype(np.int8)
    expected = convert.run_reference(data, x)[0]
    model = native.load(tmp_path / "native")
    for isa in model.isas:
        np.testing.assert_array_equal(model(x, isa=isa), expected)


def zeros_in_words(density, *more, seed=0):
    """A small image through layers whose kernels have lost words of four weights."""
    model = chain((9, 8, 3), *more, layers.Flatten(), density=density, width=4)
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (50, 9, 8, 3)).astype(np.float32)
    return convert.convert(model, noise), rng.integers(-128, 128, (4, 9, 8, 3)).astype(np.int8)


WORDS = {
    "one word in ten": (0.1, "planes", lambda: [layers.Conv2D(22, 3), layers.Conv2D(9, (2, 5))]),
    "half of them, a border": (0.5, "planes", lambda: [layers.Conv2D(21, 5, padding="same")]),
    "few channels": (1.0, "planes", lambda: [layers.Conv2D(3, 3, activation="relu")]),
    "far apart": (0.1, "planes", lambda: [layers.Conv2D(20, 2, dilation_rate=3)]),
    "no weights": (0.0, "planes", lambda: [layers.Conv2D(5, 3)]),
    "one pixel": (0.1, "dense", lambda: [layers.Conv2D(8, (9, 8))]),
    "a stride": (0.1, "dense", lambda: [layers.Conv2D(8, 3, 2)]),
    "a matrix": (0.05, "rows", lambda: [layers.Flatten(), layers.Dense(90), layers.Dense(33)]),
}


@pytest.mark.parametrize("name", WORDS)
def test_int8_kernels_that_skip_zeros(name, tmp_path):
    density, kernel, make = WORDS[name]
    data, x = zeros_in_words(density, *make())
    report = sc.export(data, target="x86-64", dtype="int8", out=tmp_path / "native")
    assert report.layers[0]["kernel"] == kernel
    expected, model = convert.run_reference(data, x)[0], native.load(tmp_path / "native")
    for isa in model.isas:
        np.testing.assert_array_equal(model(x, isa=isa), expected)


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_every_instruction_set_rounds_alike(rounding, tmp_path):
    data, x = zeros_in_words(
        0.1, layers.Conv2D(18, 3), layers.Conv2D(20, 2, 2), layers.Flatten(), layers.Dense(40)
    )
    project = tmp_path / "native"
    verify.write(project, native._files(tflite.read(data), "int8", rounding, "x86-64"))
    native_build.build(project, project / native.LIBRARY, "int8")
    model = native.load(project)
    expected = model(x, isa="portable")
    assert len(np.unique(expected)) > 20
    for isa in model.isas:
        np.testing.assert_array_equal(model(x, isa=isa), expected)


def test_a_dense_int8_layer_stays_dense():
    data, _ = zeros_in_words(1.0, layers.Conv2D(32, 3), layers.Conv2D(32, 3))
    made = native_int8.layers(tflite.read(data), Constants(), "double")
    assert made[1].kernel == "dense"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_random_int8_networks(seed, tmp_path):
    rng = np.random.default_rng(seed)
    shape = tuple(map(int, (*rng.integers(3, 19, 2), rng.integers(1, 20))))
    model = chain(
        shape,
        layers.Conv2D(int(rng.integers(1, 50)), 3, padding="same", activation="relu"),
        layers.Conv2D(int(rng.integers(1, 30)), 2, int(rng.integers(1, 3))),
        layers.Flatten(),
        layers.Dense(int(rng.integers(1, 70))),
    )
    noise = rng.normal(0, 1, (30, *shape)).astype(np.float32)
    out = tmp_path / "native"
    assert (
        sc.export(model, target="x86-64", dtype="int8", out=out, representative_data=noise).error
        == 0
    )


@pytest.mark.parametrize(
    "make, options, match",
    [
        (dense, {"dtype": "float16"}, '"float32" or "int8"; got'),
        (dense, {"dtype": "int8"}, "`representative_data`"),
        (dense, {"flash": 1000}, "flash: for microcontrollers only"),
        (lambda: models.int8(models.conv_model), {}, "works on int8 activations"),
        (lambda: chain((4, 4, 2), layers.Permute((3, 1, 2))), {}, "is TRANSPOSE, which has no"),
        (lambda: b"nothing", {}, "not a .tflite"),
    ],
)
def test_what_cannot_be_exported_is_said(make, options, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        sc.export(make(), target="x86-64", out=tmp_path / "native", **options)
    assert not list(tmp_path.iterdir())


def test_an_unknown_instruction_set(lenet):
    with pytest.raises(ValueError, match="`isa` is one of"):
        native.load(lenet[1])(images(1), isa="avx1024")


def test_a_folder_without_a_library(tmp_path):
    with pytest.raises(ValueError, match=r"no model\.json"):
        native.load(tmp_path)


@pytest.mark.parametrize("channels, widths", [
    (1, [8]), (23, [24]), (32, [32]), (33, [24, 16]), (41, [32, 16]), (70, [32, 24, 16]),
])  # fmt: skip
def test_panels_hold_all_channels_in_few_lanes(channels, widths):
    assert float_formats.panel_widths(channels) == widths


@pytest.mark.parametrize("run, density", [(8, 0.3), (15, 0.4), (19, 0.1), (64, 0.0), (40, 1.0)])
def test_windows_cover_every_weight_once(run, density):
    rng = np.random.default_rng(run)
    matrix = rng.normal(size=(7, 3, run)) * (rng.random((7, 3, run)) < density)
    taps = np.array([0, 100, 200])
    packed = float_formats.windows(matrix.astype(np.float32), taps, 8)
    found = np.zeros((7, 300), np.float32)
    for row in range(7):
        for group in range(packed.rows[row], packed.rows[row + 1]):
            column = packed.columns[group]
            assert column % 100 <= run - 8
            found[row, column : column + 8] += packed.values[group]
    expected = np.zeros((7, 300), np.float32)
    for tap in range(3):
        expected[:, 100 * tap : 100 * tap + run] = matrix[:, tap]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width, density", [(4, 0.1), (8, 0.3), (16, 0.05), (4, 1.0), (8, 0.0)])
def test_groups_start_anywhere_and_are_as_few_as_possible(width, density):
    rng = np.random.default_rng(width)
    matrix = (rng.normal(size=(9, 37)) * (rng.random((9, 37)) < density)).astype(np.float32)
    rows, columns, values = float_formats.cover(matrix, width)
    found, fewest = np.zeros_like(matrix), 0
    for row, column, group in zip(rows, columns, values, strict=True):
        found[row, column : column + width] += group
    np.testing.assert_array_equal(found, matrix)
    for row in matrix:
        left = np.flatnonzero(row)
        while len(left):
            fewest, left = fewest + 1, left[left >= left[0] + width]
    assert len(rows) == fewest


def test_equal_constants_are_stored_once():
    constants = Constants()
    first = constants.add(np.arange(3, dtype=np.int32))
    assert constants.add(np.zeros(3, np.float32)) != first
    assert constants.add(np.arange(3, dtype=np.int32)) == first
    assert constants.size == 128 == len(constants.data())


def test_kernels_are_compiled_once():
    assert native_build.kernel_objects("int8") == native_build.kernel_objects("int8")


def test_formats_can_be_chosen_by_hand():
    network = tflite.read(convert.convert_float(chain((301,), layers.Dense(43), density=0.1)))
    for width in (0, 4, 8, 16):
        (layer,) = lower(network, Constants(), formats=lambda w, width=width: w == width)
        assert layer.kernel == (f"groups of {width}" if width else "dense")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_convolutions(seed, tmp_path):
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(1, 21, 2), int(rng.integers(1, 40)))
    filter = [int(rng.integers(1, min(size, 6) + 1)) for size in shape[:2]]
    padding = str(rng.choice(["same", "valid"]))
    strides = 1 if rng.random() < 0.5 else int(rng.integers(1, 4))
    model = chain(
        tuple(map(int, shape)),
        layers.Conv2D(int(rng.integers(1, 80)), filter, strides, padding, activation="relu"),
        layers.MaxPooling2D(2, padding="same"),
        layers.Flatten(),
        layers.Dense(int(rng.integers(1, 70))),
        density=float(rng.choice([0.05, 0.3, 1.0])),
    )
    assert sc.export(model, target="x86-64", out=tmp_path / "native").error <= 1e-5


def test_an_arena_of_any_alignment_will_do(lenet):
    model = native.load(lenet[1])
    x, memory = images(1), np.empty(model.information["arena_bytes"] + 64, np.uint8)
    y = np.empty((1, 10), np.float32)
    arena = ctypes.c_void_p(-(-memory.ctypes.data // 64) * 64 + 4)
    pointers = [(ctypes.c_void_p * 1)(array.ctypes.data) for array in (x, y)]
    model.library.model_run(0, 1, *pointers, arena)
    np.testing.assert_array_equal(y, model(x))


SANITIZED = """
#include <stdlib.h>
#include <string.h>

#include "model.h"

int main(void) {{
  const size_t sizes[] = {{{sizes}}};
  void *ends[sizeof sizes / sizeof *sizes];
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {{
    ends[i] = malloc(sizes[i]);
    memset(ends[i], 0, sizes[i]);
  }}
  for (int isa = 0; model_isa(isa); ++isa) {{
    unsigned char *arena = malloc(MODEL_ARENA_BYTES);
    memset(arena, 1, MODEL_ARENA_BYTES);
    model_run(isa, 1, (const void *const *)ends, ends + MODEL_INPUTS, arena);
    free(arena);
  }}
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) free(ends[i]);
}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [products, convolutions, squares, lines, windows, branches, two_inputs, None]
)
def test_no_byte_is_touched_outside_of_the_buffers(make, tmp_path):
    folder = tmp_path / "native"
    if make is None:
        data = models.int8(models.conv_model)
        sc.export(data, target="x86-64", dtype="int8", out=folder)
    else:
        sc.export(make(), target="x86-64", out=folder)
    information = native.load(folder).information
    entries = [*information["inputs"], *information["outputs"]]
    main = tmp_path / "main.c"
    main.write_text(SANITIZED.format(sizes=", ".join(str(entry["bytes"]) for entry in entries)))
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = list(sanitized_kernels(information["dtype"], tuple(flags)))
    for file in [main, *folder.glob("*.[cS]"), *folder.glob("runtime/*.c")]:
        objects.append(tmp_path / f"{file.name}.o")
        command = ["cc", "-std=c99", *flags, f"-I{folder}", "-c", file, "-o", objects[-1]]
        subprocess.run(command, check=True)
    program = tmp_path / "main"
    subprocess.run(["c++", *flags, *objects, "-lm", "-o", program], check=True)
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:3000]


@functools.cache
def sanitized_kernels(dtype, flags):
    folder = Path(tempfile.mkdtemp())
    kind = {"float32": "float", "int8": "int8"}[dtype]
    for file in (kernels.sources() / "native").glob(f"{kind}_*.cc"):
        command = ["c++", "-std=c++17", *flags, "-c", file, "-o", folder / f"{file.stem}.o"]
        subprocess.run(command, check=True)
    return sorted(folder.glob("*.o"))
