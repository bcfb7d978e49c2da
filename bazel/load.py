"""Loads the library of the ops that Bazel built, and multiplies.

usage: SCALPEL_TF_PY_OPS=1 python load.py LIBRARY, or the ops that are built would be there first.
"""

import sys

import numpy as np
import tensorflow as tf

from scalpel_tf.core.gcsr import encode

matrix = np.array([[1, 2, 0, 0, 0], [0, 0, 0, 0, 5]], np.float32)
sparse, none = encode(matrix, 2), np.zeros(0, np.float32)
x = np.arange(15, dtype=np.float32).reshape(3, 5)
ops = tf.load_op_library(sys.argv[1])
y = ops.grouped_csr_mat_mul(x, sparse.values, sparse.columns, sparse.offsets, none, none)
np.testing.assert_array_equal(y, x @ matrix.T)
print(f"{sys.argv[1]}: {np.array(y).tolist()}")
