"""Which nodes of a layer are left after cuts, as indices in the layer as it was before them."""


def compose(first: dict[str, list[int]], then: dict[str, list[int]]) -> dict[str, list[int]]:
    """{layer: indices that are left} of two cuts, the second of what the first left."""
    later = {
        path: [first[path][index] for index in kept] if path in first else list(kept)
        for path, kept in then.items()
    }
    return {**first, **later}


def pack(indices: list[int]) -> str:
    """Rising indices as ranges: [0, 1, 2, 7] is "0-2 7"."""
    ranges = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return " ".join(f"{low}-{high}" if low < high else f"{low}" for low, high in ranges)


def unpack(text: str) -> list[int]:
    """The indices that `pack` wrote; ValueError for anything else."""
    found = []
    for part in text.split():
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found
