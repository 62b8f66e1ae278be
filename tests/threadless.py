"""Helpers of a scoring without processes of their own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metrics.entries import ShareOfDigests
from metrics.features import ShareOfImages

Work = Callable[[str], None]
Wait = Callable[[Callable[[], None]], tuple[str, ...]]


def attempt(work: bytes, device: str = "cpu") -> str:
    try:
        pickle.loads(work)(device)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


@dataclass
class Threadless:
    """Helpers that do their works when they are waited for, each from its pickle; as any dataclass, not hashable."""

    count: int
    works: list[Work] = field(default_factory=list)
    waited: int = 0

    @property
    def asked(self) -> list[ShareOfImages]:
        return [work for work in self.works if isinstance(work, ShareOfImages)]

    @property
    def digesting(self) -> list[ShareOfDigests]:
        return [work for work in self.works if isinstance(work, ShareOfDigests)]

    def ask(self, works: Sequence[Work]) -> Wait:
        assert len(works) <= self.count
        self.works += works
        sent = [pickle.dumps(work) for work in works]

        def wait(idle: Callable[[], None]) -> tuple[str, ...]:
            idle()
            self.waited += 1
            return tuple(attempt(work) for work in sent)

        return wait
