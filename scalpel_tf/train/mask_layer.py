"""MaskLayer: a Keras layer that learns which nodes to drop while the model trains.

Yu et al., Scalpel, ISCA 2017, section 4.2. A node is a neuron or an output channel.
"""

import weakref

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from scalpel_tf.core.selection import hysteresis
from scalpel_tf.models import check_backend, walk

# The constants of the authors' code, with its LeNets' and ConvNet's initial beta.
PUBLISHED = {"threshold": 0.8, "epsilon": 1e-4, "initial": 0.8002, "limit": 0.802, "gain": 1.0}
# The paper's beta, from 1 within [0, 1]. Every distance to the threshold is 2500 times as long and
# every step too, so that a learning rate and an `l1` mean the same.
UNIT = {"threshold": 0.5, "epsilon": 0.25, "initial": 1.0, "limit": 1.0, "gain": 2500.0}


def find_masks(model) -> list["MaskLayer"]:
    """The MaskLayers of the model; raises ValueError where there is none."""
    masks = [layer for _, layer in walk(model) if isinstance(layer, MaskLayer)]
    if not masks:
        raise ValueError(
            f"Model {model.name!r} has no MaskLayer: build it with add_masks(model) first."
        )
    return masks


def follow(model, optimizer) -> bool:
    """Makes `optimizer` the one whose learning rate pulls the masks of `model`; None: no one.

    Returns True where a training step has been traced with another optimizer, or with none: it
    must be traced anew. callbacks.TrainMasks does both; call this before one's own loop.
    Raises ValueError for a model without MaskLayer, and for Ftrl.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # LossScaleOptimizer
    if isinstance(optimizer, keras.optimizers.Ftrl):
        raise ValueError(
            "Ftrl computes weights anew instead of moving them, so it cannot train masks: "
            "compile with another optimizer, SGD for one."
        )
    masks = find_masks(model)
    for mask in masks:
        mask.learner.optimizer = None if optimizer is None else weakref.ref(optimizer)
    return any(mask.learner.traced not in ((), mask.learner.optimizer) for mask in masks)


def _all(value):
    """An initializer; keras.initializers.Constant goes by way of float32."""
    return lambda shape, dtype: ops.full(shape, value, dtype)


class _Learner(keras.constraints.Constraint):
    """Moves what the optimizer has done to a mask's `signal` into beta, and decides alpha."""

    def __init__(self, mask):
        self.mask = mask
        self.optimizer = None  # a weak reference, that Keras does not save it with the layer
        self.traced = ()  # the optimizer of the last training step that was traced

    def __call__(self, signal):
        mask = self.mask
        self.traced = self.optimizer
        step = ops.cast(signal, "float64") - ops.cast(self._pull(), "float64")
        moved = ops.clip(mask.beta + mask.gain * step, 0.0, mask.limit)
        beta = ops.where(mask.frozen, mask.beta, moved)
        kept = hysteresis(mask.alpha > 0.5, beta, mask.threshold, mask.threshold + mask.epsilon)
        alpha = ops.where(mask.frozen, mask.alpha, ops.cast(kept, "float32"))
        mask.beta.assign(beta)
        mask.alpha.assign(alpha)
        return ops.zeros_like(signal)

    def _pull(self):
        """What this call takes off beta; a step with gradient accumulation has several calls."""
        optimizer = self.optimizer and self.optimizer()
        if optimizer is None:
            with tf.init_scope():
                idle = self.mask.frozen.numpy() or self.mask.l1.numpy() == 0
            if not idle:
                raise ValueError(
                    f"Layer {self.mask.name!r} has an `l1` above 0, and does not know whose "
                    "learning rate it goes with: fit with callbacks.TrainMasks(), or call "
                    "follow(model, optimizer) before a loop of your own."
                )
            return 0.0
        calls = getattr(optimizer, "gradient_accumulation_steps", None) or 1
        return ops.cast(optimizer.learning_rate, "float32") * self.mask.l1 / calls


@keras.saving.register_keras_serializable("scalpel_tf")
class MaskLayer(keras.layers.Layer):
    """y'[i] = alpha[i] * y[i] along `axis`; alpha is 0 or 1, and training decides which.

    beta[i] says how much node i is worth. alpha is 1 where beta >= threshold + epsilon, 0 where
    beta < threshold, and stays as it is between. Each training step adds to beta what the optimizer
    makes of the gradient of alpha, takes learning rate * `l1` off, both times `gain`, and clips it
    to [0, limit]. The gradient is that of the unmasked y, so that a dropped node can come back.

    The optimizer does not train beta itself but `signal`, which is 0 at the begin of every step.
    The step's end moves it into beta and zeroes it: weight decay has nothing to decay, and the pull
    of `l1` passes by momentum and adaptive rates. The pull needs the learning rate, which
    callbacks.TrainMasks, or `follow`, provides. An optimizer that overwrites weights with their
    averages (ema_overwrite_frequency) gives beta an averaged gradient in those steps.

    nodes: how many; None: as many as the axis is long.
    threshold, epsilon, initial, limit, gain: PUBLISHED or UNIT has a set of them.
    l1: the penalty per node; the variable `l1` and the boolean `frozen`, which stops alpha and beta
        where they are, may change at any time without a new trace.
    axis: of the channels.

    Call: `index`, a list of ints, names the node of each channel, for channels that stand or fall
    together; a layer that is called at several places ties them in the same way. The dtype of the
    input is that of the output; everything between is float32 or wider. beta is float64: one pull
    of the published constants is 2e-7, three of float32's steps at 0.8.

    Raises ValueError for constants that contradict each other, and for an `index` or a number of
    channels that does not fit the nodes.
    """

    def __init__(
        self,
        nodes=None,
        threshold=0.8,
        epsilon=1e-4,
        initial=0.8002,
        limit=0.802,
        l1=2e-4,
        gain=1.0,
        axis=-1,
        **kwargs,
    ):
        check_backend()
        super().__init__(**kwargs)
        if nodes is not None and (not isinstance(nodes, int) or nodes < 1):
            raise ValueError(f"`nodes` is a number from 1 on, or None; got {nodes!r}.")
        if not 0 < threshold <= initial <= limit or not 0 <= epsilon <= limit - threshold:
            raise ValueError(
                "A mask needs 0 < threshold <= initial <= limit and 0 <= epsilon <= "
                f"limit - threshold; got threshold {threshold}, epsilon {epsilon}, initial "
                f"{initial}, limit {limit}: see PUBLISHED and UNIT."
            )
        if not 0 <= l1 < float("inf") or not 0 < gain < float("inf"):
            raise ValueError(f"`l1` is at least 0 and `gain` above 0; got {l1} and {gain}.")
        self.nodes = nodes
        self.threshold = threshold
        self.epsilon = epsilon
        self.initial = initial
        self.limit = limit
        self.initial_l1 = l1
        self.gain = gain
        self.axis = axis
        self.autocast = False
        self.supports_masking = True
        self.learner = _Learner(self)

    def build(self, input_shape):
        nodes = self.nodes or input_shape[self.axis]
        if nodes is None:
            raise ValueError(
                f"Layer {self.name!r} masks axis {self.axis} of {input_shape}, whose length is not "
                "known: give it a fixed length, or `nodes`."
            )

        def variable(name, initializer, shape=(), dtype="float32", **settings):
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer=initializer,
                autocast=False,
                **{"trainable": False, "aggregation": "only_first_replica", **settings},
            )

        own = {"trainable": True, "constraint": self.learner, "aggregation": "mean"}
        self.signal = variable("signal", "zeros", (nodes,), **own)
        self.beta = variable("beta", _all(self.initial), (nodes,), "float64")
        self.alpha = variable("alpha", "ones", (nodes,))
        self.l1 = variable("l1", _all(self.initial_l1))
        self.frozen = variable("frozen", "zeros", dtype="bool")

    def call(self, inputs, index=None, training=None):
        scale = ops.convert_to_tensor(self.alpha)
        if training:
            live = ops.where(self.frozen, 0.0, self.signal)
            scale = scale + (live - ops.stop_gradient(live))
        self._check(index, inputs.shape)
        if index is not None:
            scale = ops.take(scale, np.asarray(index))
        around = [1] * len(inputs.shape)
        around[self.axis] = -1
        wide = keras.backend.result_type(inputs.dtype, "float32")
        scale = ops.cast(ops.reshape(scale, around), wide)
        return ops.cast(ops.cast(inputs, wide) * scale, inputs.dtype)

    def compute_output_spec(self, inputs, index=None, training=None):
        self._check(index, inputs.shape)  # Keras 3.3 would hide the error of a traced `call`
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def _check(self, index, shape):
        channels, nodes = shape[self.axis], self.alpha.shape[0]
        if index is None and channels not in (None, nodes):
            raise ValueError(
                f"Layer {self.name!r} has {nodes} nodes, its input {channels} channels: say "
                "with `index` which node each channel belongs to."
            )
        if index is not None and (len(index) != channels or min(index) < 0 or max(index) >= nodes):
            raise ValueError(
                f"`index` names a node in [0, {nodes}) for each of the {channels} channels; "
                f"got {len(index)} in [{min(index)}, {max(index)}] for layer {self.name!r}."
            )

    @property
    def keep(self) -> np.ndarray:
        """True for the nodes that the mask keeps, shape (nodes,)."""
        return self.alpha.numpy() > 0.5

    def get_config(self):
        return {
            **super().get_config(),
            "nodes": self.nodes,
            "threshold": self.threshold,
            "epsilon": self.epsilon,
            "initial": self.initial,
            "limit": self.limit,
            "l1": self.initial_l1,
            "gain": self.gain,
            "axis": self.axis,
        }
