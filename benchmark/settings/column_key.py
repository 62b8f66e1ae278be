"""What a column is: a model family, its options, and the values of the axes that columns of one model differ in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

FAMILY = "FAMILY"


@dataclass(frozen=True)
class ColumnKey:
    """What tells one column from all others, whatever else a run has. A column's folder is found by it.

    family: the model family's key. options: its options, by the names of their variables (SDXL_STEPS). axes: the
    settings that columns of one model differ in (MODE, DTYPE, what a sweep varies). Values are text, as recorded.
    """

    family: str
    options: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, str]:
        """The key as a fingerprint holds it."""
        return {FAMILY: self.family, **self.options, **self.axes}

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of the key's SHA-256."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:8]

    def matches(self, recorded: Mapping[str, object], defaults: Mapping[str, str]) -> bool:
        """Return whether a recorded fingerprint is of this column. What it lacks counts as its default."""
        return all(recorded.get(name, defaults.get(name)) == value for name, value in self.values.items())
