"""The captions of drawn robots: the parts that a caption names, and how to read them back from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PARTS = ("colour", "head", "body", "eyes", "mouth", "accessory", "background")


@dataclass(frozen=True)
class RobotGrammar:
    """What parts.json says: each part's phrases, the captions' templates, and which pairs are held out.

    phrases: for each part of PARTS, its options in the order of their numbers.
    held_out_offsets: a pair is held out where (accessory - body) mod 10 is one of these.
    """

    phrases: Mapping[str, tuple[str, ...]]
    colours: tuple[str, ...]
    caption_template: str
    class_template: str
    held_out_offsets: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of options of each part, in the order of PARTS."""
        return tuple(len(self.phrases[part]) for part in PARTS)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the 100 classes, `10 * colour + head`: "a blue robot with a helmet head"."""
        return tuple(
            self.class_template.format(colour=colour, head=head)
            for colour in self.phrases["colour"]
            for head in self.phrases["head"]
        )

    def caption(self, attributes: Sequence[int]) -> str:
        """Return the full caption of a robot with these options, in the order of PARTS."""
        return self.caption_template.format(
            **{part: self.phrases[part][option] for part, option in zip(PARTS, attributes, strict=True)}
        )

    def is_held_out(self, attributes: Sequence[int]) -> bool:
        """Say whether this robot's pair of body and accessory is kept from all training."""
        named = dict(zip(PARTS, attributes, strict=True))
        return (named["accessory"] - named["body"]) % len(self.phrases["body"]) in self.held_out_offsets

    def parse(self, text: str) -> dict[str, int]:
        """Return the option of each part that the text names: all for a caption, colour and head for a class name.

        Empty for a text that does not begin as a robot's caption does.
        """
        start = re.match(rf"({_either(self.phrases['colour'])}) with (?={_either(self.phrases['head'])}(?:,|$))", text)
        if start is None:
            return {}
        found = {"colour": self.phrases["colour"].index(start[1])}
        rest = text[start.end() :]
        for part in PARTS[1:]:
            match = re.search(rf"(?:^|\s)({_either(self.phrases[part])})(?=,|\s|$)", rest)
            if match is not None:
                found[part] = self.phrases[part].index(match[1])
        return found


def _either(phrases: Sequence[str]) -> str:
    """Return a pattern for any of the phrases, the longest first: "yellow eyes" must not hide "masked yellow eyes"."""
    return "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))


@cache
def load_grammar(assets: Path) -> RobotGrammar:
    """Read assets/robots/parts.json. Raises OSError where it is missing."""
    known = json.loads((assets / "robots" / "parts.json").read_text(encoding="utf-8"))
    return RobotGrammar(
        phrases={part: tuple(known["phrases"][part]) for part in PARTS},
        colours=tuple(known["colours"]),
        caption_template=known["caption"],
        class_template=known["class_name"],
        held_out_offsets=tuple(known["held_out"]["offsets"]),
    )


def asked_attributes(text: str, assets: Path) -> dict[str, int]:
    """Return the option of each part that `text`, a robot's caption or class name, asks for; {} for other texts."""
    return load_grammar(assets).parse(text)
