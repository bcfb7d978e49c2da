"""The tables of benchmarks/paper: their arithmetic, and that what is measured is what is meant."""

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS / "paper"), str(BENCHMARKS)]

import checkpoints  # noqa: E402
import cpu  # noqa: E402
import cpu_network_baselines  # noqa: E402
import cpu_network_cases  # noqa: E402
import cpu_network_mkl  # noqa: E402
import figures  # noqa: E402
import folds  # noqa: E402
import gpu  # noqa: E402
import microcontroller  # noqa: E402
import paired  # noqa: E402
import paper  # noqa: E402
import published  # noqa: E402
import small_networks  # noqa: E402

from scalpel_tf.deploy import convert  # noqa: E402


@pytest.mark.parametrize("target", published.TABLE_3)
def test_means_are_geometric(target):
    rows = published.TABLE_3[target].values()
    speed = published.geometric_mean(row.speedup for row in rows)
    size = published.geometric_mean(row.size for row in rows)
    assert round(speed, 2) == published.MEANS[target].speedup
    assert round(size, 4) == published.MEANS[target].size


def row(**facts):
    fixed = {"case": "LeNet-5", "target": "cortex-m4", "unit": "cycles", "method": "groups"}
    errors = {"errors": [0.70, 0.80], "errors_dense": [0.76, 0.74]}
    return fixed | errors | {"ratio": 8.0, "size_ratio": 0.055} | facts


@pytest.mark.parametrize(
    "facts, missed, met",
    [
        ({}, [], True),
        ({"ratio": 7.49}, ["speedup"], False),
        ({"size_ratio": 0.061, "errors": [0.75, 0.76]}, ["error", "size"], False),
        ({"target": "gpu", "unit": "MACs"}, [], None),  # nothing is asked of a GPU's row
        ({"case": "NIN", "target": "x86-64", "size_ratio": 2.0}, [], True),
    ],
)
def test_a_row_is_judged_by_what_was_asked(facts, missed, met):
    judged = paper.judge(row(**facts))
    assert [name for name, fine in judged["verdict"].items() if not fine] == missed
    assert judged.get("met") is met


def test_the_table_says_what_is_missing_and_what_is_missed():
    absent = {"case": "ConvNet", "target": "cortex-m4", "missing": ["c.npz: python train.py"]}
    text = paper.summary([paper.judge(row(ratio=2.0)), paper.judge(absent)])
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][:8] == ["microcontroller", "LeNet-5", *"0.75 ± 0.01 0.75 ± 0.07".split()]
    assert lines[1][8:10] == ["2.00x", "5.50%"] and lines[1][-2:] == ["MISSED:", "speedup"]
    assert lines[2][-1] == "missing"
    assert lines[3][1:5] == ["geometric", "mean", "of", "1"]
    assert text.splitlines()[4].endswith("missing: train it with c.npz: python train.py")


@pytest.mark.parametrize("quartiles, notes", [((1.9, 2.1), 1), ((1.5, 2.1), 2)])
def test_a_noisy_row_asks_for_another_run(quartiles, notes):
    facts = {"quartiles": quartiles, "ours": 1.0, "rivals": {"a": 2.0}, "rival": "a"}
    found = paper.comments(row(from_python=1.5, **facts))
    assert len(found) == notes and "groups, 1.00 us, against a, 2.00 us" in found[0]


def test_nodes_removed_stand_beside_the_papers():
    removed = {"removed": [[0.5, 0.7], [0.25, 1.0]], "paper": (0.31, 0.32), "size_ratio": 0.5}
    text = paper.nodes_table([row(case="LeNet-300-100", **removed)])
    assert "31-32 %  50-70 %  25-100 %" in text and "50.00%" in text


def way(method, ours, **facts):
    fixed = {"case": "n", "kernel": "sparse", "through": "C", "rival": "a", "target": "x86-64-avx2"}
    fixed |= {"dtype": "float32", "threads": 1, "batch": 1, "unit": "us", "source": "measured"}
    fixed |= {"size_ratio": 0.5}
    return fixed | {"method": method, "ours": ours, "rivals": {"a": 8.0}, "ratio": 8 / ours} | facts


def test_the_other_ways_are_listed_with_what_decided():
    facts = {"errors": [1.1, 1.3], "errors_dense": [1.2, 1.2], "size_ratio": 0.065, "worse": 0.09}
    chip = row(ratio=15.8, weights="fewer_w4", **facts)
    rows = [chip, way("nodes", 2.0, **facts), way("x", 1.0, through="Python", **facts)]
    _, first, second = paper.others_table([*rows, way("random weights", 1.0)]).splitlines()
    for words in ("microcontroller", "fewer_w4", "+0.09", "1.20 ± 0.14", "15.80x", "6.50%"):
        assert words in first
    assert "CPU" in second and "nodes" in second and "4.00x" in second


def test_fashion_mnist_has_a_line_for_each_way_or_what_makes_it():
    found = row(worse=-0.5, errors=[9.0], errors_dense=[9.5], ratio=11.0, size_ratio=0.1)
    _, first, second = paper.fashion_table([found | {"weights": w} for w in "ab"]).splitlines()
    assert re.search(r"a +-0.50 +9.50 +9.00 +11.00x +10.00%$", first) and " b " in second
    for folder, command in (
        ("fashion_mnist", "--dataset fashion_mnist --train"),
        ("fashion_mnist/weight_pruning", "weight_pruning.py --dataset fashion_mnist"),
    ):
        missing = checkpoints.advice(f"{folder}/lenet_300_100_w4_s1.npz")
        assert command in missing
        assert missing in paper.fashion_table([{"case": "LeNet-300-100", "missing": [missing]}])


@pytest.mark.parametrize(
    "worse, size, method",
    [
        ({}, None, "fast"),  # random weights
        ({"fast": 0.1, "slow": -0.1}, None, "slow"),
        ({"fast": 0.2, "slow": 0.1}, 0.1, "slow"),
        ({"fast": 0.1, "slow": 0.2}, 0.3, "fast"),
        ({}, 0.3, "slow"),
        ({}, 0.1, "fast"),  # none is as small
    ],
)
def test_the_fastest_way_that_is_no_worse_and_as_small_as_asked(worse, size, method):
    rows = [way("slow", 2.0, size_ratio=0.2), way("fast", 1.0), way("fast", 0.5, through="Python")]
    assert cpu.best(rows, worse, size)["method"] == method
    assert cpu.best([], worse, size) is None


def test_the_microcontrollers_row_is_no_worse_if_one_is(monkeypatch, tmp_path):
    lenet = checkpoints.NETWORKS["LeNet-300-100"]
    lenet = dataclasses.replace(lenet, groups=("fast", "slow"))
    worse = {"slow": 0.0}

    def way(network, stem, seeds, data, load, original, split):
        return {"ratio": 13.0 if stem == "fast" else 11.0, "weights": stem}

    for stem in (lenet.dense, *lenet.groups):
        path = checkpoints.path(tmp_path, stem, 1)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setattr(microcontroller, "way", way)
    for name in ("run", "elements", "baselines"):
        monkeypatch.setattr(microcontroller, name, lambda *arguments: {})
    monkeypatch.setattr(checkpoints, "to_int8", lambda *arguments: b"")
    model = network()[0]
    monkeypatch.setattr(checkpoints, "load", lambda *arguments: model)
    monkeypatch.setattr(checkpoints, "worse", lambda folder, network, stem, seeds: worse[stem])
    cases = ((0.1, 0.0, "slow"), (0.0, 0.0, "fast"), (0.2, 0.1, "slow"), (0.1, 0.2, "fast"))
    for worse["fast"], worse["slow"], chosen in cases:
        found, others, _ = microcontroller.rows(lenet, None, tmp_path, "validation")
        assert found["weights"] == chosen and len(others) == 1 and len(found["absent"]) == 4


def test_a_gpus_row_has_the_fewest_nodes_that_are_no_worse(monkeypatch, tmp_path):
    lenet = dataclasses.replace(checkpoints.NETWORKS["LeNet-5"], nodes=("few", "many", "untrained"))
    monkeypatch.setitem(checkpoints.NETWORKS, "LeNet-5", lenet)
    for stem in (lenet.dense, "few", "many"):
        path = checkpoints.path(tmp_path, stem, 0)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    images = np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, int)
    data = SimpleNamespace(x_test=images[0], y_test=images[1], x_valid=None, y_valid=None)
    built = {"few": (5, 10, 50), "many": (8, 20, 90), lenet.dense: (20, 50, 500)}

    def load(folder, network, stem, seed):
        nodes = zip(("conv1", "conv2", "fc1"), built[stem], strict=True)
        return small_networks.build("lenet_5", dict(nodes))

    worse = {}
    monkeypatch.setattr(checkpoints, "load", load)
    monkeypatch.setattr(checkpoints, "worse", lambda folder, network, stem, seeds: worse[stem])
    cases = ((0.1, 0.0, "many"), (0.0, -0.1, "few"), (0.2, 0.1, "many"), (0.1, 0.2, "few"))
    for worse["few"], worse["many"], chosen in cases:
        found, (other,), nodes = gpu.rows("LeNet-5", data, tmp_path, "test")
        assert found["weights"] == chosen != other["weights"] and found["seeds"] == [0]
        assert [absent.split(".")[0] for absent in found["absent"]][-1] == "untrained_s2"
        kept = zip(built[chosen], (20, 50, 500), strict=True)
        assert nodes["removed"] == [[1 - left / nodes for left, nodes in kept]]


def test_folds_validate_every_training_image_once_and_decide(monkeypatch, tmp_path):
    images, labels = np.arange(17)[:, None], np.arange(17) % 10
    data = SimpleNamespace(x_train=images[:12], x_valid=images[12:])
    data.y_train, data.y_valid = labels[:12], labels[12:]
    monkeypatch.setattr(folds, "replace", lambda data, **parts: SimpleNamespace(**parts))
    parts = [folds.fold(data, index) for index in range(folds.FOLDS)]
    assert sorted(np.concatenate([part.x_valid for part in parts])[:, 0]) == list(range(17))
    for part in parts:
        both = np.concatenate([part.x_train, part.x_valid])[:, 0]
        assert sorted(both) == list(range(17))
        assert (part.y_valid == labels[part.x_valid[:, 0]]).all()
        assert (part.y_train == labels[part.x_train[:, 0]]).all()

    lenet, stem = checkpoints.NETWORKS["LeNet-300-100"], "weight_pruning/lenet_300_100_w4"

    def store(folder, stem, seed, error):
        path = checkpoints.path(folder, stem, seed)
        about = {"validation_error": error}
        small_networks.save(
            small_networks.build("lenet_300_100", {}), path, tmp_path / "x", **about
        )

    store(tmp_path, stem, 0, 1.2)
    store(tmp_path, lenet.dense, 0, 1.0)
    for index in range(folds.FOLDS):
        assert checkpoints.worse(tmp_path, lenet, stem, [0]) == pytest.approx(0.2)
        part = tmp_path / "folds" / str(index)
        store(part, lenet.dense, index, 1.3)
        store(part, stem, index, 1.2 + 0.01 * index)
    assert checkpoints.worse(tmp_path, lenet, stem, [0]) == pytest.approx(-0.1 + 0.025)


def test_optimized_is_never_slower_than_the_original():
    chosen = way("nodes", 1.0)
    slow = [way("traditional", 80.0, kernel="traditional"), way("x", 16.0, kernel="optimized")]
    original, traditional, optimized = cpu.figures([chosen, *slow], chosen)
    assert (original["ours"], original["ratio"], traditional["ratio"]) == (8.0, 1.0, 0.1)
    assert (optimized["ratio"], optimized["by_layer"]) == (1.0, 0.5)


def test_the_faster_of_each_layer_has_its_pooling_with_it():
    def layer(name, cycles, density=1.0):
        sizes = {"bytes": cycles + 1, "constants": cycles + 2}
        return {"name": name, "cycles": cycles, "density": density} | sizes

    csr = {"cycles": 57, "layers": [layer("a", 20), layer("p", 7, None), layer("b", 30)]}
    dense = {"cycles": 73, "layers": [layer("a", 25), layer("b", 40)]}
    best = microcontroller.faster(csr, dense)
    assert [(part["name"], part["cycles"]) for part in best["layers"]] == [("a", 25), ("b", 30)]
    assert (best["cycles"], best["bytes"]) == (63, 26 + 31)  # 8 of the dense one's are no layer's


@pytest.mark.parametrize("sign", [1, -1])
def test_dead_nodes_are_cut_where_that_is_faster(sign, monkeypatch):
    model = small_networks.build("lenet_300_100", {"fc1": 6, "fc2": 5})
    kernel = model.get_layer("fc1").kernel
    kernel.assign(kernel.numpy() * (np.arange(6) != 2))
    monkeypatch.setattr(checkpoints, "to_int8", lambda model, data: model)
    monkeypatch.setattr(
        microcontroller, "run", lambda int8, formats: {"cycles": sign * int8.count_params()}
    )
    found, int8 = microcontroller.fastest(model, None)
    assert found["cycles"] == sign * int8.count_params()
    assert small_networks.widths(int8)["fc1"] == (5 if sign == 1 else 6)


def test_what_is_missing_says_how_it_is_made(tmp_path):
    lenet = checkpoints.NETWORKS["LeNet-5"]
    (tmp_path / "node_pruning").mkdir()
    for seed in (0, 2):
        (tmp_path / "node_pruning" / f"lenet_5_dense_s{seed}.npz").touch()
    there, absent = checkpoints.seeds(tmp_path, lenet, lenet.dense)
    assert there == [0, 2]
    assert absent == ["lenet_5_dense_s1.npz: python benchmarks/paper/node_pruning.py --train"]
    case = cpu_network_cases.lenet_5(tmp_path)
    assert case.dense and not case.pruned
    timed = [way("x", 1.0, kernel="optimized", **{"case": "LeNet-5", **case.facts})]
    missing, _, _ = cpu.rows("LeNet-5", timed, None, tmp_path, "validation")
    assert missing["missing"][0] == "lenet_5_cpu_s0.npz: python benchmarks/paper/weight_pruning.py"
    assert len(missing["missing"]) == 3
    assert cpu_network_cases.convnet(tmp_path).dense is None

    model = small_networks.build("lenet_5", {"conv1": 3, "conv2": 4, "fc1": 6})
    model.get_layer("fc1").kernel.assign(np.zeros((64, 6)))
    small_networks.save(model, tmp_path / "weight_pruning" / "lenet_5_cpu_s0.npz", tmp_path / "b")
    case = cpu_network_cases.lenet_5(tmp_path)
    assert list(case.pruned) == list(case.weights) == ["nodes+groups", "nodes+groups, cut"]
    assert case.pruned["nodes+groups, cut"]().count_params() < model.count_params()
    missing, _, _ = cpu.rows("ConvNet", [], None, tmp_path, "validation")
    assert missing["missing"][0].startswith("convnet_dense_s0.npz: python")


def test_random_groups_keep_the_density():
    model = cpu_network_cases.random_groups(network()[0], {"fc1": 0.5}, 8)
    kernel = model.get_layer("fc1").kernel.numpy().T
    groups = [kernel[:, start : start + 8] for start in range(0, kernel.shape[1], 8)]
    kept = [bool(row.any()) for group in groups for row in group]
    assert sum(kept) == round(0.5 * len(kept))
    assert all(row.all() for group in groups for row in group if row.any())


def network():
    """Every layer of the zoo's networks once."""
    image = keras.Input((7, 6, 4), name="image")
    x = layers.Conv2D(8, 3, strides=(2, 1), padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(10, 3, padding="same", groups=2, activation="relu", name="conv2")(x)
    x = layers.AveragePooling2D(2, strides=1, padding="same")(layers.Dropout(0.5)(x))
    x = layers.Dense(5, activation="relu", name="fc1")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(3, name="fc2")(x))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        if variable.name == "moving_variance":
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return model, rng.random((1, 7, 6, 4), np.float32)


def test_onnx_computes_the_network():
    onnx_network = pytest.importorskip("onnx_network")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = network()
    session = onnxruntime.InferenceSession(onnx_network.from_keras(model))
    found = session.run(None, {"x": x.transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-6)
    image = keras.Input((4, 4, 2))
    with pytest.raises(ValueError, match="UpSampling2D, which has no rule"):
        onnx_network.from_keras(keras.Model(image, layers.UpSampling2D()(image)))


@pytest.mark.parametrize("variants, sparse", [(0, ()), (3, ()), (0, ("conv1", "conv2", "fc1"))])
def test_mkl_computes_the_network(variants, sparse):
    model, x = network()
    try:
        chain = cpu_network_mkl.plain(model)
        found = cpu_network_mkl.alternative("MKL", chain, x, variants, sparse)
        seconds = cpu_network_mkl.seconds(chain, x, variants, sparse, calls=3)
    except OSError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(found.result(), model(x)[0], rtol=1e-5, atol=1e-6)
    assert len(seconds) == 6 and min(seconds.values()) > 0


def test_the_fastest_layout_of_mkl(monkeypatch):
    tried = []

    def alternative(name, chain, x, variants, sparse):
        tried.append(variants)
        taken = [4.0, 3.0, 1.0, 2.0][variants]
        return paired.Alternative(f"{variants}", 1, lambda repetitions: taken, None)

    monkeypatch.setattr(cpu_network_mkl, "alternative", alternative)
    chain = cpu_network_mkl.plain(network()[0])
    assert cpu_network_mkl.fastest("MKL", chain, None).name == "2" and tried == [0, 1, 2, 3]
    tried.clear()
    assert cpu_network_mkl.fastest("MKL", chain, None, ("conv1", "conv2")).name == "2"
    assert tried == [0, 2]


def test_csr_holds_the_largest_weights():
    (layer,) = (part for part in cpu_network_mkl.plain(network()[0]) if part.name == "conv2")
    cut = cpu_network_baselines.cut(layer, {"": 0.25})
    kept = np.abs(cut.kernel[cut.kernel != 0])
    assert kept.size == layer.kernel.size // 4
    assert kept.min() > np.abs(layer.kernel[cut.kernel == 0]).max()
    assert cpu_network_baselines.csr_bytes(cut) == 8 * kept.size + 4 * (10 + 2)
    facts = cpu_network_baselines.facts([cut], {"conv2"})
    assert facts["size_ratio"] == facts["bytes"] / (4 * layer.kernel.size)


def test_reference_kernels_decide_close_answers(monkeypatch):
    image = keras.Input((4,))
    model = keras.Model(image, layers.Dense(3)(image))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    labels = np.argmax(model.predict(x, verbose=0), -1)
    labels[:90] = 3  # no answer at all
    int8 = convert.convert(model, x)
    exact = checkpoints.int8_error(int8, x, labels)
    assert 30 <= exact < 35
    optimised = checkpoints.optimised

    def wrong_by(steps):
        def answers(*arguments):
            found = optimised(*arguments).astype(int)
            return found + rng.integers(-steps, steps + 1, found.shape)

        monkeypatch.setattr(checkpoints, "optimised", answers)
        return checkpoints.int8_error(int8, x, labels)

    assert wrong_by(3) == exact
    with pytest.raises(RuntimeError, match="differ by more than 4 steps"):
        wrong_by(30)


def test_figures_are_drawn_of_what_is_there(tmp_path):
    pytest.importorskip("matplotlib")
    shared = {"case": "LeNet-5", "size_ratio": 0.5, "ratio": 2.0}
    rows = [shared | {"target": "cortex-m4", "kernel": "original"}]
    rows += [shared | {"target": "gpu", "kernel": "Scalpel"}]
    for name in figures.FIGURES:
        figures.draw(rows, name, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
