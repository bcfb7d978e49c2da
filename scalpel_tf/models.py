"""Walking through Keras models, and copies of them in which some layers are replaced."""

from collections.abc import Callable
from contextlib import contextmanager

import keras


def check_backend() -> None:
    """Raises ValueError, naming the backend, unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "scalpel_tf needs the TensorFlow backend of Keras; this process runs "
            f"{keras.backend.backend()!r}: set KERAS_BACKEND=tensorflow before importing keras."
        )


def refuse_tf_keras(thing) -> None:
    """Raises ValueError for an object of tf_keras (Keras 2), known by its class's module."""
    if any(base.__module__.split(".")[0] == "tf_keras" for base in type(thing).__mro__):
        raise ValueError(
            f"Expected an object of Keras 3, got a {type(thing).__name__} of tf_keras (Keras 2): "
            "rebuild it with `import keras` and unset TF_USE_LEGACY_KERAS."
        )


def check_model(model, function: str) -> None:
    """Raises ValueError, with a sentence, unless `copy_model` can copy this model."""
    check_backend()
    refuse_tf_keras(model)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"{function} takes a Keras model; got a {type(model).__name__}: "
            "pass the model that it belongs to."
        )
    for part in [model, *_nested_models(model)]:
        if not isinstance(part, keras.Sequential) and not hasattr(part, "operations"):
            raise _subclassed(part)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so its kernels are not there yet: give it an "
            "Input layer, or call `model.build(input_shape)` first."
        )


def walk(model: keras.Model) -> list[tuple[str, keras.layers.Layer]]:
    """The layers of the model and of those nested in it, each once, as ("outer/name", layer)."""
    found = {}

    def visit(part, prefix):
        for layer in part.layers:
            if isinstance(layer, keras.Model):
                visit(layer, f"{prefix}{layer.name}/")
            else:
                found.setdefault(id(layer), (prefix + layer.name, layer))

    visit(model, "")
    return list(found.values())


def same_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer of the same configuration."""
    return type(layer).from_config(layer.get_config())


def same_weights(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Gives `copy` the weights of `layer`, whose configuration it has."""
    for source, variable in zip(layer.weights, copy.weights, strict=True):
        variable.assign(source)
    if hasattr(copy, "finalize_state"):
        copy.finalize_state()  # preprocessing layers derive what they use from their weights


def copy_model(
    model: keras.Model, replace: Callable, transfer: Callable = same_weights
) -> keras.Model:
    """An independent copy, not compiled, with replace(layer) in the place of each layer.

    A layer that occurs twice is replaced once. transfer(layer, new) then gives the new layer, built
    by now, its weights. `same_layer` is what replaces a layer by its like.
    """
    copies = {}

    def clone(layer):
        if id(layer) not in copies:
            if isinstance(layer, keras.Model):
                inputs = None
                if not isinstance(layer, keras.Sequential):  # clone_model would rename its inputs
                    inputs = keras.tree.map_structure(
                        lambda tensor: same_layer(tensor._keras_history.operation).output,
                        layer.input,
                    )
                copy = keras.models.clone_model(layer, inputs, clone_function=clone)
                if type(copy) is not type(layer):
                    raise _subclassed(layer)
            else:
                copy = replace(layer)
            copies[id(layer)] = layer, copy
        return copies[id(layer)][1]

    with _uncompiled([model, *_nested_models(model)]):
        copy = clone(model)
    for original, new in copies.values():
        if isinstance(original, keras.layers.Layer) and not isinstance(original, keras.Model):
            transfer(original, new)
    return copy


def _nested_models(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield layer
            yield from _nested_models(layer)


def _subclassed(model):
    return ValueError(
        f"Model {model.name!r} is subclassed ({type(model).__name__}), so its layers cannot be "
        "replaced: rebuild it as a functional or Sequential model, or use the new layers in it."
    )


@contextmanager
def _uncompiled(models):
    """clone_model also compiles its clone, and fails where the loss cannot be serialised."""
    compiled = [model.compiled for model in models]
    try:
        for model in models:
            model.compiled = False
        yield
    finally:
        for model, value in zip(models, compiled, strict=True):
            model.compiled = value
