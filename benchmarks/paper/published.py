"""Scalpel's tables as they were published (Yu et al., ISCA 2017), and what is asked of us.

Sizes are fractions of the original's. Every mean is geometric, of the rows above it in the paper.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Figure(NamedTuple):
    speedup: float
    size: float | None


TARGETS = {"cortex-m4": "microcontroller", "x86-64": "CPU", "gpu": "GPU"}
TABLE_3 = {
    "cortex-m4": {
        "LeNet-300-100": Figure(9.17, 0.0693),
        "LeNet-5": Figure(3.51, 0.0672),
        "ConvNet": Figure(1.38, 0.4095),
    },
    "x86-64": {
        "LeNet-300-100": Figure(6.86, 0.0708),
        "LeNet-5": Figure(4.15, 0.0520),
        "ConvNet": Figure(1.58, 0.4428),
        "NIN": Figure(1.22, 0.8116),
        "AlexNet": Figure(2.20, 0.1306),
    },
    "gpu": {
        "LeNet-300-100": Figure(1.08, 0.6683),
        "LeNet-5": Figure(1.59, 0.1167),
        "ConvNet": Figure(1.14, 0.4540),
        "NIN": Figure(1.17, 0.8116),
        "AlexNet": Figure(1.35, 0.7652),
    },
}
MEANS = {
    "cortex-m4": Figure(3.54, 0.1240),
    "x86-64": Figure(2.61, 0.1768),
    "gpu": Figure(1.25, 0.4661),
}
# Of our rows: speedup at least, size at most.
ASKED = {
    "cortex-m4": {
        "LeNet-300-100": Figure(13, 0.065),
        "LeNet-5": Figure(7.5, 0.06),
        "ConvNet": Figure(3.8, 0.38),
    },
    "x86-64": {
        "LeNet-300-100": Figure(10, 0.07),
        "LeNet-5": Figure(5, 0.05),
        "ConvNet": Figure(2.2, 0.40),
        "NIN": Figure(1.8, None),
        "AlexNet": Figure(3, None),
    },
}
# Fractions of the nodes of each hidden layer that went.
TABLE_4 = {
    "LeNet-300-100": (0.31, 0.32),
    "LeNet-5": (0.50, 0.68, 0.65),
    "ConvNet": (0.28, 0.25, 0.49),
    "NIN": (0.28, 0.20, 0.05, 0.02, 0.14, 0.08, 0.22, 0.48),
    "AlexNet": (0.03, 0.20, 0.24, 0.18, 0.00, 0.17, 0.23),
}


def geometric_mean(values: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(values)))))
