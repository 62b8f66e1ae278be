"""Dataclasses as JSON and back, as their type hints say: what is read is the same object, or refused by its place."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from files.records import Damaged

_JSON_NAMES = {
    NoneType: "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list",
    dict: "an object",
}  # fmt: skip


def to_json(value: object) -> Any:
    """Return a value as JSON has it: dataclasses and mappings are objects, tuples are lists.

    JSON has no NaN and no infinity: a float that is not finite becomes None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        assert all(isinstance(key, str) for key in value), "JSON has no other keys"
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    assert value is None or isinstance(value, str | int), f"{type(value).__name__} has no form in JSON here"
    return value


def from_json(hint: Any, content: object, place: str) -> Any:
    """Return what `to_json` made `content` of, an object of the type `hint`.

    Known are str, int, float, bool, Literal, X | None, tuples, Mapping[str, X] and dataclasses of these. A float may be
    None: it was not finite. A field that is missing has its default.

    place: where in the file this is, such as "models[0].scores".

    Raises:
        Damaged: it is of another type, a field is missing, or one is not known; the text names the place.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (kind,) = (part for part in parts if part is not NoneType)
        return None if content is None else from_json(kind, content, place)
    if origin is Literal:
        return _one_of(parts, content, place)
    if origin is tuple:
        return _read_tuple(parts, content, place)
    if origin is Mapping:
        found = _expect(dict, content, place)
        return {key: from_json(parts[1], item, _inside(place, key)) for key, item in found.items()}
    if dataclasses.is_dataclass(hint):
        return _read_fields(hint, content, place)
    if hint is float:
        return _read_float(content, place)
    assert hint in (str, int, bool), f"{hint} has no form in JSON here"
    return _expect(hint, content, place)


def _one_of(known: tuple[object, ...], content: object, place: str) -> object:
    if not isinstance(content, str) or content not in known:
        raise Damaged(f"{place} is {content!r} instead of one of {', '.join(map(repr, known))}")
    return content


def _read_tuple(parts: tuple[Any, ...], content: object, place: str) -> tuple[Any, ...]:
    items = _expect(list, content, place)
    kinds = [parts[0]] * len(items) if len(parts) == 2 and parts[1] is Ellipsis else list(parts)
    if len(items) != len(kinds):
        raise Damaged(f"{place} has {len(items)} values instead of {len(kinds)}")
    return tuple(
        from_json(kind, item, f"{place}[{number}]")
        for number, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _read_fields(kind: Any, content: object, place: str) -> Any:
    found = _expect(dict, content, place)
    hints, values = _hints(kind), {}
    if unknown := [name for name in found if name not in hints]:
        raise Damaged(f"{_inside(place, unknown[0])} is not a known field")
    for field in dataclasses.fields(kind):
        if field.name in found:
            values[field.name] = from_json(hints[field.name], found[field.name], _inside(place, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Damaged(f"{_inside(place, field.name)} is missing")
    return kind(**values)


def _read_float(content: object, place: str) -> float | None:
    if content is None:
        return None
    if isinstance(content, bool) or not isinstance(content, int | float):
        raise Damaged(f"{place} is {_name_of(type(content))} instead of {_name_of(float)}")
    try:
        return float(content)
    except OverflowError:
        raise Damaged(f"{place} is a number beyond any float") from None


def _expect(kind: type, content: object, place: str) -> Any:
    if type(content) is not kind:  # isinstance would take True for an integer
        raise Damaged(f"{place} is {_name_of(type(content))} instead of {_name_of(kind)}")
    return content


def _name_of(kind: type) -> str:
    return _JSON_NAMES.get(kind, kind.__name__)


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
