"""How many bytes an operator may work in, so that fusion and bands never cost RAM."""

import math

from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.tflite import Model

ALIGNMENT = 16


def rooms(model: Model) -> list[int]:
    """For every operator: bytes that are free beside the activations that live on through it.

    The limit is what the activations alone take where most of them live, every operator's output
    apart from its inputs: no runtime without fusion needs less. The operator's own output is not
    counted yet.
    """
    source = {op.outputs[0]: op.inputs[0] for op in model.operators if op.name in ALIASES}

    def owner(index):
        while index in source:
            index = source[index]
        return index

    made = dict.fromkeys(map(owner, model.inputs), -1)
    last = {}
    for step, operator in enumerate(model.operators):
        for index in map(owner, operator.outputs):
            made.setdefault(index, step)
        last.update({owner(index): step for index in (*operator.inputs, *operator.outputs)})
    last.update({owner(index): len(model.operators) for index in model.outputs})
    sizes = {index: _bytes(model.tensors[index]) for index in made}
    steps = range(len(model.operators))
    alive = [[i for i in made if made[i] <= step <= last[i]] for step in steps]
    limit = max(sum(sizes[i] for i in indices) for indices in alive)
    return [limit - sum(sizes[i] for i in alive[step] if made[i] != step) for step in steps]


def _bytes(tensor):
    size = math.prod(tensor.shape) * tensor.dtype.itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT
