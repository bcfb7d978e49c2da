"""`scalpel-tf prune`: a saved model, pruned while it trains on its user's data."""

import shutil
from pathlib import Path

import keras
import numpy as np

from scalpel_tf.core.schedules import Polynomial
from scalpel_tf.core.selection import check_ratio
from scalpel_tf.driver.training import compile_like
from scalpel_tf.train import callbacks
from scalpel_tf.train.wrap import prune, strip

VALIDATION = 0.1
BATCH = 64


def retrain(model, data, *, target, ratio, epochs, out, learning_rate=None, skip=None) -> dict:
    """Prunes a .keras file to `out`; per metric, the values on a validation split around it.

    data: an .npz with x_train and y_train, of which a tenth is kept for validation.  ratio: a
    number or {layer: number}.  The model trains as it was compiled; one that was not is taken for a
    classifier of integer labels.  Ratios are reached at half of the epochs.  A run that was killed
    goes on from its last epoch.  Raises ValueError for a model or data that do not fit.
    """
    model, out = Path(model), Path(out)
    if epochs < 2:
        raise ValueError(f"`epochs` is at least 2, one to prune and one to recover; got {epochs}.")
    if out.suffix != ".keras":
        raise ValueError(f"`out` is the .keras file to write; got {str(out)!r}.")
    dense = load_model(model)
    x, y, x_valid, y_valid = load_data(Path(data))
    before = _compile(dense, dense, learning_rate).evaluate(
        x_valid, y_valid, verbose=0, return_dict=True
    )
    pruned = prune(dense, target=target, ratio=ratio, skip=skip)
    print(pruned.report)
    _compile(pruned, dense, learning_rate)
    steps = -(-len(x) // BATCH)
    final = max(ratio.values()) if isinstance(ratio, dict) else check_ratio(ratio)
    backup = out.with_name(out.name + ".backup")
    out.parent.mkdir(parents=True, exist_ok=True)
    pruned.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(x_valid, y_valid),
        verbose=2,
        callbacks=[
            keras.callbacks.BackupAndRestore(backup),
            callbacks.Prune(Polynomial(final, end_step=steps * epochs // 2, frequency=steps)),
            callbacks.AdjustDropout(),
        ],
    )
    plain = strip(pruned)
    after = _compile(plain, dense, learning_rate).evaluate(
        x_valid, y_valid, verbose=0, return_dict=True
    )
    temporary = out.with_name(f".{out.stem}.tmp.keras")
    plain.save(temporary)
    temporary.replace(out)
    shutil.rmtree(backup, ignore_errors=True)
    print(f"validation before {before}, after {after}; sparsity {callbacks.sparsity(pruned):.2%}")
    return {
        "before": before,
        "after": after,
        "sparsity": callbacks.sparsity(pruned),
        "out": str(out),
        "target": target,
        "wrapped": [
            [layer.path, list(layer.shape), layer.ratio] for layer in pruned.report.wrapped
        ],
        "skipped": [[layer.path, layer.reason] for layer in pruned.report.skipped],
    }


def load_model(path):
    """A saved .keras model, as it was compiled; ValueError where it is none."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give a model that was saved as .keras.")
    try:
        return keras.models.load_model(path)
    except Exception as error:
        raise ValueError(f"{path} could not be loaded as a .keras model: {error}") from error


def load_data(path):
    """(x, y, x_valid, y_valid) of an .npz; without the last two, a tenth of a fixed shuffle."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            x, y = file["x_train"], file["y_train"]
            valid = [file[name] for name in ("x_valid", "y_valid") if name in file.files]
    except Exception as error:
        raise ValueError(f"{path} is not an .npz with x_train and y_train: {error}") from error
    if len(x) != len(y) or len(x) < 10:
        raise ValueError(f"{path} has {len(x)} inputs and {len(y)} labels; at least 10 of each.")
    if valid:
        if len(valid) != 2 or len(valid[0]) != len(valid[1]) or not len(valid[0]):
            raise ValueError(f"{path} has x_valid without as many y_valid, or y_valid alone.")
        return x, y, *valid
    order = np.random.RandomState(0).permutation(len(x))
    train, valid = np.split(order, [len(x) - int(len(x) * VALIDATION)])
    return x[train], y[train], x[valid], y[valid]


def _compile(model, like, learning_rate):
    compile_like(model, like)
    if learning_rate is not None:
        model.optimizer.learning_rate = learning_rate
    return model
