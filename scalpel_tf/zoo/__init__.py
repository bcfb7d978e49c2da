"""Networks of the literature, and the data to train them with."""

from scalpel_tf.zoo import datasets, networks

__all__ = ["datasets", "networks"]
