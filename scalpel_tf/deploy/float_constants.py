"""The constants of a native model: one block of bytes that is linked into its library as it is."""

import numpy as np

ALIGNMENT = 64
SYMBOL = "model_constants"
C_TYPES = {"float32": "float", "int8": "int8_t", "int32": "int32_t", "uint16": "uint16_t"}


class Constants:
    """Arrays one after another, each at a cache line; equal ones are stored once."""

    def __init__(self):
        self._parts, self._places, self.size = [], {}, 0

    def add(self, array: np.ndarray) -> str:
        """Stores the array; returns the C expression of its address."""
        data = np.ascontiguousarray(array).tobytes()
        place = self._places.setdefault((array.dtype.name, data), self.size)
        if place == self.size:
            padding = -len(data) % ALIGNMENT or (0 if data else ALIGNMENT)
            self._parts.append(data + bytes(padding))
            self.size += len(self._parts[-1])
        return f"(const {C_TYPES[array.dtype.name]} *)({SYMBOL} + {place})"

    def data(self) -> bytes:
        """All of them."""
        return b"".join(self._parts)
