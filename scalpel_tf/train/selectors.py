"""Choosing layers by name, path, regular expression, type or callable."""

import re
from collections.abc import Callable

from scalpel_tf.models import walk

Selector = str | type | Callable


def selectors(model, argument, given) -> list[Selector]:
    """The list of selectors; a name that selects no layer is a typing error, not a wish."""
    if given is None:
        return []
    several = isinstance(given, (list, tuple, set, dict))
    given = list(given) if several else [given]
    for selector in given:
        idle = not any(selects(selector, path, layer) for path, layer in walk(model))
        if idle and isinstance(selector, str):
            names = ", ".join(path for path, _ in walk(model))
            raise ValueError(
                f"`{argument}` has {selector!r}, which selects no layer of {model.name!r}: {names}."
            )
    return given


def selects(selector: Selector, path: str, layer) -> bool:
    """Whether a selector means that layer; `path` is that of `models.walk`."""
    if isinstance(selector, str):
        names = (path, layer.name)
        return selector in names or any(re.fullmatch(selector, name) for name in names)
    if isinstance(selector, type):
        return isinstance(layer, selector)
    if callable(selector):
        return bool(selector(layer))
    raise ValueError(
        f"Select layers by name, path, regular expression, type or callable; got {selector!r}."
    )
