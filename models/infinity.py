"""Infinity's place in the registry: its switches are known already, its adapter is still to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from models.base import ModelFamily

if TYPE_CHECKING:
    from models.base import Runtime

UNAVAILABLE = "the Infinity adapter does not exist yet"


@dataclass(frozen=True)
class Options:
    """Infinity has no options yet."""


def _load(_options: Options, _runtime: Runtime) -> NoReturn:
    raise ValueError(f"{UNAVAILABLE}: leave it out with SKIP_INFINITY=1")


FAMILY = ModelFamily(
    key="infinity",
    options=Options,
    title=lambda _: "Infinity",
    source=lambda *_: UNAVAILABLE,
    load=_load,
    unavailable=UNAVAILABLE,
)
