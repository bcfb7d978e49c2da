"""A griffe extension: this package's docstrings as Markdown.

They describe an argument by its name and a colon, in a line of its own or behind a sentence:

    width: weights in a group.  criterion: "rms" or "magnitude", and it may go on
        in a line that is further in.

Each becomes an entry of a list, and lines set in columns become a block of text.
"""

import re
import textwrap

import griffe

NAME = r"\w+(?:\([^)]*\))?"
ENTRY = re.compile(rf"(?:^|(?<=\. )|(?<=  ))({NAME}(?:, {NAME})*): ")
COLUMNS = re.compile(r"\S {3,}\S")


def markdown(text: str, names: set[str]) -> str:
    """The docstring with an entry of a list for each description of one of `names`."""
    parts = (_part(part.splitlines(), names) for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(parts)


def _part(lines, names):
    """The Markdown of lines without an empty one between them."""
    before, entries, after = [], [], []
    for line in lines:
        pieces = _pieces(line, names)
        if entries and not pieces[1:] and _ended(entries[-1], line):
            after.append(line)
        elif after or not (entries or pieces[1:]):
            (after or before).append(line)
        else:
            if pieces[0].strip():
                (entries[-1] if entries else before).append(pieces[0].rstrip())
            entries += [[piece.rstrip()] for piece in pieces[1:]]
    blocks = ["\n".join(before), "\n".join(map(_entry, entries)), "\n".join(after)]
    return "\n\n".join(block for block in blocks if block)


def _pieces(line, names):
    """The line cut where descriptions begin; the first piece is what stands before them."""
    starts = [m.start() for m in ENTRY.finditer(line) if _plain(m[1]) <= names]
    bounds = [0, *starts, len(line)]
    return [line[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


def _ended(entry, line):
    """Whether a line that is not further in begins a sentence of its own."""
    return not line.startswith(" ") and entry[-1].endswith(".")


def _plain(described):
    return {re.sub(r"\(.*", "", name) for name in re.split(r", (?![^(]*\))", described)}


def _entry(lines):
    name, first = lines[0].split(": ", 1)
    head = f"- **`{name}`**: {first}"
    if not any(COLUMNS.search(line) for line in lines[1:]):
        return " ".join([head, *map(str.strip, lines[1:])])
    table = textwrap.dedent("\n".join(lines[1:]))
    return "\n".join([head, "", textwrap.indent(f"```text\n{table}\n```", "    "), ""])


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every function and class."""

    def on_function_instance(self, *, func, **kwargs):
        _rewrite(func)

    def on_class_members(self, *, cls, **kwargs):
        _rewrite(cls)


def _rewrite(obj):
    if obj.docstring:
        obj.docstring.value = markdown(obj.docstring.value, _names(obj))


def _names(obj):
    """What the docstring of a function or class may describe."""
    if obj.is_function:
        return {parameter.name.lstrip("*") for parameter in obj.parameters}
    made = obj.members.get("__init__")
    return {*obj.members, *(_names(made) if made is not None and made.is_function else ())}
