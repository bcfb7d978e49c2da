"""What float32 matrices have in common: C definitions of their panels, and the choice of a form."""

import numpy as np

from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_geometry import Geometry

LIMITS = {
    "NONE": ("-INFINITY", "INFINITY"),
    "RELU": ("0", "INFINITY"),
    "RELU6": ("0", "6"),
    "RELU_N1_TO_1": ("-1", "1"),
}


def bias_of(bias, rows: int) -> np.ndarray:
    """(rows,) float32, zeros where there is none."""
    return np.zeros(rows, np.float32) if bias is None else np.asarray(bias.data, np.float32).ravel()


def chosen(candidates, formats_of) -> tuple:
    """The fastest of (cycles, width, ...), width 0 for dense; formats_of: width -> may it be taken.

    Where none may, it is the first.
    """
    allowed = [c for c in candidates if formats_of is None or formats_of(c[1])]
    return min(allowed or candidates[:1], key=lambda candidate: candidate[:2])


def border(symbol: str, shape: Geometry) -> tuple[str, str]:
    """(definition of the scalpel_border, expression of its address)."""
    if shape.border is None:
        return "", "0"
    numbers = ", ".join(map(str, shape.border))
    return f"static const scalpel_border {symbol}_border = {{{numbers}}};\n", f"&{symbol}_border"


def panels(symbol: str, packed, depth: int) -> tuple[str, str]:
    """(definition of the panels, their name); depth: rows of weights of each."""
    ends = np.cumsum([0, *(panel.width * depth for panel in packed.panels)])
    rows = "".join(
        f"    {{{at}, {p.first}, {p.channels}, {p.width}, {p.x}}},\n"
        for at, p in zip(ends, packed.panels, strict=False)
    )
    return f"static const scalpel_panel {symbol}_panels[] = {{\n{rows}}};\n", f"{symbol}_panels"


def dense(symbol, packed, shape: Geometry, channels: int, operator, constants) -> str:
    """The definition of a scalpel_dense."""
    text, address = border(symbol, shape)
    definition, name = panels(symbol, packed, 1 + shape.run * len(shape.taps))
    low, high = LIMITS[operator.options["activation"]]
    text += definition
    return text + params(
        symbol,
        "scalpel_dense",
        weights=constants.add(packed.weights),
        panels=name,
        taps=constants.add(shape.taps),
        pixels=constants.add(shape.pixels),
        border=address,
        panel_count=len(packed.panels),
        tap_count=len(shape.taps),
        run=shape.run,
        pixel_count=shape.pixels.size,
        channels=channels,
        low=low,
        high=high,
    )
