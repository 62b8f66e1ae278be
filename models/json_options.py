"""Options that are JSON objects, given as text by flag or variable: read strictly, recorded in one form."""

from __future__ import annotations

import json
from typing import Any

from files.reading import shown


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an option's text holds; an empty text is an empty object.

    Raises:
        ValueError: it is no JSON object, names a key twice, or holds a number that JSON has no text for.
    """
    if not text.strip():
        return {}

    def refuse(number: str) -> None:
        raise ValueError(f"{number} is no number of JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"it names {shown(twice[0])} twice")
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{shown(text)} is no JSON object ({reason}): write one such as '{{\"name\": 1}}'") from None
    if not isinstance(content, dict):
        raise ValueError(f"{shown(text)} is a JSON {type(content).__name__}: write an object such as '{{\"name\": 1}}'")
    return content


def canonical(text: str) -> str:
    """Return the one form of a JSON object's text: keys sorted, no spaces, nothing for an empty object.

    A text that is no object comes back as it is: the option's own check says so.
    """
    try:
        content = read_object(text)
    except ValueError:
        return text
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if content else ""


def read_texts(text: str) -> dict[str, str]:
    """Return a JSON object whose values are texts.

    Raises:
        ValueError: as `read_object`, or a value is no text or an empty one.
    """
    content = read_object(text)
    for name, value in content.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{shown(name)} is {shown(json.dumps(value))}: expected a text, such as a folder")
    return content
