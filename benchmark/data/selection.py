"""A stratified sample of a table, its images cropped to squares: what fine-tuning is prepared from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from benchmark.data.decoding import content_digest, crop_square
from benchmark.data.sources.base import Example

Stratum = TypeVar("Stratum", bound=Hashable)


class Stratifiable(Protocol):
    """What a sample is drawn from: rows whose labels can be read without their images."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def labels(self) -> list[int | None]:
        """Return each row's label, None where it is not known."""
        ...

    def rows_at(self, positions: Sequence[int]) -> Iterator[Callable[[], Example]]:
        """Yield the rows at these ascending positions as functions that decode them."""
        ...


class Selection:
    """A table whose first `stratified` rows are a sample of it, in equal shares of its labels; then come all others.

    Both parts are in the table's own order, so that reading goes through it once. Images are central squares of at
    most `side` pixels; their digest and so their split is that of the whole image.
    """

    def __init__(self, table: Stratifiable, stratified: int, seed: int, side: int) -> None:
        self.name = table.name
        self.arrangement: Mapping[str, int] = {"stratified": stratified, "seed": seed, "side": side}
        self.identity = f"{table.identity}; first {stratified} stratified by label, seed {seed}; centre crop {side} px"
        self._table = table

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._table.label_names

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on; what lies before is neither read nor decoded."""
        return (row() for row in self.undecoded(start))

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield the rows from `start` on as functions that decode and crop them."""
        labels = self._table.labels()
        chosen = choose_rows(labels, self.arrangement["stratified"], self.arrangement["seed"])
        taken = set(chosen)
        others = [row for row in range(len(labels)) if row not in taken]
        for part in (chosen[start:], others[max(0, start - len(chosen)) :]):
            for row in self._table.rows_at(part):
                yield partial(self._crop, row)

    def _crop(self, row: Callable[[], Example]) -> Example:
        example = row()
        if example.image is None:
            return example
        square = crop_square(example.image, self.arrangement["side"])
        return replace(example, image=square, digest=content_digest(example.image))


def equal_shares(sizes: Mapping[Stratum, int], total: int) -> dict[Stratum, int]:
    """Return how many each stratum gives: the same, or all that it has; the others make up for what that lacks.

    Shares of strata that are not used up differ by one at most.
    """
    shares: dict[Stratum, int] = {}
    left = min(total, sum(sizes.values()))
    for place, stratum in enumerate(sorted(sizes, key=lambda stratum: sizes[stratum])):
        shares[stratum] = min(sizes[stratum], left // (len(sizes) - place))
        left -= shares[stratum]
    return shares


def choose_rows(labels: Sequence[int | None], count: int, seed: int) -> list[int]:
    """Return `count` rows in equal shares of the labels, ascending; rows without a label are a stratum of their own.

    Within a stratum a digest of seed and row decides: no generator's stream to keep the same for ever.
    """
    strata: dict[int | None, list[int]] = {}
    for row, label in enumerate(labels):
        strata.setdefault(label, []).append(row)
    shares = equal_shares({label: len(rows) for label, rows in strata.items()}, count)

    def lot(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/{row}".encode()).digest()

    return sorted(row for label, rows in strata.items() for row in sorted(rows, key=lot)[: shares[label]])
