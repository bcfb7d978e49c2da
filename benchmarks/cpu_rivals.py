"""The libraries that a sparse product is timed against.

Each rival is a function (product, threads) -> Alternative; it raises RuntimeError, OSError or
ImportError with the reason where it cannot take part. Every one may lay its weights out beforehand,
in the way that suits it.
"""

from __future__ import annotations

import ctypes

import numpy as np
from cpu_libraries import mkl, numpy_openblas, tensorflow, xsmm
from cpu_ours import Product
from paired import Alternative, in_c, in_python, keeping

PLAIN, TRANSPOSED = 111, 112
ROW_MAJOR, COLUMN_MAJOR = 101, 102


def mkl_dense(product: Product, threads: int) -> Alternative:
    library = mkl()
    functions = library.cblas_sgemv_64, library.cblas_sgemm_64
    return _cblas("MKL dense", *functions, library.MKL_Set_Num_Threads, product, threads)


def openblas(product: Product, threads: int) -> Alternative:
    """The OpenBLAS inside numpy, called without numpy around it."""
    library, prefix = numpy_openblas()
    gemv, gemm, set_threads = (
        getattr(library, f"{prefix}{name}64_")
        for name in ("cblas_sgemv", "cblas_sgemm", "openblas_set_num_threads")
    )
    return _cblas("OpenBLAS", gemv, gemm, set_threads, product, threads)


def _cblas(name, gemv, gemm, set_threads, product, threads):
    """The faster of the weights as they are and the weights transposed."""
    w, x, y, (rows, cols), n = *_arrays(product), product.matrix.shape, product.n

    def loop(kind, *arguments):
        return in_c(name, threads, set_threads, kind, *arguments, y=y)

    code = ctypes.c_int
    if product.kind == "columns":
        return loop("gemm", gemm, code(PLAIN), rows, n, cols, w, x, n, y)
    across = np.ascontiguousarray(w.T)
    if n == 1:
        choices = [
            loop("gemv", gemv, code(PLAIN), rows, cols, w, x, y),
            loop("gemv", gemv, code(TRANSPOSED), cols, rows, across, x, y),
        ]
    else:
        choices = [
            loop("gemm", gemm, code(TRANSPOSED), n, rows, cols, x, w, cols, y),
            loop("gemm", gemm, code(PLAIN), n, rows, cols, x, across, rows, y),
        ]
    return quickest(choices)


def mkl_packed(product: Product, threads: int) -> Alternative:
    """MKL's product with weights that were packed once, which its own users have to ask for."""
    if product.kind != "columns":
        raise RuntimeError("packed weights are for products of many columns")
    w, x, y, (rows, cols), n = *_arrays(product), product.matrix.shape, product.n
    library, sizes = mkl(), [ctypes.c_int64(size) for size in (rows, n, cols)]
    size = library.cblas_sgemm_pack_get_size_64
    size.restype = ctypes.c_size_t
    first, order = ctypes.c_int(161), ctypes.c_int(ROW_MAJOR)  # CblasAMatrix
    raw = np.empty(size(first, *sizes) + 64, np.uint8)
    packed = raw[-raw.ctypes.data % 64 :]
    library.cblas_sgemm_pack_64(
        *(order, first, ctypes.c_int(PLAIN), *sizes, ctypes.c_float(1)),
        *(ctypes.c_void_p(w.ctypes.data), sizes[2], ctypes.c_void_p(packed.ctypes.data)),
    )
    arguments = (library.cblas_sgemm_compute_64, rows, n, cols, packed, x, y)
    set_threads = library.MKL_Set_Num_Threads
    return in_c("MKL packed", threads, set_threads, "gemm_packed", *arguments, y=y)


class _Description(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("type", "mode", "diagonal")]


def mkl_sparse(product: Product, threads: int) -> Alternative:
    """CSR, with the hint of many calls and mkl_sparse_optimize."""
    library, n = mkl(), product.n
    _, x, y, (rows, cols) = *_arrays(product), product.matrix.shape
    csr = _csr(product)
    handle, general = ctypes.c_void_p(), _Description(20, 0, 0)  # SPARSE_MATRIX_TYPE_GENERAL
    starts, columns, values = (
        ctypes.c_void_p(array.ctypes.data) for array in (csr.indptr, csr.indices, csr.data)
    )
    ends = ctypes.c_void_p(csr.indptr.ctypes.data + csr.indptr.itemsize)
    set_threads = library.MKL_Set_Num_Threads
    set_threads(threads)
    status = [
        library.mkl_sparse_s_create_csr(
            ctypes.byref(handle), 0, rows, cols, starts, ends, columns, values
        )
    ]
    by_rows = product.kind == "rows"
    if n == 1:
        status.append(library.mkl_sparse_set_mv_hint(handle, 10, general, 1000))
        arguments = ("sparse_mv", library.mkl_sparse_s_mv, handle, general, x, y)
    else:
        layout = ctypes.c_int(COLUMN_MAJOR if by_rows else ROW_MAJOR)
        leading = [ctypes.c_int(cols if by_rows else n), ctypes.c_int(rows if by_rows else n)]
        status.append(library.mkl_sparse_set_mm_hint(handle, 10, general, layout, n, 1000))
        arguments = ("sparse_mm", library.mkl_sparse_s_mm, handle, general, layout, x)
        arguments += (ctypes.c_int(n), leading[0], y, leading[1])
    status.append(library.mkl_sparse_optimize(handle))
    if any(status):
        raise RuntimeError(f"MKL refused the matrix with status {max(status)}")
    return keeping(in_c("MKL sparse", threads, set_threads, *arguments, y=y), csr)


def scipy_csr(product: Product, threads: int) -> Alternative:
    if threads > 1:
        raise RuntimeError("scipy's sparse products have one thread")
    csr, by_rows = _csr(product), product.kind == "rows"
    x = np.ascontiguousarray(product.x.T if by_rows else product.x)
    x = x[:, 0] if product.n == 1 else x
    result = (lambda y: y.T) if by_rows else np.asarray
    return in_python("scipy CSR", threads, lambda: csr @ x, result)


def tensorflow_dense(product: Product, threads: int) -> Alternative:
    """The fastest of the ways to write it, each inside tf.function."""
    tf = tensorflow(threads)
    w, x = tf.constant(product.matrix), tf.constant(product.x)
    across = tf.constant(np.ascontiguousarray(product.matrix.T))
    if product.kind == "columns":
        functions = [lambda: tf.matmul(w, x)]
    else:
        functions = [lambda: tf.matmul(x, across), lambda: tf.matmul(x, w, transpose_b=True)]
    if product.n == 1:
        functions.append(lambda: tf.linalg.matvec(w, tf.reshape(x, [-1])))
    return quickest(
        [in_python("TensorFlow", threads, tf.function(f, autograph=False)) for f in functions]
    )


def tensorflow_sparse(product: Product, threads: int) -> Alternative:
    tf = tensorflow(threads)
    by_rows = product.kind == "rows"
    matrix = tf.sparse.from_dense(product.matrix)
    x = tf.constant(np.ascontiguousarray(product.x.T if by_rows else product.x))
    function = tf.function(lambda: tf.sparse.sparse_dense_matmul(matrix, x), autograph=False)
    result = (lambda y: y.numpy().T) if by_rows else np.asarray
    return in_python("tf.sparse", threads, function, result)


def libxsmm_dense(product: Product, threads: int) -> Alternative:
    return _libxsmm("dense", product, threads)


def libxsmm_sparse(product: Product, threads: int) -> Alternative:
    return _libxsmm("sparse", product, threads)


def _libxsmm(kind, product, threads):
    if product.kind != "columns":
        raise RuntimeError("libxsmm's kernels run along many columns of x; here there are few")
    if threads > 1:
        raise RuntimeError("libxsmm leaves threads to its caller")
    library, (w, x, y) = xsmm(), _arrays(product)
    create = getattr(library, f"xsmm_{kind}")
    create.restype = ctypes.c_void_p
    (rows, cols), n = product.matrix.shape, product.n
    state = create(rows, n, cols, *(ctypes.c_void_p(array.ctypes.data) for array in (w, x, y)))
    if not state:
        raise RuntimeError("libxsmm makes no kernel for this shape")
    run = getattr(library, f"xsmm_{kind}_run")
    arguments = ("product", run, ctypes.c_void_p(state))
    alternative = in_c(f"libxsmm {kind}", threads, lambda threads: None, *arguments, y=y)
    return keeping(alternative, w, x)


DENSE = (mkl_dense, mkl_packed, openblas, tensorflow_dense, libxsmm_dense)
SPARSE = (mkl_sparse, scipy_csr, tensorflow_sparse, libxsmm_sparse)
DENSE_NAMES = ("MKL dense", "MKL packed", "OpenBLAS", "TensorFlow", "libxsmm dense")


def present(rivals, product: Product, threads: int) -> tuple[list[Alternative], dict[str, str]]:
    """The rivals that can take part at any number of threads up to `threads`, and why the others
    cannot."""
    alternatives, reasons = [], {}
    for rival in rivals:
        for count in range(1, threads + 1):
            try:
                alternatives.append(rival(product, count))
            except (ImportError, OSError, RuntimeError) as error:
                reasons.setdefault(rival.__name__, f"{error}")
    names = {each.name for each in alternatives}
    return alternatives, {name: why for name, why in reasons.items() if name not in names}


def quickest(choices: list[Alternative]) -> Alternative:
    """The one that is fastest in a few calls."""
    for each in choices:
        each.run(1)
    return min(choices, key=lambda each: min(each.run(1) for _ in range(5)))


def _arrays(product):
    w, x = (np.ascontiguousarray(array, np.float32) for array in (product.matrix, product.x))
    return w, x, product.empty()


def _csr(product):
    import scipy.sparse

    csr = scipy.sparse.csr_matrix(product.matrix)
    csr.indices, csr.indptr = csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
    return csr
