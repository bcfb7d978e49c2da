"""What a plain model costs on the target: times of its layers, flash and RAM.

A microcontroller's are those of the virtual board, a CPU's are measured here, and where neither is
to be had, multiply-accumulates stand for time. A figure says which (`source`).
"""

import math
import tempfile
from pathlib import Path

import numpy as np

from scalpel_tf.core import gcsr
from scalpel_tf.core.layout import to_matrix
from scalpel_tf.deploy import board, c_source, convert, tflite
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.float_convolution import products
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory
from scalpel_tf.models import walk
from scalpel_tf.train import graph
from scalpel_tf.train.layers import kernels


def describe(model, width) -> dict:
    """Weights that are not 0, MACs, and what each layer with kernels has of both; times None.

    A group of `width` weights counts whole.
    """
    costs = graph.costs(graph.read(model))
    layers = []
    for path, layer in walk(model):
        found = kernels(layer)
        if not found:
            continue
        arrays = [(np.asarray(variable), kind) for variable, kind in found]
        weights = sum(array.size for array, _ in arrays)
        kept = sum(_kept(array, kind, width) for array, kind in arrays)
        cost = costs.get(path)
        layers.append(
            {
                "path": path,
                "type": type(layer).__name__,
                "shape": [int(n) for n in arrays[0][0].shape],
                "nodes": int(cost.nodes) if cost else int(arrays[-1][0].shape[-1]),
                "weights": int(weights),
                "kept": int(kept),
                "density": kept / weights,
                "macs": int(cost.macs) if cost else 0,
                "time": None,
                "bytes": None,
            }
        )
    return {
        "weights": sum(layer["kept"] for layer in layers),
        "macs": sum(layer["macs"] for layer in layers),
        "time": None,
        "flash": None,
        "ram": None,
        "size": None,
        "layers": layers,
    }


def _kept(array, kind, width):
    matrix = to_matrix(array, kind)
    rows = matrix.reshape(len(matrix), -1)
    if not rows.any():
        return 0
    groups = len(gcsr.encode(rows, width).columns)
    return min(groups * width, rows.size)


class MacMeter:
    """Multiply-accumulates of what is kept, where there is nothing to measure on."""

    unit, source = "MACs", "modelled"

    def __init__(self, options, samples=None):
        self.width = options.width

    def __call__(self, model) -> dict:
        found = describe(model, self.width)
        for layer in found["layers"]:
            layer["time"] = layer["macs"] * layer["density"]
            layer["bytes"] = 4 * layer["kept"]
        found["time"] = sum(layer["time"] for layer in found["layers"])
        found["size"] = sum(layer["bytes"] for layer in found["layers"])
        return found


class BoardMeter:
    """The virtual board: cycles on a Cortex-M4, instructions on other Cortex-M; flash and RAM."""

    def __init__(self, options, samples):
        self.target, self.method, self.width = options.facts, options.method, options.width
        self.samples = samples
        modelled = self.target.name == board.MODELLED
        self.unit = "cycles" if modelled else "instructions"
        self.source = "modelled" if modelled else "emulated"

    def __call__(self, model) -> dict:
        data = convert.convert(model, self.samples if len(self.samples) > 1 else self.samples[0])
        network = tflite.read(data)
        layers = lower(network, self.target, **self._formats())
        inputs = [_quiet(network.tensors[index]) for index in network.inputs]
        outputs = convert.run_reference(data, inputs)
        with tempfile.TemporaryDirectory() as scratch:
            project = Path(scratch) / "project"
            write(project, c_source.emit(network, data, layers, self.target, inputs, outputs))
            elf = board.build(project, scratch, self.target.name)
            run, sizes = board.run(elf, inputs), board.sizes(elf)
        found = describe(model, self.width)
        count = "cycles" if self.unit == "cycles" else "instructions"
        times = {}
        for layer, counted in zip(layers, run.layers, strict=True):
            time, size = times.get(layer.name, (0, 0))
            times[layer.name] = time + getattr(counted, count), size + layer.bytes
        for layer in found["layers"]:
            layer["time"], layer["bytes"] = times.get(layer["path"].split("/")[-1], (None, None))
        found["time"] = getattr(run, count)
        found["flash"] = sizes["text"] + sizes["data"]
        found["ram"] = plan_memory(network, layers).arena + run.stack_bytes
        found["size"] = sum(layer.bytes for layer in layers)
        return found

    def _formats(self):
        if self.method == "scalpel":
            return {}
        from scalpel_tf.deploy import baselines

        return baselines.formats(self.method)


def _quiet(tensor):
    """An input that every kernel takes the same time for: noise of a fixed seed."""
    rng = np.random.default_rng(0)
    if tensor.dtype.kind == "f":
        return rng.uniform(-1, 1, tensor.shape).astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    return rng.integers(limits.min, limits.max, tensor.shape, tensor.dtype, endpoint=True)


class CpuMeter:
    """This CPU: the exported library, one thread, one example; medians, in seconds.

    loads: bytes a second at most, from where weights of this size lie.  products, of a layer:
    multiplications for each multiply-accumulate.
    """

    unit, source = "s", "measured"

    def __init__(self, options, samples):
        self.target, self.width, self.samples = options.target, options.width, samples

    def __call__(self, model) -> dict:
        from scalpel_tf.deploy import cpu_peak, native
        from scalpel_tf.deploy.export import export

        found = describe(model, self.width)
        inputs = [sample[:1].astype(np.float32) for sample in self.samples]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "native"
            exported = export(model, target=self.target, out=folder, dtype="float32")
            profile = native.profile(folder, inputs if len(inputs) > 1 else inputs[0])
        times = {}
        for name, seconds in profile["layers"]:
            times[name] = times.get(name, 0.0) + _rounded(seconds)
        kernel = {layer["name"]: layer["kernel"] for layer in exported.layers}
        for layer in found["layers"]:
            name = layer["path"].split("/")[-1]
            layer["time"] = times.get(name)
            layer["products"] = products(kernel.get(name), layer["shape"][0])
            # Values of four bytes, a column of two for each group.
            sparse = layer["kept"] * (4 + 2 / self.width)
            layer["bytes"] = round(min(4 * layer["weights"], sparse))
        found["time"] = _rounded(profile["seconds"])
        found["size"] = sum(layer["bytes"] for layer in found["layers"])
        found["loads"] = cpu_peak.loads(found["size"])
        return found


def _rounded(seconds):
    """Three digits: a clock that is noisier decides nothing."""
    return seconds and round(seconds, 2 - math.floor(math.log10(seconds)))


def meter(options, samples):
    """The best meter of a target that there is here."""
    if options.facts.is_microcontroller:
        return BoardMeter(options, samples)
    if options.target.startswith("x86-64"):
        import platform

        if platform.machine().lower() in ("x86_64", "amd64"):
            return CpuMeter(options, samples)
    return MacMeter(options)


def peak(found) -> dict | None:
    """A Peak of this CPU in a second, with the weights of a model that `CpuMeter` measured.

    None for what another meter found.
    """
    if "loads" not in found:
        return None
    from scalpel_tf.deploy import cpu_peak

    source = f"measured on one thread, {cpu_peak.isas()[0].isa.decode()}"
    return {"macs": cpu_peak.macs(), "bytes": found["loads"], "source": source}


class Remembering:
    """A meter that measures a structure once: shapes and densities are what time depends on."""

    def __init__(self, inner, memory: dict):
        self.inner, self.memory = inner, memory
        self.unit, self.source = inner.unit, inner.source

    def __call__(self, model) -> dict:
        key = "; ".join(
            f"{layer['path']} {layer['shape']} {layer['kept']}"
            for layer in describe(model, self.inner.width)["layers"]
        )
        if key not in self.memory:
            self.memory[key] = self.inner(model)
        return self.memory[key]
