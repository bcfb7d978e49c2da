"""What dense CMSIS-NN would take for a network that it was not run on: an estimate, not a run.

peers/cmsis_nn_cortex_m4.json has the modelled cycles of its layers in three networks. A convolution
counts here at the fewest cycles per product of all convolutions there, which are larger and so have
less beside their products; a fully connected layer at the fewest of those. Poolings inside of a
convolution count as nothing, and what else there is, depthwise convolutions before all, as much as
with this package's dense kernels.
"""

import json

from cortex_m import CMSIS_NN


def per_product() -> dict[str, float]:
    """The fewest cycles of a multiply-accumulate, by operator."""
    layers = [
        layer for part in json.loads(CMSIS_NN.read_text())["networks"].values() for layer in part
    ]
    costs = {"CONV_2D": [], "FULLY_CONNECTED": []}
    for layer in layers:
        if layer["macs"]:
            kind = "FULLY_CONNECTED" if layer["layer"].startswith("fc") else "CONV_2D"
            costs[kind].append(layer["cycles"] / layer["macs"])
    return {kind: min(found) for kind, found in costs.items()}


def estimate(layers) -> float:
    """Cycles of the network whose dense `layers` are (operator, MACs, cycles of our kernels)."""
    rates = per_product()
    return sum(
        rates[kind] * macs if (kind := op.split(" + ")[0]) in rates else cycles
        for op, macs, cycles in layers
    )
