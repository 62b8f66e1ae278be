"""What the ranks of a run tell one another: values by name in the launcher's store, and counters.

The store is the one that torchrun's agent, or rank 0, serves for `torch.distributed`; no process group is formed, so
nothing here starts CUDA or NCCL. Values are pickled: whoever can reach the store's port is trusted, as with torchrun.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

CONNECTING_SECONDS = 300.0  # hosts start one after another, and import torch from a file system that they share
ANSWER_SECONDS = 60.0


class StoreLost(OSError):
    """The launcher's store does not answer: its host, its launcher or the network between is gone."""


@dataclass(frozen=True)
class Address:
    """Where a run's store is, and what all of its names begin with; it can be sent to another process."""

    host: str
    port: int
    prefix: str


class Board:
    """A connection to the store of one run, for one thread."""

    def __init__(self, store: Any, address: Address) -> None:
        self.address = address
        self._store = store

    def put(self, name: str, value: object) -> None:
        """Tell all ranks a value. The store's answer is not waited for: they may ask for it a moment too early."""
        with _answering():
            self._store.set(self._full(name), pickle.dumps(value))

    def put_first(self, name: str, value: object) -> bool:
        """Tell all ranks a value unless there is one; return whether it is this one that stands."""
        mine = pickle.dumps(value)
        with _answering():
            return bool(self._store.compare_set(self._full(name), "", mine) == mine)

    def has(self, *names: str) -> bool:
        """Return whether all of these were told."""
        with _answering():
            return bool(self._store.check(list(map(self._full, names))))

    def get(self, name: str) -> Any:
        """Return a value that was told."""
        with _answering():
            return pickle.loads(self._store.get(self._full(name)))

    def get_all(self, names: Sequence[str]) -> list[Any]:
        """Return values that were told, in one message."""
        with _answering():
            return [pickle.loads(value) for value in self._store.multi_get(list(map(self._full, names)))]

    def add(self, name: str, amount: int = 1) -> int:
        """Add to a counter, which begins at 0, and return its sum; no two ranks get the same one."""
        with _answering():
            return int(self._store.add(self._full(name), amount))

    def _full(self, name: str) -> str:
        return f"{self.address.prefix}/{name}"


def open_board(address: Address, seconds: float = ANSWER_SECONDS) -> Board:
    """Connect to a store that is served already. seconds: for how long to try, and to wait for its answers.

    Raises:
        StoreLost: it is not.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is there, and documented

    with _answering():
        store = TCPStore(
            address.host, address.port, is_master=False, wait_for_workers=False,
            timeout=timedelta(seconds=seconds),
        )  # fmt: skip
    return Board(store, address)


@cache
def board_of_process(address: Address, process: int) -> Board:  # noqa: ARG001 (a forked process needs its own)
    """Return this process's connection, the same one for each call. process: its number."""
    return open_board(address)


def meet(address: Address) -> Board:
    """Connect as one of the ranks that the environment describes; rank 0 serves the store where its launcher does not.

    Raises:
        StoreLost: there is no store within `CONNECTING_SECONDS`.
    """
    from torch.distributed.rendezvous import rendezvous

    with _answering():
        store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(seconds=CONNECTING_SECONDS))))
        store.set_timeout(timedelta(seconds=ANSWER_SECONDS))
    return Board(store, address)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, EOFError) as error:  # torch's DistError is a RuntimeError
        line = next(iter(str(error).splitlines()), "")
        raise StoreLost(f"the launcher's store does not answer ({line}): its host or its launcher has ended") from error
