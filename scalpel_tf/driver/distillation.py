"""The dense model's answers as further targets, whatever the user's own loss and data are.

The loss gains, for every output that is a classifier's, temperature^2 times the cross entropy with
the dense model's softened answer (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
Network, NIPS 2014 workshop, section 2). The dense model sees the same batch, augmented or not.
"""

import keras
from keras import ops

TEMPERATURE = 2.0
FLOOR = 1e-7  # probabilities below it are taken for it


def distil(model, teacher, strength: float) -> bool:
    """Makes a compiled model learn from a compiled `teacher` too; whether it has answers to learn.

    Put on the model alone, not on its class: a copy or a saved model knows nothing of it.
    """
    kinds = outputs(teacher)
    if not strength or not any(kinds):
        return False
    own = model.compute_loss

    def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = own(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
        if not training:
            return loss
        answers = keras.tree.flatten(teacher(x, training=False))
        for kind, answer, given in zip(kinds, answers, keras.tree.flatten(y_pred), strict=True):
            if kind:
                loss = loss + strength * _soft_loss(_logits(answer, kind), _logits(given, kind))
        return loss

    model.compute_loss = compute_loss
    return True


def forget(model):
    """Takes away what `distil` put there."""
    vars(model).pop("compute_loss", None)


def outputs(model) -> list[str | None]:
    """For each output of a compiled model: "logits", "probabilities", or None for no classifier."""
    flat = keras.tree.flatten(model.outputs)
    losses = _losses(model, len(flat))
    found = []
    for output, loss in zip(flat, losses, strict=True):
        last = output._keras_history.operation
        softmax = isinstance(last, keras.layers.Softmax) or (
            getattr(last, "activation", None) is keras.activations.softmax
        )
        wide = len(output.shape) > 1 and (output.shape[-1] or 0) > 1
        if wide and softmax:
            found.append("probabilities")
        elif wide and isinstance(loss, _ENTROPIES) and loss.get_config().get("from_logits"):
            found.append("logits")
        else:
            found.append(None)
    return found


_ENTROPIES = (keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy)


def _losses(model, count):
    """The loss of each output as it was given to `compile`; None where that cannot be told."""
    config = getattr(model, "_compile_config", None)
    given = config.config.get("loss") if config is not None else None
    if isinstance(given, dict):
        return [given.get(name) for name in model.output_names]
    flat = keras.tree.flatten(given)
    return flat if len(flat) == count else [None] * count


def _logits(answer, kind):
    answer = ops.cast(answer, "float32")
    return answer if kind == "logits" else ops.log(ops.maximum(answer, FLOOR))


def _soft_loss(answer, given):
    soft = ops.softmax(ops.stop_gradient(answer) / TEMPERATURE)
    losses = ops.categorical_crossentropy(soft, given / TEMPERATURE, from_logits=True)
    return TEMPERATURE**2 * ops.mean(losses)
