"""PruneWrapper: a Keras layer whose kernels stay exactly sparse under any optimizer."""

from dataclasses import dataclass

import keras
from keras import layers

from scalpel_tf.core import selection
from scalpel_tf.core.criteria import magnitude, rms
from scalpel_tf.core.granularity import Granularity, simd
from scalpel_tf.core.layout import from_matrix, to_matrix
from scalpel_tf.core.schedules import Constant, Polynomial, as_schedule
from scalpel_tf.models import check_backend, refuse_tf_keras, walk

CRITERIA = {"rms": rms, "magnitude": magnitude}

KERNELS = {
    layers.Dense: {"kernel": "dense"},
    layers.Conv1D: {"kernel": "conv"},
    layers.Conv2D: {"kernel": "conv"},
    layers.Conv3D: {"kernel": "conv"},
    layers.DepthwiseConv1D: {"kernel": "depthwise"},
    layers.DepthwiseConv2D: {"kernel": "depthwise"},
    layers.SeparableConv1D: {"depthwise_kernel": "depthwise", "pointwise_kernel": "conv"},
    layers.SeparableConv2D: {"depthwise_kernel": "depthwise", "pointwise_kernel": "conv"},
    layers.Conv1DTranspose: {"kernel": "transposed"},
    layers.Conv2DTranspose: {"kernel": "transposed"},
    layers.Conv3DTranspose: {"kernel": "transposed"},
    layers.Embedding: {"embeddings": "embedding"},
}

for _schedule in (Constant, Polynomial):
    keras.saving.register_keras_serializable("scalpel_tf")(_schedule)


def kernels(layer) -> list[tuple[keras.Variable, str]]:
    """The variables of a built layer that pruning acts on, each with its kind of layout.

    A layer with `get_prunable_weights()` names its own: rank 2 is read as (in, out), higher ranks
    as (*k, in, out). Empty for a layer that is not supported.
    """
    if hasattr(layer, "get_prunable_weights"):
        own = layer.get_prunable_weights()
        return [(variable, "dense" if len(variable.shape) == 2 else "conv") for variable in own]
    for kind_of_layer, names in KERNELS.items():
        if isinstance(layer, kind_of_layer):
            return [(getattr(layer, name), kind) for name, kind in names.items()]
    return []


def refusal(layer) -> str | None:
    """Why a built layer cannot be pruned, or None if it can."""
    variables = [variable for variable, _ in kernels(layer)]
    if not variables:
        return f"{type(layer).__name__} has no kernel that can be pruned"
    if not all(hasattr(v, "constraint") and "float" in v.dtype for v in variables):
        return "its kernel is not a plain float variable (is it quantised, or under LoRA?)"
    if any(len(variable.shape) < 2 for variable in variables):
        return "`get_prunable_weights()` returned a variable of fewer than 2 axes"
    return None


def find_wrappers(model) -> list["PruneWrapper"]:
    """The PruneWrappers of the model; raises ValueError where there is none."""
    wrappers = [layer for _, layer in walk(model) if isinstance(layer, PruneWrapper)]
    if not wrappers:
        raise ValueError(
            f"Model {model.name!r} has no PruneWrapper: build it with prune(model, ...) first."
        )
    return wrappers


class Masked(keras.constraints.Constraint):
    """Zeroes what the mask drops, before and after the constraint that was there first."""

    def __init__(self, mask, constraint):
        self.mask = mask
        self.constraint = constraint

    def __call__(self, weight):
        weight = keras.ops.where(self.mask, weight, 0)
        if self.constraint is None:
            return weight
        return keras.ops.where(self.mask, self.constraint(weight), 0)


@dataclass(frozen=True)
class _Pruned:
    """A kernel, its mask (True = survives) and its kind of layout."""

    variable: keras.Variable
    mask: keras.Variable
    kind: str


@keras.saving.register_keras_serializable("scalpel_tf")
class PruneWrapper(layers.Wrapper):
    """A layer whose kernels are pruned in groups of `width` neighbours along each row.

    The masks are non-trainable boolean variables that act as the kernels' constraints, so that
    every optimizer step ends with exactly sparse weights; a constraint of the user's stays in
    force. `callbacks.Prune` or `update_masks` decide when masks change. The wrapper bears the name
    of the layer inside.

    layer: Dense, Conv, DepthwiseConv, SeparableConv, Conv*Transpose, Embedding, or any layer with
        `get_prunable_weights()`, which returns a list of variables.
    ratio: the fraction of groups removed, in [0, 1); with a `schedule` too, the ratio at its end.
    schedule: a ratio, a schedule of core.schedules, tfmot's, or a callable of the step.
    width: weights in a group; the last group of a row may be shorter.
    criterion: "rms" or "magnitude".

    Raises ValueError where neither `ratio` nor `schedule` is given, for a value out of range, and
    for a layer that cannot be pruned. Weights saved before wrapping do not load into a wrapped
    model: load first, then wrap.
    """

    def __init__(self, layer, ratio=None, schedule=None, width=4, criterion="rms", **kwargs):
        check_backend()
        refuse_tf_keras(layer)
        if not isinstance(layer, layers.Layer) or isinstance(layer, PruneWrapper):
            raise ValueError(
                "PruneWrapper takes a Keras layer that is not wrapped yet; "
                f"got a {type(layer).__name__}: wrap the layer once, then call it."
            )
        if ratio is None and schedule is None:
            raise ValueError(f"Give layer {layer.name!r} a `ratio`, a `schedule`, or both.")
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"`width` is a number of weights from 1 on; got {width!r}.")
        if criterion not in CRITERIA:
            raise ValueError(f"`criterion` is one of {', '.join(CRITERIA)}; got {criterion!r}.")
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, **kwargs})
        self.ratio = (
            None if ratio is None else selection.check_ratio(ratio, f"layer {layer.name!r}")
        )
        self.schedule = None if schedule is None else as_schedule(schedule)
        self.width = width
        self.criterion = criterion
        self.autocast = layer.autocast
        self.supports_masking = layer.supports_masking
        self.supports_jit = layer.supports_jit
        self.pruned = []

    def build(self, input_shape=None):
        super().build(input_shape)
        reason = refusal(self.layer)
        if reason:
            raise ValueError(f"Layer {self.name!r} cannot be pruned: {reason}.")
        for index, (variable, kind) in enumerate(kernels(self.layer)):
            mask = self.add_weight(
                shape=variable.shape,
                initializer="ones",
                dtype="bool",
                trainable=False,
                name=f"{variable.name}_mask",
            )
            setattr(self, f"mask_{index}", mask)  # tf.train.Checkpoint goes by attributes
            variable.constraint = Masked(mask, variable.constraint)
            self.pruned.append(_Pruned(variable, mask, kind))

    def call(self, inputs, **kwargs):
        return self.layer(inputs, **kwargs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)  # traces a layer without the above

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def ratio_at(self, step: int, schedule=None) -> float:
        """The ratio that holds at `step`; `schedule` takes the place of the wrapper's own.

        A schedule beside a ratio ramps that ratio: it is multiplied by schedule(step) / its end.
        """
        schedule = schedule or self.schedule
        if self.ratio is None:
            return schedule(step)
        if schedule is None or self.ratio == 0:
            return self.ratio
        if schedule.final_ratio == 0:
            raise ValueError(
                f"Layer {self.name!r} has ratio {self.ratio}, but its schedule ends at ratio 0: "
                "give a schedule that ends above 0, or no schedule."
            )
        return self.ratio * schedule(step) / schedule.final_ratio

    def update(self, ratio: float) -> None:
        """Computes the masks of `ratio` from the weights as they are, and applies them."""
        granularity = Granularity(simd(self.width))
        for pruned in self.pruned:
            matrix = to_matrix(pruned.variable.value.numpy(), pruned.kind)
            keep = selection.mask(matrix, granularity, CRITERIA[self.criterion], ratio)
            pruned.mask.assign(from_matrix(keep, pruned.kind, pruned.variable.shape))
        self.apply_masks()

    def apply_masks(self) -> None:
        """Zeroes what the masks drop; the optimizer does it after each of its own steps."""
        for pruned in self.pruned:
            pruned.variable.assign(keras.ops.where(pruned.mask, pruned.variable, 0))

    def count(self) -> tuple[int, int]:
        """Weights kept by the masks, and weights in all."""
        keeps = [pruned.mask.value.numpy() for pruned in self.pruned]
        return sum(int(keep.sum()) for keep in keeps), sum(keep.size for keep in keeps)

    def get_config(self):
        schedule = getattr(self.schedule, "function", self.schedule)
        return {
            **super().get_config(),
            "ratio": self.ratio,
            "schedule": keras.saving.serialize_keras_object(schedule),
            "width": self.width,
            "criterion": self.criterion,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        restore = keras.saving.deserialize_keras_object
        schedule = restore(config["schedule"], custom_objects=custom_objects)
        return super().from_config({**config, "schedule": schedule}, custom_objects)
