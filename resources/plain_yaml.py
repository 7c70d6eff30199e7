"""YAML as a person means it: what may be read in two ways is an error and not a guess.

Belongs here: reading the text, and telling where a value became another than was written. Does not: what the values
mean (the models), which file it is (settings.py).

YAML's own rules turn ``1:30`` into 90 and ``010`` into 8, and keep the last of two equal keys: a limit that stands
twice would be the looser one, and nobody would know. pydantic reads ``yes`` as the number 1 and a number as a date.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

_Read = TypeVar("_Read")
_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)")
_LARGEST = 10**18
"""A whole number beyond it is a slip, and further out one that no float and no column of a database holds."""
_WORDS = 80
"""So many characters of a wrong value are shown."""


class _Loader(yaml.SafeLoader):
    """The safe loader, without what has two readings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in seen:
                        raise _problem(f"the key {_short(key.value)} stands twice", key)
                    seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def plain_int(self, node: yaml.ScalarNode) -> int:
        if not _PLAIN_INTEGER.fullmatch(str(node.value)):
            raise _problem(f"{_short(node.value)} can be read as several numbers: write it in plain decimals", node)
        value = self.of_text(node, super().construct_yaml_int)
        if abs(value) > _LARGEST:
            raise _problem(f"{_short(node.value)} is beyond 10^18: write a smaller number", node)
        return value

    def plain_float(self, node: yaml.ScalarNode) -> float:
        if ":" in str(node.value):
            raise _problem(f"{_short(node.value)} can be read as a number in sixties: quote it", node)
        return self.of_text(node, super().construct_yaml_float)

    def plain_timestamp(self, node: yaml.ScalarNode) -> object:
        return self.of_text(node, super().construct_yaml_timestamp)

    def plain_bool(self, node: yaml.ScalarNode) -> bool:
        return self.of_text(node, super().construct_yaml_bool)

    def of_text(self, node: yaml.ScalarNode, construct: Callable[[yaml.ScalarNode], _Read]) -> _Read:
        try:
            return construct(node)
        except (ValueError, OverflowError, AttributeError, IndexError, KeyError) as error:
            raise _problem(
                f"{_short(str(node.value))} is no {node.tag.rsplit(':')[-1]} ({_short(str(error))})", node
            ) from None


for _kind in ("int", "float", "timestamp", "bool"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", getattr(_Loader, f"plain_{_kind}"))


def load(text: bytes | str) -> Any:
    """The document in ``text``.

    Raises:
        yaml.YAMLError: it is none, or says something in a way that has two readings.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # derived from the safe loader
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def misread(written: Any, read: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Where ``read``, a model or a part of one, is not what was written: path, value and remedy.

    A word of yes or no became a number, a number a date, or one has no end.
    """
    if isinstance(written, Mapping | list):
        # What is taken as it stands may be a loop, and is as it was written.
        for key, one, other in _pairs(written, read) if written is not read else ():
            yield from misread(one, other, f"{path}.{key}" if path else str(key))
    elif (remedy := _remedy(written, read)) is not None:
        yield path, written, remedy


def _pairs(written: Mapping[Any, Any] | list[Any], read: Any) -> Iterator[tuple[Any, Any, Any]]:
    if isinstance(written, list):
        if isinstance(read, tuple | list):
            yield from ((place, *pair) for place, pair in enumerate(zip(written, read, strict=False)))
    elif isinstance(read, BaseModel):
        # Beside the fields' names there are none: the models forbid what they do not know.
        yield from ((key, one, getattr(read, str(key), None)) for key, one in written.items())
    elif isinstance(read, Mapping):
        yield from ((key, one, read.get(key)) for key, one in written.items())


def _remedy(written: Any, read: Any) -> str | None:
    if isinstance(read, float | Decimal) and not math.isfinite(read):
        return "write a finite number"
    if isinstance(written, bool) and read is not None and not isinstance(read, bool):
        return f"write a number: YAML reads yes, no, on and off as {written}"
    if isinstance(written, int | float) and isinstance(read, date):
        return "write a date such as 2024-01-31"
    return None


class Gist(str):
    """What stands for something nested in an error's line, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def shown(value: object) -> object:
    """``value`` for an error's line: the keys of a section, how long a list is, the beginning of what is long."""
    if isinstance(value, Mapping):
        keys = " ".join(", ".join(str(shown(key)) for key in value).split())
        return Gist(f"{{{keys if len(keys) <= _WORDS else f'{keys[:_WORDS]}...'}}}")
    if isinstance(value, list | tuple | set):
        return Gist(f"[{len(value)} in all]" if value else "[]")
    if isinstance(value, BaseModel):
        return Gist(type(value).__name__)
    if isinstance(value, str | bytes):
        return value[:_WORDS]
    return value if len(repr(value)) <= _WORDS else repr(value)[:_WORDS]


def remedy_of(details: ErrorDetails) -> str:
    """What pydantic says is wrong, without the name it has for an error of ours."""
    return details["msg"].removeprefix("Value error, ")


def _problem(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _short(text: str) -> str:
    return repr(text[:_WORDS])
