"""Networks of the literature, and the data to train them with."""

from scalpel_tf.zoo import datasets, mlperf_tiny, networks

__all__ = ["datasets", "mlperf_tiny", "networks"]
