"""Pieces of C99 source: arrays, comments and literals."""

import textwrap

import numpy as np

C_TYPES = {"i1": "int8_t", "u1": "uint8_t", "i2": "int16_t", "u2": "uint16_t", "i4": "int32_t"}
WIDTH = 100


def array(name: str, values: np.ndarray, qualifiers: str = "static const") -> str:
    """The definition of a one-dimensional integer array; an empty one gets a single 0."""
    flat = values.ravel() if values.size else np.zeros(1, values.dtype)
    kind = C_TYPES[flat.dtype.str[1:]]
    return f"{qualifiers} {kind} {name}[{flat.size}] = {{\n{lines(map(str, flat.tolist()))}\n}};\n"


def lines(items) -> str:
    """The items, comma-separated and wrapped."""
    text = ", ".join(items)
    return textwrap.fill(
        text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )


def literal(value) -> str:
    """An int32 as a C literal; -2^31 has none of its own."""
    return "(-2147483647 - 1)" if int(value) == -(1 << 31) else str(int(value))


def params(symbol: str, kind: str, **fields) -> str:
    """The definition of a constant parameter struct; values are integers or C expressions."""
    members = ",\n".join(
        f"    .{name} = {value if isinstance(value, str) else literal(value)}"
        for name, value in fields.items()
    )
    return f"static const {kind} {symbol} = {{\n{members},\n}};\n"


def comment_safe(text: str) -> str:
    """The text with nothing in it that ends a comment, a line or a string."""
    return "".join(c if c.isalnum() or c in " _-./:;,()[]" else "?" for c in text)
