"""Which nodes of the dense model's layers a run has left, from what its steps say."""

from scalpel_tf.core import left_nodes
from scalpel_tf.train.surgery import ShrinkReport


def after(state: dict, report: ShrinkReport) -> dict[str, str]:
    """{path: nodes of the dense layer that are left, packed} of the layers that this cut changes.

    Without layers that lost nodes in a step that did not say which.
    """
    known = so_far(state)
    nodes = {layer["path"]: layer["nodes"] for layer in state["baseline"]["layers"]}
    nodes |= {path: len(left) for path, left in known.items()}
    before = {cut.path: cut.nodes[0] for cut in report.layers}
    kept = {path: left for path, left in report.kept.items() if nodes.get(path) == before[path]}
    composed = left_nodes.compose(known, kept)
    return {path: left_nodes.pack(composed[path]) for path in kept}


def so_far(state: dict) -> dict[str, list[int]]:
    """{path: nodes of the dense layer that are left} of layers that lost some, by the kept steps.

    Steps of older versions say nothing.
    """
    found = {}
    for step in state["steps"]:
        if step["kept"]:
            found |= {path: left_nodes.unpack(s) for path, s in step.get("nodes_left", {}).items()}
    return found
