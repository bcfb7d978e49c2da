"""Pruning that fits the parallelism of the hardware, and the code that makes it pay there.

Yu et al., Scalpel: Customizing DNN Pruning to the Underlying Hardware Parallelism, ISCA 2017.
"""
