"""Results on disk and on the terminal."""

import json
from pathlib import Path


def save_json(path: Path | str, value) -> None:
    """Writes JSON to `path`, whole or not at all; its folder is made where it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)


def table(rows: list[list[str]]) -> str:
    """Rows of cells as lines of aligned columns; the first column to the left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def figure(value: float) -> str:
    """A count with its thousands apart, a small number with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
