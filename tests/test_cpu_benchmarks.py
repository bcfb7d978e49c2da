"""The CPU benchmarks: their arithmetic, and that every alternative computes the same."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cpu_goals  # noqa: E402
import cpu_layer  # noqa: E402
import cpu_layer_rivals  # noqa: E402
import cpu_layers  # noqa: E402
import cpu_ours  # noqa: E402
import cpu_plots  # noqa: E402
import cpu_report  # noqa: E402
import cpu_rivals  # noqa: E402
import paired  # noqa: E402

from scalpel_tf.core import gcsr  # noqa: E402


@pytest.fixture(autouse=True)
def tensorflow_as_it_is(monkeypatch):
    """Its number of threads is that of the test which used it first."""
    for module in (cpu_rivals, cpu_layer_rivals):
        monkeypatch.setattr(module, "tensorflow", lambda threads: tf)


@pytest.mark.parametrize(
    "rows, cols, density, width, groups",
    [
        (4, 32, 0.5, 8, 8),
        (3, 20, 1.0, 8, 9),  # the last group of a row is 4 columns wide
        (5, 7, 0.2, 8, 1),
        (2, 16, 0.0, 4, 1),  # a matrix without any group is no benchmark
        (100, 784, 0.07, 16, 343),
    ],
)
def test_a_mask_has_the_density_to_the_group(rows, cols, density, width, groups):
    rng = np.random.default_rng(0)
    mask = cpu_ours.random_mask(rows, cols, density, width, rng)
    assert mask.shape == (rows, cols)
    assert len(gcsr.encode(mask.astype(np.float32), width).values) == groups


def test_int8_is_within_half_a_step_of_the_row():
    rng = np.random.default_rng(0)
    matrix = cpu_ours.random_matrix(5, 19, 0.6, 4, rng)
    matrix[2] = 0
    sparse, scales = cpu_ours.narrow(gcsr.encode(matrix, 4), "int8")
    error = np.abs(cpu_ours.widen(sparse, scales) - matrix)
    assert (error <= scales[:, None] * 0.500001).all() and error.max() > 0


@pytest.mark.parametrize(
    "density, dense_roofline, cached, limit",
    [(0.5, 1000.0, 100.0, 610.9375), (0.05, 1000.0, 100.0, 115.0)],
)
def test_spmv_limit_is_the_slower_roofline(density, dense_roofline, cached, limit):
    assert cpu_goals.spmv_limit(density, dense_roofline, cached) == pytest.approx(limit)


@pytest.mark.parametrize(
    "relative, expected",
    [([0.2, 0.8, 1.2], 0.75), ([0.2, 0.4, 0.9], 1.0), ([1.1, 1.5, 2.0], 0.1)],
)
def test_break_even_lies_between_measured_points(relative, expected):
    assert cpu_goals.break_even([0.1, 0.5, 1.0], relative) == pytest.approx(expected)


def spmv_row(dtype, density, ours, size):
    fixed = {"dense_roofline": 100.0, "roofline": 10.0, "relative": ours / 100}
    return {"dtype": dtype, "density": density, "ours": ours, "bytes": size, **fixed}


def test_spmv_goals_of_rows():
    rows = [spmv_row("float32", 0.1, 10.0, 7), spmv_row("int8", 0.1, 9.0, 3)]
    rows += [spmv_row("float32", 0.5, 70.0, 35), spmv_row("int8", 0.5, 14.0, 11)]
    goals = {goal["goal"]: goal for goal in cpu_goals.spmv_goals(rows, cache=32)}
    met = {name: goal["met"] for name, goal in goals.items()}
    assert met == {
        "SpMV at 10%, us": True,  # 10 of 1.15 * 0.1 * 1.0625 * 100 = 12.2
        "SpMV at 10%, times faster than dense": True,  # 10 of 9
        "SpMV at 50%, us": False,  # 70 of 61.1
        "SpMV at 50%, times faster than dense": False,  # 1.43 of 1.6
        "SpMV at 50%, int8 of float32's time": True,  # 0.2 of 0.35; at 10 % it is in cache
    }
    assert goals["SpMV at 50%, us"]["limit"] == pytest.approx(61.09375)


def test_a_row_pairs_the_rounds():
    ours = np.array([1e-6, 2e-6, 4e-6])
    rivals = {"slow": ours * 9, "fast": np.array([3e-6, 4e-6, np.nan])}
    row = paired.row("case", ours, rivals, density=0.3)
    assert (row["rival"], row["unit"], row["source"]) == ("fast", "us", "measured")
    assert row["ours"] == pytest.approx(2) and row["rivals"]["fast"] == pytest.approx(3.5)
    assert row["ratio"] == pytest.approx(2.5) and row["spread"] == pytest.approx(0.5)
    assert row["density"] == 0.3


def test_a_rival_has_its_best_number_of_threads():
    times = [np.array([3.0, 3.0]), np.array([2.0, 2.0]), np.array([5.0, 5.0])]
    best = paired.fastest(["a", "a", "b"], times)
    assert best["a"] is times[1] and best["b"] is times[2]


def test_rows_of_two_threads_take_the_better_rival():
    shared = {"case": "c", "layer": "l", "batch": 1, "through": "C ABI"}
    one = [{**shared, "rivals": {"a": 4.0, "b": 9.0}, "rival": "a", "ours": 4.0, "ratio": 1.0}]
    two = [{**shared, "rivals": {"a": 6.0, "b": 5.0}, "rival": "b", "ours": 2.0, "ratio": 2.5}]
    (row,) = cpu_layers.best_counts(one, two)
    assert row["rivals"] == {"a": 4.0, "b": 5.0}
    assert (row["rival"], row["ratio"]) == ("a", 2.0)


def test_check_finds_a_wrong_answer():
    expected = np.ones((1, 3))
    wrong = [paired.in_python("wrong", 1, lambda: np.array([[1.0, 1.0, 1.1]]))]
    paired.check(wrong, expected, np.full((1, 3), 0.2))
    for answer in (1.1, np.nan):
        wrong = [paired.in_python("wrong", 1, lambda a=answer: np.array([[1.0, 1.0, a]]))]
        with pytest.raises(RuntimeError, match="wrong"):
            paired.check(wrong, expected, np.full((1, 3), 0.01))


def test_measure_has_rounds_of_every_alternative():
    def run(seconds):
        return lambda repetitions: seconds * repetitions

    alternatives = [paired.Alternative(str(s), 1, run(s), None) for s in (1e-3, 2e-3, 5e-2)]
    fast, other, slow = paired.measure(alternatives, budget=0.3)
    assert len(fast) == paired.ROUNDS and np.allclose(fast, 1e-3) and np.allclose(other, 2e-3)
    assert np.isfinite(slow).sum() == paired.FEWEST_ROUNDS


@pytest.mark.parametrize("rival", cpu_rivals.DENSE + cpu_rivals.SPARSE)
@pytest.mark.parametrize("kind, n", [("rows", 1), ("rows", 3), ("columns", 67)])
def test_a_rival_computes_the_product(rival, kind, n):
    rng = np.random.default_rng(0)
    matrix = cpu_ours.random_matrix(11, 37, 0.4, 8, rng)
    shape = (n, 37) if kind == "rows" else (37, n)
    product = cpu_ours.Product(matrix, rng.random(shape, np.float32), kind)
    try:
        alternative = rival(product, 1)
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(str(error))
    paired.check([alternative], *product.expected())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kind, n", [("rows", 1), ("rows", 5), ("columns", 67)])
def test_ours_computes_the_product(kernels, dtype, kind, n):
    rng = np.random.default_rng(0)
    sparse, scales = cpu_ours.narrow(
        gcsr.encode(cpu_ours.random_matrix(11, 37, 0.4, 8, rng), 8), dtype
    )
    shape = (n, 37) if kind == "rows" else (37, n)
    x = rng.random(shape, np.float32)
    product = cpu_ours.Product(cpu_ours.widen(sparse, scales), x, kind)
    ours = cpu_ours.multiply(kernels, sparse, scales, product, threads=1, name=dtype)
    paired.check([ours], *product.expected())


SHAPES = {
    "same, stride 2": cpu_layer.Shape("n", "same", (7, 7, 5), 6, 1, (3, 3), (2, 2), "same"),
    "valid": cpu_layer.Shape("n", "valid", (6, 6, 8), 9, 1, (5, 5)),
    "1x1": cpu_layer.Shape("n", "1x1", (5, 5, 12), 4, 1, (1, 1)),
    "dense": cpu_layer.Shape("n", "dense", (21,), 10, 1),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_runtime_computes_the_layer(kernels, shape, tmp_path):
    layer = cpu_layer.random_layer(shape, 2, 0.5, 4)
    alternatives = [
        cpu_layer_rivals.c_abi(layer, 1, kernels),
        cpu_layer_rivals.keras_layer(layer, 1),
        cpu_layer_rivals.litert(layer, 1, tmp_path),
    ]
    try:
        alternatives.append(cpu_layer_rivals.onnx_runtime(layer, 1))
    except ImportError:
        pass
    try:
        alternatives.append(cpu_layer_rivals.sparse_keras(layer, 1))
    except RuntimeError as error:
        assert "op is missing" in str(error)
    cpu_layer.check(layer, alternatives)
    layer.bias[:] += 1
    with pytest.raises(RuntimeError, match="TensorFlow"):
        cpu_layer.check(layer, alternatives[1:2])


@pytest.mark.parametrize(
    "network, layers, weights",
    [
        ("alexnet", 7, 60_954_656 - 34_848),  # all but conv1
        ("vgg16", 12, 138_344_128),
        ("resnet50", 19, 23_454_912 - 9_408),  # its convolutions but conv1
        ("mobilenet_v2", 19, 2_124_672),
    ],
)
def test_shapes_have_all_weights_of_the_network(network, layers, weights):
    shapes = cpu_layer.read(network)
    assert len(shapes) == layers == len({shape.name for shape in shapes})
    assert sum(shape.times * shape.units * shape.cols for shape in shapes) == weights


def test_curves_are_relative_to_the_fastest_dense():
    rivals = {"MKL dense": 4.0, "OpenBLAS": 2.0, "MKL sparse": 1.0}
    shared = {"rivals": rivals, "dense": "OpenBLAS", "density": 0.1}
    rows = [{**shared, "dtype": "float32", "relative": 0.4}]
    rows += [{**shared, "dtype": "int8", "relative": 0.2}]
    assert cpu_plots.curves(rows) == {
        "ours, float32": [(0.1, 0.4)],
        "ours, int8": [(0.1, 0.2)],
        "MKL dense": [(0.1, 2.0)],
        "OpenBLAS": [(0.1, 1.0)],
        "MKL sparse": [(0.1, 0.5)],
    }


def test_a_report_fills_each_place_once():
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
    filled = cpu_report.fill(page, {"x": "1", "y": "2"})
    assert filled == "a\n<!-- x -->\n1\n<!-- end -->\nb\n<!-- y -->\n2\n<!-- end -->\n"
    with pytest.raises(ValueError, match="found 0"):
        cpu_report.fill(page, {"z": "1"})
