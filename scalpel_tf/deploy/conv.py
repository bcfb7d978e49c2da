"""CONV_2D in the format of runtime/scalpel_conv.h, which describes it."""

from dataclasses import dataclass, replace

import numpy as np

from scalpel_tf.core import cost, gcsr
from scalpel_tf.core.targets import Target
from scalpel_tf.deploy.int8 import window

WIDTH = 4
LONGEST_STEP = 255
UNROLLED, GROUP_CODE = 16, 60  # groups in the kernel's loop, bytes of code each
MOST_GROUPS = 256 * UNROLLED - 1  # of a row
MARGIN = 4  # bytes before each line, as in scalpel_gcsr_conv.c
SMALL_BAND = 4096  # bytes; a pointwise convolution cuts its image into lines that take less


@dataclass(frozen=True)
class Shape:
    """A convolution's sizes as (rows, columns) pairs; `output` is before pooling.

    pool: 1, or 2 where the maximum of 2 x 2 outputs is kept.
    """

    input: tuple[int, int]
    output: tuple[int, int]
    filter: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    channels: int
    pool: int = 1

    @property
    def blocks(self) -> int:
        """Calls of the kernel, which makes four columns of `pool` rows."""
        return self.output[0] // self.pool * -(-self.columns // 4)

    @property
    def columns(self) -> int:
        """Output columns before pooling, without one that pooling leaves out."""
        return self.output[1] // self.pool * self.pool

    @property
    def reach(self) -> int:
        """Rows of the padded input that one step of output rows needs."""
        return (self.filter[0] - 1) * self.dilation[0] + 1 + (self.pool - 1) * self.stride[0]

    @property
    def padded_rows(self) -> int:
        """Rows of the padded input that are read at all."""
        steps = self.output[0] // self.pool
        return (steps - 1) * self.pool * self.stride[0] + self.reach


@dataclass(frozen=True)
class Packed:
    """A convolution's weights and the band that they walk through.

    shared: whether all rows share the steps.  planes: (first, second, split, below) each.
    counts: stored groups of every row, fillers included.  density: kept fraction of the groups.
    tile: columns that go through a band of their own.
    """

    shape: Shape
    shared: bool
    values: np.ndarray
    steps: np.ndarray
    counts: np.ndarray
    planes: tuple[tuple[int, int, int, int], ...]
    entries: int
    line_bytes: int
    band_rows: int
    tile: int
    density: float

    @property
    def tiles(self) -> int:
        """Bands side by side."""
        return -(-max(self.shape.columns, 4) // self.tile)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all bands."""
        return self.tiles * len(self.planes) * self.entries * 8

    @property
    def scratch(self) -> int:
        """Bytes that a call works in."""
        narrow = self.shape.columns < 4
        lines = 2 * (self.line_bytes + MARGIN)
        return self.row_bytes * self.band_rows + lines + 4 * len(self.counts) * narrow

    def with_room(self, room: int) -> "Packed":
        """The same with as many rows in its bands as `room` bytes of scratch allow, at least now's.

        Rows have to be moved up in a full band, so that taller ones are faster; more than `reach`
        more would not be noticed.
        """
        rows = self.band_rows + max(room - self.scratch, 0) // self.row_bytes
        return replace(self, band_rows=min(rows, self.shape.padded_rows, 2 * self.shape.reach + 3))

    @property
    def groups(self) -> int:
        """Stored groups, fillers included."""
        return int(self.counts.sum())

    def words(self, right_shift: np.ndarray) -> np.ndarray:
        """scalpel_conv_row.packed."""
        loops, rest = np.divmod(self.counts.astype(np.int64), UNROLLED)
        return GROUP_CODE * (UNROLLED - rest) << 16 | loops << 8 | right_shift & 255

    def cost(self, target: Target) -> cost.LayerCost:
        """Modelled cycles, flash and RAM."""
        return cost.conv(
            rows=len(self.counts),
            groups=self.groups,
            steps=len(self.steps),
            blocks=self.shape.blocks,
            bands=self.tiles * (self.shape.output[0] // self.shape.pool),
            pool=self.shape.pool,
            planes=len(self.planes),
            entries=self.tiles * self.entries,
            lines=self.shape.padded_rows,
            ram=self.scratch,
            target=target,
        )


def shape_of(operator, x, y, kernel: tuple[int, int], pool: int = 1) -> Shape:
    """The Shape of a CONV_2D; a pointwise one is free to cut its image into lines of any length."""
    options = operator.options
    dilation = options.get("dilation", (1, 1))
    pads = [
        window(size, reach, stride, apart, options["padding"])[1]
        for size, reach, stride, apart in zip(
            x.shape[1:3], kernel, options["stride"], dilation, strict=True
        )
    ]
    shape = Shape(
        x.shape[1:3],
        y.shape[1:3],
        tuple(kernel),
        tuple(options["stride"]),
        tuple(dilation),
        tuple(pads),
        x.shape[3],
        pool,
    )
    if tuple(kernel) == (1, 1) and shape.stride == (1, 1) and pool == 1:
        columns = _line(shape)
        lines = shape.output[0] * shape.output[1] // columns, columns
        shape = replace(shape, input=lines, output=lines)
    return shape


def _line(shape):
    """The columns of a pointwise convolution's lines: few entries too many, short steps."""
    pixels = shape.output[0] * shape.output[1]
    most = max(shape.output[1], SMALL_BAND // (2 * shape.channels))
    divisors = [n for n in range(1, min(pixels, most) + 1) if pixels % n == 0]
    return min(divisors, key=lambda n: (-(-n // 4) * 4 * (pixels // n), n < 8, n))


def candidates(matrix: np.ndarray, shape: Shape) -> list[Packed]:
    """The int8 (out, rows * columns * channels) weights as every format that can hold them.

    Some store all groups, all rows sharing the steps, others those that are not zero; they differ
    in their tiles.  Empty where a group's inputs do not lie in two pieces at most.
    """
    cols = matrix.shape[1]
    if cols < WIDTH:
        return []
    places = [_place(start, shape) for start in gcsr.group_starts(cols, WIDTH).tolist()]
    if any(place is None for place in places):
        return []
    sparse = gcsr.encode(matrix, WIDTH)
    group = -(-sparse.columns.astype(np.int64) // WIDTH)
    row = np.repeat(np.arange(len(matrix)), np.diff(sparse.offsets.astype(np.int64)))
    whole = np.zeros((len(matrix), len(places), WIDTH), np.int8)
    whole[row, group] = sparse.values
    keep = np.zeros(whole.shape[:2], bool)
    keep[row, group] = True
    forms = [(np.ones_like(keep), True)]
    if not keep.all():
        forms.append((keep, bool((keep == keep[0]).all())))
    columns = -(-max(shape.columns, 4) // 4) * 4
    tiles = sorted({-(-columns // parts // 4) * 4 for parts in (1, 2, 3, 4)})
    found = [
        _pack(whole, kept, places, shape, same, tile) for kept, same in forms for tile in tiles
    ]
    return [packed for packed in found if packed.counts.max() <= MOST_GROUPS]


def _place(start, shape):
    """(filter row, entry, plane) of the group of weights from `start` on; None if it is in three.

    A whole group meets, at output column j, the bytes from j * apart + offset on: entry
    j + offset // apart of the plane of offset % apart.
    """
    apart = shape.stride[1] * shape.channels
    taps, channel = np.divmod(np.arange(start, start + WIDTH), shape.channels)
    rows, columns = np.divmod(taps, shape.filter[1])
    offsets = columns * shape.dilation[1] * shape.channels + channel
    breaks = np.flatnonzero((np.diff(offsets) != 1) | (np.diff(rows) != 0)) + 1
    if len(breaks) == 0:
        return int(rows[0]), int(offsets[0]) // apart, (int(offsets[0]) % apart, 0, WIDTH, 0)
    if len(breaks) > 1:
        return None
    split = int(breaks[0])
    second = int(offsets[split]) - split
    return int(rows[0]), 0, (int(offsets[0]), second, split, int(rows[split] - rows[0]))


def _pack(whole, keep, places, shape, shared, tile):
    planes = sorted({place[2] for place, used in zip(places, keep.any(0), strict=True) if used})
    planes = planes or [(0, 0, WIDTH, 0)]
    shift = max((p[1] for p, used in zip(places, keep.any(0), strict=True) if used), default=0)
    entries = -(-(tile + shift) // 4) * 4
    row_size = len(planes) * entries
    address = np.array(
        [
            row * shape.dilation[0] * row_size + planes.index(plane) * entries + entry
            if plane in planes
            else 0
            for row, entry, plane in places
        ]
    )
    order = np.argsort(address, kind="stable")
    values, steps, counts = [], [], []
    for weights, kept in zip(whole[:, order], keep[:, order], strict=True):
        distance = np.diff(address[order][kept], prepend=0)
        fillers = np.maximum(distance - 1, 0) // LONGEST_STEP
        last = np.cumsum(fillers + 1) - 1
        count = int(last[-1]) + 1 if len(last) else 0
        row_values = np.zeros((count, WIDTH), np.int8)
        row_steps = np.full(count, LONGEST_STEP, np.uint8)
        row_values[last] = weights[kept]
        row_steps[last] = distance - LONGEST_STEP * fillers
        values.append(row_values)
        steps.append(row_steps)
        counts.append(count)
    apart = shape.stride[1] * shape.channels
    end = max(max(first, second if split < WIDTH else 0) for first, second, split, _ in planes)
    start = max(shape.columns - tile, 0)
    line = max((start + entries - 1) * apart + end + WIDTH, shape.pad[1] * shape.channels)
    return Packed(
        shape=shape,
        shared=shared,
        values=np.concatenate(values).ravel(),
        steps=steps[0] if shared else np.concatenate(steps),
        counts=np.array(counts),
        planes=tuple(planes),
        entries=entries,
        line_bytes=-(-line // 4) * 4,
        band_rows=shape.reach,
        tile=tile,
        density=float(keep.mean()),
    )
