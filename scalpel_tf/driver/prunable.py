"""Which layers a run may prune."""

from scalpel_tf.models import walk
from scalpel_tf.train.layers import kernels, refusal
from scalpel_tf.train.selectors import selectors, selects


def prunable(model, layers, skip) -> dict[str, str]:
    """{path: "conv" or "fc"} of the layers that the user lets prune and that can be.

    layers, skip: selectors as in `prune`. ValueError where none is left.
    """
    included = None if layers is None else selectors(model, "layers", layers)
    excluded = selectors(model, "skip", skip)
    found = {}
    for path, layer in walk(model):
        wanted = included is None or any(selects(s, path, layer) for s in included)
        if not wanted or any(selects(s, path, layer) for s in excluded) or refusal(layer):
            continue
        kinds = {kind for _, kind in kernels(layer)}
        found[path] = "fc" if kinds <= {"dense", "embedding"} else "conv"
    if not found:
        raise ValueError(
            f"Model {model.name!r} has no layer to prune; `layers` and `skip` leave none."
        )
    return found
