"""Robots drawn from parts by a seed: captioned images without limit, none of them a training image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sources.base import Example
from files.images import open_image
from metrics.robots.grammar import PARTS, load_grammar

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE = 64
# The sprite atlas: a row for each colour, ten columns for each of these.
ATLAS_KINDS = ("head", "body", "eyes", "mouth", "accessory")
LAYERS = ("body", "head", "mouth", "eyes", "accessory")


class RobotArt:
    """The sprites and backgrounds of assets/robots, and how an image is put together from them."""

    def __init__(self, assets: Path) -> None:
        with open_image((assets / "robots" / "sprites.webp").read_bytes()) as sprites:
            self._sprites = sprites.convert("RGBA")
        with open_image((assets / "robots" / "backgrounds.webp").read_bytes()) as backgrounds:
            self._backgrounds = backgrounds.convert("RGBA")

    def sprite(self, colour: int, kind: str, number: int) -> Image:
        """Return one part in one colour, RGBA, 64 px."""
        left = SIZE * (10 * ATLAS_KINDS.index(kind) + number)
        return self._sprites.crop((left, SIZE * colour, left + SIZE, SIZE * (colour + 1)))

    def background(self, number: int) -> Image:
        """Return one background, RGBA without transparency, 64 px."""
        return self._backgrounds.crop((SIZE * number, 0, SIZE * (number + 1), SIZE))

    def draw(self, attributes: Sequence[int]) -> Image:
        """Return the exact image of these parts (in the order of PARTS), RGB, 64 px."""
        from PIL import Image

        named = dict(zip(PARTS, attributes, strict=True))
        image = self.background(named["background"])
        for kind in LAYERS:
            image = Image.alpha_composite(image, self.sprite(named["colour"], kind, named[kind]))
        return image.convert("RGB")


@cache
def load_art(assets: Path) -> RobotArt:
    return RobotArt(assets)


def draw_robot(caption: str, assets: Path) -> Image:
    """Return the exact image of a full caption. Raises ValueError where the caption does not name every part."""
    named = load_grammar(assets).parse(caption)
    missing = [part for part in PARTS if part not in named]
    if missing:
        raise ValueError(f"the caption {caption!r} names no {', '.join(missing)}; a robot's exact image needs all")
    return load_art(assets).draw([named[part] for part in PARTS])


class Robots:
    """Rows of distinct robots, of held-out pairs of body and accessory alone; row i follows from (seed, i).

    The rows are a keyed permutation of all such robots (4 million), so that none comes twice before all have come.
    """

    name = "Robots"

    def __init__(self, assets: Path, seed: int = 0) -> None:
        self._assets = assets
        self._seed = seed
        self._grammar = load_grammar(assets)
        digest = hashlib.sha256()
        for file in ("parts.json", "sprites.webp", "backgrounds.webp"):
            digest.update((assets / "robots" / file).read_bytes())
        self.identity = f"robots seed={seed} parts={digest.hexdigest()[:16]}"
        self.label_names = self._grammar.class_names
        self._radices = tuple(
            len(self._grammar.held_out_offsets) if part == "accessory" else size
            for part, size in zip(PARTS, self._grammar.sizes, strict=True)
        )
        self._count = 1
        for radix in self._radices:
            self._count *= radix
        self._half_bits = ((self._count - 1).bit_length() + 1) // 2

    def __len__(self) -> int:
        return self._count

    def _permute(self, row: int) -> int:
        """Return where a Feistel network keyed by the seed sends this row, among all robots."""
        mask = (1 << self._half_bits) - 1
        while True:
            left, right = row >> self._half_bits, row & mask
            for turn in range(4):
                key = f"{self._seed}/{turn}/{right}".encode()
                left, right = right, left ^ (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) & mask)
            row = (left << self._half_bits) | right
            if row < self._count:  # else walk on: the network permutes a somewhat larger range
                return row

    def attributes(self, row: int) -> tuple[int, ...]:
        """Return the options of the row's robot, in the order of PARTS."""
        number = self._permute(row % self._count)
        named = {}
        for part, radix in zip(PARTS, self._radices, strict=True):
            number, named[part] = divmod(number, radix)
        offset = self._grammar.held_out_offsets[named["accessory"]]
        named["accessory"] = (named["body"] + offset) % len(self._grammar.phrases["accessory"])
        return tuple(named[part] for part in PARTS)

    def metadata(self, row: int) -> Mapping[str, str]:
        """Return the number of each of the robot's parts, by the part's name: what its image must show."""
        return {part: str(option) for part, option in zip(PARTS, self.attributes(row), strict=True)}

    def example(self, row: int) -> Example:
        """Return one row: its image, full caption, and the label 10 * colour + head."""
        attributes = self.attributes(row)
        label = len(self._grammar.phrases["head"]) * attributes[0] + attributes[1]
        return Example(self._grammar.caption(attributes), load_art(self._assets).draw(attributes), label)

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on, without end."""
        row = start
        while True:
            yield self.example(row)
            row += 1
