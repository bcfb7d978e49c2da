"""The penalty that makes batch normalization say which channels matter (Network Slimming)."""

import keras

from scalpel_tf.models import check_backend, refuse_tf_keras, walk
from scalpel_tf.train.selectors import Selector, selectors, selects


def penalize_scales(
    model: keras.Model,
    strength: float = 1e-4,
    *,
    layers: Selector | list[Selector] | None = None,
    skip: Selector | list[Selector] | None = None,
) -> keras.Model:
    """`model` itself, with L1 of `strength` on the scale of every BatchNormalization.

    The loss gains strength * sum |gamma| (Liu et al., Network Slimming, ICCV 2017, section 3), so
    that training drives the scales of channels that do little to 0. The paper trains CIFAR-10 with
    1e-4 for VGG and 1e-5 for ResNet-164 and DenseNet-40, SGD of 0.1, batches of 64 and 160 epochs;
    then it cuts the channels of the smallest scales and fine-tunes without the penalty:

        penalize_scales(model, 1e-4)
        model.compile(...)
        model.fit(...)
        small = prune_nodes(model, "bn_scale", ratio=0.7, scope="global")
        penalize_scales(small, 0)
        small.compile(...)
        small.fit(...)

    strength: from 0 on; 0 takes the penalty away, a second call replaces it.
    layers, skip: which BatchNormalization layers, as in `prune`; all where not given.

    Call it before `compile`: a training step that was traced before does not know it, so a model
    that is compiled is made to trace its step anew. The penalty is part of what `save` stores.
    Optimizers with weight decay decay the scales too, as the paper's SGD does.

    Raises ValueError for a strength below 0, where no layer is left that has a scale, and for a
    scale that has a regularizer of another kind.
    """
    check_backend()
    refuse_tf_keras(model)
    if not strength >= 0:
        raise ValueError(f"`strength` of the penalty is a number from 0 on; got {strength}.")
    included = None if layers is None else selectors(model, "layers", layers)
    excluded = selectors(model, "skip", skip)
    chosen = [
        (path, layer)
        for path, layer in walk(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.scale
        and (included is None or any(selects(s, path, layer) for s in included))
        and not any(selects(s, path, layer) for s in excluded)
    ]
    if not chosen:
        raise ValueError(
            f"Model {model.name!r} has no BatchNormalization with a scale to put the penalty on."
        )
    for path, layer in chosen:
        if type(layer.gamma_regularizer) not in (type(None), keras.regularizers.L1):
            raise ValueError(
                f"The scale of {path!r} has a {type(layer.gamma_regularizer).__name__} "
                "regularizer already; take it away, or leave the layer out with `skip`."
            )
    for _, layer in chosen:
        penalty = keras.regularizers.L1(strength) if strength else None
        layer.gamma_regularizer = layer.gamma.regularizer = penalty
    if model.compiled:
        model.make_train_function(force=True)
        model.make_test_function(force=True)
    return model
