"""TensorBoardSummaries: what pruning does to a model, epoch by epoch, for TensorBoard."""

from pathlib import Path

import keras
import tensorflow as tf

from scalpel_tf.core.layout import to_matrix
from scalpel_tf.core.pictures import downsample
from scalpel_tf.models import check_backend, walk
from scalpel_tf.train import surgery
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.mask_layer import MaskLayer

FOLDER = "pruning"  # beside keras.callbacks.TensorBoard's "train" and "validation"
ROWS, COLUMNS = 256, 512  # pixels of a picture at most


class TensorBoardSummaries(keras.callbacks.Callback):
    """Writes event files to log_dir/pruning, at every epoch's end.

    Of PruneWrappers: `sparsity`, the fraction of wrapped weights that are dropped, `density/<path>`
    of each layer, and its masks as pictures, kept weights dark, rows outputs and columns inputs in
    im2col order. Of MaskLayers: `nodes`, those that are kept, `macs`, multiplications left if
    `shrink` were called then, `density/<path>`, and the histogram `beta/<path>`. Steps are epochs;
    a further `fit` goes on with `initial_epoch`. Put it behind Prune and TrainMasks.

    log_dir: what `tensorboard --logdir` takes; may be that of keras.callbacks.TensorBoard.

    Raises RuntimeError, which says what to install, without TensorBoard; ValueError at train begin
    for a model with neither PruneWrapper nor MaskLayer.
    """

    def __init__(self, log_dir: Path | str):
        super().__init__()
        check_backend()
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise RuntimeError(
                'TensorBoardSummaries needs TensorBoard: pip install "scalpel_tf[report]".'
            ) from error
        self.log_dir = Path(log_dir)
        self._writer = None

    def on_train_begin(self, logs=None):
        layers = walk(self.model)
        self._wrappers = [(path, one) for path, one in layers if isinstance(one, PruneWrapper)]
        self._masks = [(path, one) for path, one in layers if isinstance(one, MaskLayer)]
        if not self._wrappers and not self._masks:
            raise ValueError(
                f"Model {self.model.name!r} has nothing to summarise, neither PruneWrapper nor "
                "MaskLayer: build it with prune(model, ...) or add_masks(model) first."
            )
        self._seen = {}
        self._writer = self._writer or tf.summary.create_file_writer(str(self.log_dir / FOLDER))

    def on_epoch_end(self, epoch, logs=None):
        with self._writer.as_default(step=epoch):
            if self._wrappers:
                self._summarise_wrappers()
            if self._masks:
                self._summarise_masks()

    def on_train_end(self, logs=None):
        self._writer.flush()

    def _summarise_wrappers(self):
        counts = {path: wrapper.count() for path, wrapper in self._wrappers}
        kept, total = map(sum, zip(*counts.values(), strict=True))
        tf.summary.scalar("sparsity", 1 - kept / total)
        for path, wrapper in self._wrappers:
            tf.summary.scalar(f"density/{path}", counts[path][0] / counts[path][1])
            for pruned in wrapper.pruned:
                keep = pruned.mask.value.numpy()
                name = path if len(wrapper.pruned) == 1 else f"{path}/{pruned.variable.name}"
                if self._changed(name, keep):
                    tf.summary.image(f"mask/{name}", _picture(to_matrix(keep, pruned.kind)))

    def _summarise_masks(self):
        keeps = {path: mask.keep for path, mask in self._masks}
        tf.summary.scalar("nodes", sum(int(keep.sum()) for keep in keeps.values()))
        changed = [self._changed(path, keep) for path, keep in keeps.items()]
        if any(changed):  # reading the network takes a while
            self._macs = surgery.costs(self.model).macs
        tf.summary.scalar("macs", self._macs)
        for path, mask in self._masks:
            tf.summary.scalar(f"density/{path}", keeps[path].mean())
            tf.summary.histogram(f"beta/{path}", mask.beta.numpy())

    def _changed(self, name, keep):
        before, self._seen[name] = self._seen.get(name), keep.tobytes()
        return before != self._seen[name]


def _picture(keep):
    """One grey image of a mask (out, taps, in), in [0, 1]; 0 is kept."""
    return 1 - downsample(keep.reshape(len(keep), -1), ROWS, COLUMNS)[None, ..., None]
