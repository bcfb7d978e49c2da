"""Pruning that fits the parallelism of the hardware, and the code that makes it pay there.

Yu et al., Scalpel: Customizing DNN Pruning to the Underlying Hardware Parallelism, ISCA 2017.
"""

from scalpel_tf import zoo
from scalpel_tf.core import schedules, targets
from scalpel_tf.deploy.analyze import analyze
from scalpel_tf.deploy.export import export, run
from scalpel_tf.deploy.sparse_layers import GroupedCSRConv2D, GroupedCSRDense
from scalpel_tf.deploy.sparsify import densify, sparsify
from scalpel_tf.driver.run import ScalpelResult, scalpel
from scalpel_tf.train import callbacks, recipes, regularizers, rules
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.masks import add_masks
from scalpel_tf.train.nodes import prune_nodes
from scalpel_tf.train.recalibrate import recalibrate
from scalpel_tf.train.surgery import shrink
from scalpel_tf.train.wrap import prune, strip

__version__ = "0.1.0"

__all__ = [
    "GroupedCSRConv2D",
    "GroupedCSRDense",
    "MaskLayer",
    "PruneWrapper",
    "ScalpelResult",
    "add_masks",
    "analyze",
    "callbacks",
    "densify",
    "export",
    "prune",
    "prune_nodes",
    "recalibrate",
    "recipes",
    "regularizers",
    "rules",
    "run",
    "scalpel",
    "schedules",
    "shrink",
    "sparsify",
    "strip",
    "targets",
    "zoo",
]
