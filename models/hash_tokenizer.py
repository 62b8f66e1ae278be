"""A stand-in for a tokenizer without its files: ids from a hash of the words, at the real length."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import torch

_FIRST_WORD = 16  # ids below are left to special tokens


@dataclass(frozen=True)
class TokenIds:
    """What a pipeline reads of a tokenizer's answer: `input_ids` and `attention_mask`, int64, (prompts, length)."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


@dataclass(frozen=True)
class HashTokenizer:
    """Gives each word a fixed id; for networks with random weights, where only the ids' shape and spread matter.

    start: the token before the words, or None. end: the token after them. pad: fills up to `model_max_length`.
    """

    vocabulary: int
    model_max_length: int
    start: int | None
    end: int
    pad: int
    added_tokens_encoder: tuple[str, ...] = ()

    def tokenize(self, text: str) -> list[str]:
        """Return the words; a real tokenizer would cut them further."""
        return text.split()

    def __call__(
        self,
        text: str | list[str],
        padding: Literal["max_length", "longest"] = "max_length",
        max_length: int | None = None,
        truncation: bool = True,
        return_tensors: str = "pt",
        add_special_tokens: bool = True,
        return_attention_mask: bool = True,
        return_overflowing_tokens: bool = False,
        return_length: bool = False,
    ) -> TokenIds:
        """Return the ids of one or several prompts, padded as a pipeline asks; an answer is never cut unasked."""
        assert add_special_tokens
        assert return_tensors == "pt"
        assert not return_overflowing_tokens
        assert not return_length
        length = max_length or self.model_max_length
        rows = [self._ids(prompt, length) for prompt in ([text] if isinstance(text, str) else text)]
        width = length if padding == "max_length" else max(len(row) for row in rows)
        # "longest" is asked to report cut-off words; there are none to tell of here, so rows are cut in both cases.
        del truncation, return_attention_mask, return_length, return_overflowing_tokens
        ids = torch.tensor([row + [self.pad] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return TokenIds(ids, mask)

    def batch_decode(self, ids: torch.Tensor) -> list[str]:
        """Return a text for each row of ids; hashes have no way back."""
        return ["" for _ in ids]

    def _ids(self, prompt: str, length: int) -> list[int]:
        first = [] if self.start is None else [self.start]
        room = length - len(first) - 1
        spread = self.vocabulary - 2 * _FIRST_WORD
        words = [_FIRST_WORD + zlib.crc32(word.encode()) % spread for word in self.tokenize(prompt)]
        return [*first, *words[:room], self.end]
