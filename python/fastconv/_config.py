"""What a saved model says about its parts: a class's name and its constructor's arguments.

Layers, initialisers, losses, metrics and optimizers share one convention: every constructor
argument is kept in an attribute of the same name. Their configuration, their ``repr`` and the way
back follow from it and are written once, here. A name is looked up in a table that the caller
passes; nothing is ever imported because a file says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T", bound="Configurable")


class Configurable:
    """A value described by its class's name and its constructor's arguments."""

    def _arguments(self) -> dict[str, Any]:
        import inspect

        named = (p for p in inspect.signature(type(self)).parameters.values() if p.kind is not p.VAR_KEYWORD)
        return {parameter.name: getattr(self, parameter.name) for parameter in named}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as values that JSON can hold.

        Returns
        -------
        dict
            Argument to number, string, None, list, or ``{"class_name", "config"}``.
        """
        return {name: _encode(value) for name, value in self._arguments().items()}

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        """Make an object from what `get_config` returned, nested objects already restored."""
        return cls(**config)

    def __repr__(self) -> str:
        """Class name and arguments, as one would type them."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"


def describe(value: Configurable) -> dict[str, Any]:
    """Return ``{"class_name": ..., "config": ...}``, which JSON can hold."""
    return {"class_name": type(value).__name__, "config": value.get_config()}


def _encode(value: Any) -> Any:
    if isinstance(value, Configurable):
        return describe(value)
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    return value.name if isinstance(value, np.dtype) else value


def restore(description: Any, classes: Mapping[str, type[Configurable]]) -> Any:
    """Undo `describe`, looking class names up in `classes` and nowhere else.

    Raises
    ------
    ValueError
        If a class is not in the table.
    """
    if isinstance(description, list):
        return [restore(item, classes) for item in description]
    if not isinstance(description, dict):
        return description
    if description.keys() != {"class_name", "config"}:
        return {key: restore(value, classes) for key, value in description.items()}
    name, config = description["class_name"], description["config"]
    if not isinstance(name, str) or name not in classes:
        raise ValueError(
            f"expected a class that fastconv has; received {name!r}: pass "
            f"custom_objects={{{name!r}: <the class>}} if it is your own"
        )
    if not isinstance(config, dict):
        raise ValueError(f"expected the config of {name} to be an object; received {config!r}")
    return classes[name].from_config(restore(config, classes))


def by_name(argument: str, value: Any, kind: type[T], names: Mapping[str, type[T]]) -> T:
    """Return an object of `kind` from an instance, a class or the name of one.

    Parameters
    ----------
    argument : str
        The caller's argument, for the message.
    value : kind, type or str
        What the user gave.
    kind : type
        The base class to arrive at.
    names : mapping of str to type
        The names users may type.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        return value()
    expected = f"expected {argument} to be {options(names)} or a {kind.__name__}"
    if not isinstance(value, str):
        raise TypeError(f"{expected}; received {value!r} of type {type(value).__name__}")
    if value not in names:
        raise ValueError(f"{expected}; received {value!r}{suggestion(value, names)}")
    return names[value]()


def options(names: Iterable[str]) -> str:
    """Join names for a message: ``'adam', 'sgd'``."""
    return ", ".join(repr(name) for name in names)


def suggestion(value: str, names: Iterable[str]) -> str:
    """Return ``": did you mean 'adam'?"`` when a name comes close, else an empty string."""
    import difflib

    close = difflib.get_close_matches(value, list(names), n=1)
    return f": did you mean {close[0]!r}?" if close else ""
