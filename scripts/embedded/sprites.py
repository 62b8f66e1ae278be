"""Draws batches of robots on the device, so that training data never repeats, and their captions' token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.data.sources.robots import ATLAS_KINDS, LAYERS, SIZE
from files.images import open_image
from metrics.robots.grammar import PARTS, RobotGrammar, load_grammar

Split = Literal["train", "held_out"]


class RobotSprites:
    """All sprites as tensors on one device, and the drawing of random robots from them.

    Nothing here waits for the device, so that `draw` may stand inside a CUDA graph (with `generator=None`, the
    device's default generator, whose state CUDA graphs advance by themselves).
    """

    def __init__(self, assets: Path, device: str) -> None:
        self.grammar: RobotGrammar = load_grammar(assets)
        self.device = device
        with open_image((assets / "robots" / "sprites.webp").read_bytes()) as image:
            atlas = torch.from_numpy(np.array(image.convert("RGBA")))
        with open_image((assets / "robots" / "backgrounds.webp").read_bytes()) as image:
            scenes = torch.from_numpy(np.array(image.convert("RGB")))
        rows, columns = atlas.shape[0] // SIZE, atlas.shape[1] // SIZE
        # [colour * 50 + 10 * kind + number, 4, 64, 64] and [background, 3, 64, 64], both 0..255.
        self._sprites = (
            atlas.view(rows, SIZE, columns, SIZE, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, SIZE, SIZE).to(device)
        )
        self._columns = columns
        self._scenes = scenes.view(SIZE, -1, SIZE, 3).permute(1, 3, 0, 2).contiguous().to(device)
        offsets = set(self.grammar.held_out_offsets)
        held_out = sorted(offsets)
        training = [offset for offset in range(10) if offset not in offsets]
        self._offsets = {
            "held_out": torch.tensor(held_out, device=device),
            "train": torch.tensor(training, device=device),
        }

    def random_attributes(self, generator: torch.Generator | None, n: int, split: Split = "train") -> Tensor:
        """Return `attributes_BA`, int64, in the order of PARTS; training and held-out pairs never mix."""

        def choose(options: int) -> Tensor:
            return torch.randint(options, (n,), generator=generator, device=self.device)

        named = {part: choose(size) for part, size in zip(PARTS, self.grammar.sizes, strict=True)}
        offsets = self._offsets[split]
        named["accessory"] = (named["body"] + offsets[choose(len(offsets))]) % 10
        return torch.stack([named[part] for part in PARTS], dim=1)

    def compose(self, attributes_BA: Tensor) -> Tensor:
        """Return `images_BCHW`, float32 -1..1: the exact images of these attributes.

        Rounds to whole levels after each layer, as drawing with Pillow does.
        """
        named = dict(zip(PARTS, attributes_BA.unbind(1), strict=True))
        image = self._scenes[named["background"]].float()
        for kind in LAYERS:
            index = named["colour"] * self._columns + 10 * ATLAS_KINDS.index(kind) + named[kind]
            sprite = self._sprites[index].float()
            alpha = sprite[:, 3:] / 255
            image = (image + (sprite[:, :3] - image) * alpha).round()
        return image / 127.5 - 1

    def draw(self, generator: torch.Generator | None, n: int, split: Split = "train") -> tuple[Tensor, Tensor]:
        """Return `images_BCHW` (float32, -1..1, 64 px) and `attributes_BA` (int64) of n random robots."""
        attributes_BA = self.random_attributes(generator, n, split)
        return self.compose(attributes_BA), attributes_BA

    def captions(self, attributes_BA: Tensor) -> list[str]:
        """Return the full captions of these attributes (waits for the device)."""
        return [self.grammar.caption(row) for row in attributes_BA.tolist()]

    def class_labels(self, attributes_BA: Tensor) -> Tensor:
        """Return `labels_B`: 10 * colour + head."""
        return attributes_BA[:, 0] * len(self.grammar.phrases["head"]) + attributes_BA[:, 1]


class CaptionTokens:
    """Token ids of captions, put together on the device from the ids of their phrases.

    Right for tokenizers that split at spaces first, which both of ours do; it is checked at construction
    against the tokenizer's own ids of random captions.
    """

    def __init__(
        self,
        sprites: RobotSprites,
        tokenize: Callable[[Sequence[str]], Tensor],
        pad_id: int,
        end_id: int,
        start_id: int | None = None,
    ) -> None:
        """`tokenize` gives `ids_BL` exactly as the pipeline makes them: with start and end, padded to its length."""
        grammar, device = sprites.grammar, sprites.device
        ids_of = _strip(tokenize, pad_id, end_id, start_id)
        order, texts = _segments(grammar)
        pieces = [[ids_of(text) for text in options] for options in texts]
        longest = max(len(piece) for options in pieces for piece in options)
        most = max(len(options) for options in pieces)
        table = torch.full((len(pieces), most, longest), pad_id)
        lengths = torch.zeros((len(pieces), most), dtype=torch.int64)
        for segment, options in enumerate(pieces):
            for option, piece in enumerate(options):
                table[segment, option, : len(piece)] = torch.tensor(piece)
                lengths[segment, option] = len(piece)
        self.length = tokenize(["a"]).shape[1]
        self._pad_id, self._end_id, self._start_id = pad_id, end_id, start_id
        self._order = torch.tensor([PARTS.index(part) for part in order], device=device)
        self._segment = torch.arange(len(order), device=device)
        self._slot = torch.arange(longest, device=device)
        self._table, self._lengths = table.to(device), lengths.to(device)
        checked = sprites.random_attributes(torch.Generator(device).manual_seed(0), 256)
        expected = tokenize(sprites.captions(checked)).to(device)
        if not torch.equal(self(checked), expected):
            raise ValueError("this tokenizer's ids of a caption are not the ids of its phrases in a row")

    def __call__(self, attributes_BA: Tensor) -> Tensor:
        """Return `ids_BL`, int64, as the tokenizer gives them for these attributes' captions."""
        options = attributes_BA[:, self._order]
        ids_BSK = self._table[self._segment, options]
        lengths_BS = self._lengths[self._segment, options]
        starts_BS = lengths_BS.cumsum(1) - lengths_BS + (self._start_id is not None)
        # Slots past a phrase's end are written to one extra column, which is cut off.
        place_BSK = (starts_BS[..., None] + self._slot).masked_fill(self._slot >= lengths_BS[..., None], self.length)
        ids_BL = torch.full(
            (len(attributes_BA), self.length + 1), self._pad_id, dtype=torch.int64, device=attributes_BA.device
        )
        ids_BL.scatter_(1, place_BSK.flatten(1), ids_BSK.flatten(1))
        if self._start_id is not None:
            ids_BL[:, 0] = self._start_id
        end_B1 = lengths_BS.sum(1, keepdim=True) + (self._start_id is not None)
        ids_BL.scatter_(1, end_B1, self._end_id)
        return ids_BL[:, : self.length].contiguous()


def _segments(grammar: RobotGrammar) -> tuple[list[str], list[list[str]]]:
    """Return the caption's parts in the order of the text, and for each the texts of its options.

    The words and marks between two parts belong to the first of them.
    """
    order = sorted(PARTS, key=lambda part: grammar.caption_template.index(f"{{{part}}}"))
    texts = []
    for part, following in zip(order, [*order[1:], None], strict=True):
        begin = grammar.caption_template.index(f"{{{part}}}") + len(part) + 2
        end = grammar.caption_template.index(f"{{{following}}}") if following else None
        texts.append([(phrase + grammar.caption_template[begin:end]).strip() for phrase in grammar.phrases[part]])
    return order, texts


def _strip(
    tokenize: Callable[[Sequence[str]], Tensor], pad_id: int, end_id: int, start_id: int | None
) -> Callable[[str], list[int]]:
    """Return a function that gives a text's ids alone: no start, no end, no padding."""

    def ids_of(text: str) -> list[int]:
        ids: list[int] = tokenize([text])[0].tolist()
        if start_id is not None:
            ids = ids[1:]
        return ids[: next(i for i, token in enumerate(ids) if token in (end_id, pad_id))]

    return ids_of
