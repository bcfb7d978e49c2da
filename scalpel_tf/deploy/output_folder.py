"""A folder that appears whole or not at all."""

from pathlib import Path


def require_replaceable(out: Path) -> None:
    """Raises ValueError unless `out` is missing, empty, or an earlier export."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` is a folder to write; {out} is a file.")
    if out.is_dir() and any(out.iterdir()) and not (out / "model.json").is_file():
        raise ValueError(
            f"{out} holds other files than an earlier export; choose a new folder for `out`."
        )


def replace_folder(project: Path, out: Path, scratch: Path) -> None:
    """Puts the project in the place of `out`, which at no time is half-written.

    scratch: a folder beside `out` for what was there before.
    """
    before = scratch / "before"
    if out.exists():
        out.rename(before)
    try:
        project.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise
