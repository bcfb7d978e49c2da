"""Packing of fully connected weights: literal arrays, round trips, size, arithmetic."""

import numpy as np
import pytest

from scalpel_tf.deploy import fully_connected as fc


@pytest.mark.parametrize(
    "groups, per_step, packed",
    [
        (0, 2, 8 << 8),
        (1, 2, 8 << 8 | 1 << 12),  # no step, one more group
        (2, 2, 7 << 8),
        (15, 2, 1 << 8 | 1 << 12),
        (16, 2, 8 << 8 | 1 << 16),  # eight steps are one loop
        (19, 2, 7 << 8 | 1 << 12 | 1 << 16),
        (3, 1, 5 << 8),
        (17, 1, 7 << 8 | 2 << 16),
    ],
)
def test_step_counts(groups, per_step, packed):
    assert fc.step_counts(np.array([groups]), per_step).tolist() == [packed]


def test_pack_sparse_of_a_ragged_row():
    weights = np.array([[1, 2, 3, 4, 0, 6], [0, 0, 0, 0, 0, 0]], np.int8)
    packed = fc.pack_sparse(weights, 4)
    assert packed.kernel == "gcsr_fc4"
    assert packed.values.tolist() == [1, 2, 3, 4, 0, 0, 0, 6]  # the last group is inputs 2 to 5
    assert packed.indices.tolist() == [0, 1]
    assert packed.groups == 2 and packed.flash == 8 + 2 + 2 * 12


def test_pack_dense_slides_the_last_group():
    weights = np.array([[1, 2, 3, 4, 5]], np.int8)
    assert fc.pack_dense(weights).values.tolist() == [1, 2, 3, 4, 0, 0, 0, 5]
    assert fc.pack_dense(weights[:, :3]).values.tolist() == [1, 2, 3, 0]


def test_pack_sparse_delta_bridges_long_distances():
    weights = np.zeros((2, 4 * 600), np.int8)
    weights[0, 4 * 599] = 1
    weights[1, 0] = weights[1, 4 * 255] = weights[1, 4 * 511] = 2
    packed = fc.pack_sparse_delta(weights)
    assert packed.indices.tolist() == [255, 255, 89, 0, 255, 255, 1]
    assert packed.values.reshape(-1, 4)[:, 0].tolist() == [0, 0, 1, 2, 2, 0, 2]
    assert packed.counts.tolist() == fc.step_counts(np.array([3, 4]), 2).tolist()


@pytest.mark.parametrize("width, cols", [(4, 1025), (8, 2049)])
def test_pack_sparse_refuses_rows_of_more_than_256_groups(width, cols):
    with pytest.raises(ValueError, match="more than 256 groups"):
        fc.pack_sparse(np.ones((1, cols), np.int8), width)


@pytest.mark.parametrize(
    "cols, kernels",
    [
        (3, ["fc"]),
        (4, ["fc", "gcsr_fc4"]),
        (1024, ["fc", "gcsr_fc4", "gcsr_fc8"]),
        (1025, ["fc", "gcsr_fc8", "gcsr_fc4_delta"]),
        (4096, ["fc", "gcsr_fc4_delta"]),
    ],
)
def test_candidates(cols, kernels):
    assert [p.kernel for p in fc.candidates(np.ones((2, cols), np.int8))] == kernels


def test_single_weights_are_a_candidate_where_groups_would_keep_zeros():
    weights = np.zeros((8, 400), np.int8)
    weights[:, ::8] = weights[:, 1::8] = 1
    assert [p.kernel for p in fc.candidates(weights)][-1] == "csr_fc_wide"
    weights[:, 2::8] = 1  # three of four
    assert [p.kernel for p in fc.candidates(weights)][-1] == "gcsr_fc8"
    assert [p.kernel for p in fc.candidates(0 * weights)][-1] == "gcsr_fc8"


def test_pack_csr_fills_rows_up_to_groups_of_four():
    weights = np.zeros((3, 300), np.int8)
    weights[0, [2, 7, 9, 200, 299]] = [1, -2, 3, 4, 5]
    weights[2, 1] = 6
    packed = fc.pack_csr(weights)
    assert packed.kernel == "csr_fc_wide" and packed.indices.dtype == np.uint16
    np.testing.assert_array_equal(packed.values, [1, -2, 3, 4, 5, 0, 0, 0, 6, 0, 0, 0])
    np.testing.assert_array_equal(packed.indices, [2, 7, 9, 200, 299, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(packed.counts, fc.step_counts(np.array([2, 0, 1]), 1))
    assert fc.pack_csr(weights[:, :256]).indices.dtype == np.uint8


def test_pack_csr_refuses_columns_that_two_bytes_cannot_name():
    with pytest.raises(ValueError, match="65537 inputs has more than 65536"):
        fc.pack_csr(np.ones((1, 65537), np.int8))


@pytest.mark.parametrize("pack", [lambda w: fc.pack_sparse(w, 4), fc.pack_sparse_delta])
@pytest.mark.parametrize("density", [0.05, 0.1, 0.5])
def test_flash_is_at_most_1_27_of_the_density_and_16_bytes_a_row(pack, density):
    rng = np.random.default_rng(0)
    keep = np.repeat(rng.random((300, 196)) < density, 4, 1)
    packed = pack(np.where(keep, 1, 0).astype(np.int8))
    assert packed.flash <= 1.27 * keep.mean() * keep.size + 16 * 300


@pytest.mark.parametrize(
    "acc, multiplier, shift, single, double",
    [
        (3, 1 << 30, 0, 2, 2),  # 1.5
        (-3, 1 << 30, 0, -2, -1),  # -1.5: once is away from zero, the first of two upwards
        (6, 1 << 30, 1, 2, 2),
        (-6, 1 << 30, 1, -2, -2),  # -1.5: the second of two is away from zero as well
        (1, 1 << 30, -1, 1, 1),
        (100, 0, 1, 0, 0),
        (-(1 << 31), (1 << 31) - 1, 22, -512, -512),
    ],
)
def test_requantize(acc, multiplier, shift, single, double):
    assert fc.requantize(acc, multiplier, shift, "single") == single
    assert fc.requantize(acc, multiplier, shift, "double") == double


def rows_of(weights, bias=0, multiplier=(1 << 30) + 1, shift=5, exact=True):
    out = len(weights)
    bias, *scales = (np.full(out, value) for value in (bias, multiplier, shift, exact))
    return fc.rows(weights, bias, scales, zero_points=(-128, 3), rounding="single")


def test_rows_fold_the_zero_point_into_the_bias():
    assert rows_of(np.array([[1, 2], [-3, 0]], np.int8), bias=10).bias.tolist() == [394, -374]


@pytest.mark.parametrize("shift", [-3, 5, 29])
def test_a_row_without_weights_becomes_a_constant_that_every_kernel_can_take(shift):
    weights = np.zeros((1, 8), np.int8)
    rows = rows_of(weights, bias=640, shift=shift)
    assert fc.fits_int8_kernel(weights, rows, "single")
    want = min(fc.requantize(640, (1 << 30) + 1, shift, "single") + 3, 127)
    for rounding in ("single", "double"):
        got = fc.requantize(rows.bias[0], rows.multiplier[0], rows.right_shift[0], rounding)
        assert got + 3 == want


@pytest.mark.parametrize(
    "bias, shift, fits",
    [(0, 1, True), (0, 22, True), (0, 0, False), (0, 23, False), ((1 << 30) - 2000, 5, False)],
)
def test_fits_int8_kernel(bias, shift, fits):
    weights = np.ones((2, 8), np.int8)
    for rounding in ("single", "double"):
        assert fc.fits_int8_kernel(weights, rows_of(weights, bias, shift=shift), rounding) is fits


@pytest.mark.parametrize("multiplier, shift, fits", [(1 << 30, 8, False), (1 << 30, 15, True)])
def test_sums_that_may_lie_half_way_go_the_long_way(multiplier, shift, fits):
    """Sums reach 8 * 128 + 8 * 128: half of 2^shift is among them for 8 but not for 15."""
    weights = np.ones((2, 8), np.int8)
    rows = rows_of(weights, multiplier=multiplier, shift=shift)
    assert fc.fits_int8_kernel(weights, rows, "single") is fits
    assert fc.fits_int8_kernel(weights, rows, "double")
    inexact = rows_of(weights, multiplier=multiplier, shift=shift, exact=False)
    assert fc.fits_int8_kernel(weights, inexact, "single")


def test_an_accumulator_that_can_overflow_is_refused():
    with pytest.raises(ValueError, match="32-bit accumulator"):
        rows_of(np.ones((1, 8), np.int8), bias=(1 << 31) - 1)
