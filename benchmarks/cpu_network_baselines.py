"""The paper's baselines on this CPU, by MKL: element-wise pruning with CSR in every layer, and with
CSR only where it is faster than dense.

The weights are the original's largest of each layer, at given densities, without training them
again: there is speed and size here, but no accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cpu_network_mkl as mkl
import keras
import numpy as np
import paired

VALUE_BYTES = INDEX_BYTES = 4


@dataclass(frozen=True)
class Baseline:
    alternative: paired.Alternative
    facts: dict


def alternatives(model: keras.Model, densities: dict[str, float], x) -> dict[str, Baseline]:
    """The two by name; nothing where MKL is missing."""
    try:
        mkl.mkl()
    except OSError:
        return {}
    chain, x = [cut(layer, densities) for layer in mkl.plain(model)], paired.aligned(x)
    weighted = [layer for layer in chain if layer.kernel is not None]
    every = {layer.name for layer in weighted}
    faster = choose(chain, x, every)
    found = {}
    for name, sparse in (("traditional", every), ("optimized", faster)):
        found[name] = Baseline(mkl.fastest(name, chain, x, sparse), facts(weighted, sparse))
    return found


def cut(layer: mkl.Plain, densities) -> mkl.Plain:
    """The layer with its largest weights only."""
    if layer.kernel is None:
        return layer
    density = densities.get(layer.name, densities.get("", 1.0))
    magnitudes = np.abs(layer.kernel)
    threshold = np.quantile(magnitudes, 1 - density)
    kept = np.where(magnitudes >= threshold, layer.kernel, np.float32(0))
    return replace(layer, kernel=kept)


def choose(chain, x, names) -> set[str]:
    """The layers that are faster as CSR than in either dense form."""
    dense = [mkl.seconds(chain, x, variants) for variants in (0, 3)]
    sparse = mkl.seconds(chain, x, 0, names)
    return {name for name in names if sparse[name] < min(times[name] for times in dense)}


def facts(layers, sparse) -> dict:
    """What a row says of size: values and indices of 4 bytes where a layer is CSR."""
    weights = sum(layer.kernel.size for layer in layers)
    kept = sum(int(np.count_nonzero(layer.kernel)) for layer in layers)
    stored = sum(csr_bytes(layer) for layer in layers if layer.name in sparse)
    stored += sum(VALUE_BYTES * layer.kernel.size for layer in layers if layer.name not in sparse)
    return {
        "density": kept / weights,
        "bytes": stored,
        "size_ratio": stored / (VALUE_BYTES * weights),
        "sparse_layers": sorted(sparse),
        "weights": "the original's largest, not trained again: speed and size only",
    }


def csr_bytes(layer) -> int:
    """Bytes of a layer's values, columns and row starts; one matrix a group."""
    kept, rows = int(np.count_nonzero(layer.kernel)), layer.kernel.shape[-1] + layer.groups
    return kept * (VALUE_BYTES + INDEX_BYTES) + rows * INDEX_BYTES
