"""The cost model against the virtual board."""

import pytest
from fc_model import layer, model

from scalpel_tf.core import cost
from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower

PACKS = {
    "fc": fc.pack_dense,
    "gcsr_fc4": lambda weights: fc.pack_sparse(weights, 4),
    "gcsr_fc8": lambda weights: fc.pack_sparse(weights, 8),
    "gcsr_fc4_delta": fc.pack_sparse_delta,
    "csr_fc": fc.pack_csr,
}
SHAPES = [(100, 784, 0.07), (100, 784, 0.5), (50, 300, 0.1), (10, 100, 0.3)]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
@pytest.mark.parametrize("kernel", PACKS)
def test_cycles_are_within_a_tenth_of_the_board(kernel, target, tmp_path):
    facts = find_target(target)
    width = {"gcsr_fc8": 8, "csr_fc": 1}.get(kernel, 4)
    entries = [layer(out, cols, d, width, 0, right_shift=15) for out, cols, d in SHAPES]
    network = model(entries)
    layers = lower(network, facts, formats=lambda weights: [PACKS[kernel](weights)])
    x = [entry["x"] for entry in entries]
    y = [entry["x"][:, :1] for entry in entries]
    write(tmp_path / "project", c_source.emit(network, b"", layers, facts, x, y))
    # Assembly is the same everywhere; the figures for plain C are those of GCC's code.
    compiler = None if "dsp" in facts.features else "gcc"
    try:
        elf = board.build(tmp_path / "project", tmp_path, target, compiler=compiler)
    except RuntimeError as error:
        if "There is no compiler" not in str(error):
            raise
        pytest.skip(str(error))
    run = board.run(elf, x)
    for entry, count in zip(entries, run.layers, strict=True):
        packed = PACKS[kernel](entry["weights"])
        shape = entry["weights"].shape
        expected = cost.fully_connected(packed.kernel, *shape, packed.groups, facts).cycles
        measured = count.instructions if count.cycles is None else count.cycles
        assert expected == pytest.approx(measured, rel=0.1, abs=150), shape
