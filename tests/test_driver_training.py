"""How a step trains: what it has to reach, what it learns from, and which epoch it ends with."""

import keras
import numpy as np
import pytest

from scalpel_tf.driver import distillation, training
from scalpel_tf.driver.data import Data
from scalpel_tf.driver.goal import Goal

X = np.random.default_rng(0).normal(0, 1, (64, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 64)
ENTROPY = keras.losses.SparseCategoricalCrossentropy


def network(loss, *, activation=None, softmax=False):
    inputs = keras.Input((6,))
    h = keras.layers.Dense(8, activation="relu")(inputs)
    outputs = keras.layers.Dense(3, activation=activation)(h)
    if softmax:
        outputs = keras.layers.Softmax()(outputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


@pytest.mark.parametrize(
    "mode, drop, good, bad", [("max", 0.02, 0.88, 0.879), ("min", 0.1, 1.0, 1.01)]
)
def test_a_goal_knows_which_way_is_better(mode, drop, good, bad):
    goal = Goal("accuracy", mode, 0.9, drop)
    assert goal.is_good(good) and not goal.is_good(bad) and not goal.is_good(float("nan"))
    assert goal.is_back(0.9) and not goal.is_back(bad)
    assert goal.score(good) > goal.score(bad) > goal.score(float("nan"))
    assert f"{bad:.4f}, where {good:.4f} is needed" in goal.why_not(bad)


@pytest.mark.parametrize(
    "model, kind",
    [
        (network("sparse_categorical_crossentropy", activation="softmax"), "probabilities"),
        (network(ENTROPY(), softmax=True), "probabilities"),
        (network(ENTROPY(from_logits=True)), "logits"),
        (network("mse"), None),
    ],
    ids=["softmax", "Softmax", "logits", "regression"],
)
def test_classifiers_are_told_from_others(model, kind):
    assert distillation.outputs(model) == [kind]


def test_each_of_several_outputs_is_looked_at():
    inputs = keras.Input((6,))
    outputs = {
        "size": keras.layers.Dense(1, name="size")(inputs),
        "kind": keras.layers.Dense(3, name="kind")(inputs),
        "form": keras.layers.Dense(4, activation="softmax", name="form")(inputs),
    }
    model = keras.Model(inputs, outputs)
    losses = {"size": "mse", "kind": ENTROPY(from_logits=True)}
    model.compile("sgd", {**losses, "form": "sparse_categorical_crossentropy"})
    kinds = dict(zip(model.output_names, distillation.outputs(model), strict=True))
    assert kinds == {"size": None, "kind": "logits", "form": "probabilities"}
    student = keras.models.clone_model(model)
    student.compile("sgd", {**losses, "form": "sparse_categorical_crossentropy"})
    assert distillation.distil(student, model, 1.0)
    targets = {"size": X[:, :1], "kind": Y, "form": Y}
    assert np.isfinite(student.fit(X, targets, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_loss_gains_the_softened_answers(activation):
    loss = ENTROPY(from_logits=activation is None)
    teacher, student = (network(loss, activation=activation) for _ in range(2))
    own = student.evaluate(X, Y, verbose=0, batch_size=64)[0]
    assert distillation.distil(student, teacher, 0.5)
    assert student.evaluate(X, Y, verbose=0, batch_size=64)[0] == own
    student.optimizer.learning_rate = 0.0
    trained = student.fit(X, Y, verbose=0, batch_size=64).history["loss"][0]

    def soft(model):
        logits = model.predict(X, verbose=0)
        logits = np.log(logits) if activation else logits
        powers = np.exp(logits / distillation.TEMPERATURE)
        return powers / powers.sum(1, keepdims=True)

    entropy = -(soft(teacher) * np.log(soft(student))).sum(1).mean()
    assert trained == pytest.approx(own + 0.5 * distillation.TEMPERATURE**2 * entropy, rel=1e-4)
    distillation.forget(student)
    student.compile(student.optimizer, loss)
    assert student.fit(X, Y, verbose=0, batch_size=64).history["loss"][0] == pytest.approx(own)


def test_nothing_to_learn_from_a_regression_or_at_no_strength():
    assert not distillation.distil(network("mse"), network("mse"), 1.0)
    loss = ENTROPY(from_logits=True)
    assert not distillation.distil(network(loss), network(loss), 0.0)


@pytest.mark.parametrize(
    "values, epochs, best",
    [
        ([0.5, 0.7, 0.6, 0.4, 0.3, 0.2], 6, 1),  # never good: both cycles, the best epoch
        ([0.5, 0.85, 0.6], 3, 1),  # good after the first cycle
        ([0.5, 0.95], 2, 1),  # back at once
        ([0.5, 0.4, 0.3, 0.2, 0.86, 0.1], 6, 4),  # good in the second
    ],
)
def test_a_step_ends_with_its_best_epoch(values, epochs, best, monkeypatch):
    model = network(ENTROPY(from_logits=True))
    seen = []

    def evaluate(**arguments):
        seen.append(model.get_weights())
        return {"accuracy": values[len(seen) - 1]}

    monkeypatch.setattr(model, "evaluate", evaluate)
    recover = training.Recover(3, Goal("accuracy", "max", 0.9, 0.05), Data((X, Y), (X, Y)))
    model.fit(X, Y, verbose=0, epochs=6, callbacks=[recover])
    assert len(seen) == epochs
    for found, expected in zip(model.get_weights(), seen[best], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_rate_falls_in_each_cycle():
    model, rates = network(ENTROPY(from_logits=True)), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    recover = training.Recover(2, Goal("accuracy", "max", 2.0, 0.0), Data((X, Y), (X, Y)))
    model.fit(X, Y, verbose=0, epochs=4, callbacks=[recover, note])
    assert rates == pytest.approx([0.1, 0.05, 0.1, 0.05])


def several():
    """Two inputs, one of them float64, and weights of the examples."""
    wide = np.arange(100, dtype=np.float64)[:, None]
    return [wide, np.arange(100, dtype=np.int32)], np.arange(100), np.arange(100.0) / 100


def test_arrays_come_in_an_order_of_the_seed():
    data, epochs = Data(several(), several(), {"batch_size": 32, "class_weight": None}), []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        arguments = data.train()
        assert set(arguments) == {"x", "shuffle", "class_weight"}
        found = list(arguments["x"].as_numpy_iterator())
        assert [len(y) for _, y, _ in found] == [32, 32, 32, 4]
        assert found[0][0][0].dtype == np.float32 and found[0][0][1].dtype == np.int32
        for (wide, narrow), y, weight in found:
            assert (wide[:, 0] == y).all() and (narrow == y).all()
            np.testing.assert_allclose(weight, y / 100, rtol=1e-6)
        epochs.append([y.tolist() for _, y, _ in found])
    assert epochs[0] == epochs[1] != epochs[2]
    assert sorted(sum(epochs[2], [])) == list(range(100))


@pytest.mark.parametrize("weights", [(), (None,), (np.arange(64.0) / 64,)])
def test_arrays_are_what_keras_makes_of_them(weights):
    data = Data((X, Y, *weights), (X, Y, *weights), {"shuffle": False, "batch_size": 16})
    found = []
    for arguments in (data.train(), {"x": X, "y": Y, "shuffle": False, "batch_size": 16}):
        if "y" in arguments and weights:
            arguments["sample_weight"] = weights[0]
        keras.utils.set_random_seed(0)
        model = network(ENTROPY(from_logits=True))
        model.fit(**arguments, epochs=2, verbose=0)
        found.append(model.get_weights())
        given = {"x": X, "y": Y, "sample_weight": weights[0] if weights else None}
        ours = model.evaluate(**data.evaluate(), verbose=0)
        assert ours == model.evaluate(**given, batch_size=256, verbose=0)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_keras_alone_understands_is_left_to_it():
    whole = Data((X, Y), (X, Y), {"shuffle": "batch"})
    assert whole.train()["x"] is X and whole.train()["shuffle"] == "batch"

    class Frame:
        """Something else with rows."""

        shape = X.shape

        def __len__(self):
            return len(X)

    frame = Frame()
    foreign = Data((frame, Y), (frame, Y))
    assert foreign.train() == {"x": frame, "y": Y}
    assert foreign.evaluate() == {"x": frame, "y": Y, "batch_size": 256}
