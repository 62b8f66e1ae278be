"""What is asked of the models: numbered prompts, and the requests that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.base import Request


@dataclass(frozen=True)
class Prompt:
    """One prompt. row: its number in the data set. metadata: what the data set says of it beside its text."""

    row: int
    text: str
    class_label: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run, in order.

    name: of the data set. identity: what the fingerprint holds of it. label_names: class names in the order of the
    labels, or empty. exhausted: the data set has no more prompts than these. note: for the report's footer.

    Request i is made of prompt i mod the number of prompts and of seed + i alone, so that a longer run asks the same at
    the indices it shares with a shorter one, and a prompt that comes again comes with a new seed.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    exhausted: bool
    note: str = ""

    def row(self, index: int) -> Prompt:
        """Return the prompt that request `index` is made of."""
        return self.prompts[index % len(self.prompts)]

    def requests(self, n: int, seed: int) -> list[Request]:
        """Return requests 0..n-1. Of a data set with more prompts than these, n must have been prepared."""
        assert n <= len(self.prompts) or self.exhausted, f"{n} requests of {len(self.prompts)} prompts of more"
        return [self._request(index, seed) for index in range(n)]

    def cycles(self, n: int) -> int:
        """Return how often the most used prompt comes in n requests."""
        return -(-n // len(self.prompts))

    def _request(self, index: int, seed: int) -> Request:
        prompt = self.row(index)
        return Request(index, prompt.text, seed + index, prompt.class_label, prompt.metadata)
