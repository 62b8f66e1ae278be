"""Builds assets/robots from the parts of the robohash package: two sprite atlases at 64 px and parts.json.

    python -m scripts.embedded.build_robots

Needs `robohash==2.0` (requirements-dev.txt), whose wheel carries the art of set1 and the backgrounds.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from PIL import Image

from files.images import open_image
from scripts.embedded.job import open_parser

SIZE = 64
KINDS = ("head", "body", "eyes", "mouth", "accessory")
FOLDER_ENDINGS = {"head": "02Face", "body": "01Body", "eyes": "Eyes", "mouth": "Mouth", "accessory": "Accessory"}

# Named by eye, in the order of the files' own numbers (…-01.png first). Each phrase reads as it stands in a caption.
PHRASES: dict[str, tuple[str, ...]] = {
    "colour": ("blue", "brown", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow"),
    "head": (
        "a helmet head",
        "a round head",
        "a dome head",
        "an egg head",
        "a tin can head",
        "a light bulb head",
        "a shield head",
        "a hooked head",
        "a triangle head",
        "a box head",
    ),
    "body": (
        "a bulky round body",
        "a domed body with hose arms",
        "a slim body",
        "a wide chest",
        "a boxy body",
        "a long thin neck",
        "a big body with a glowing core",
        "a tiny body",
        "an open barrel body",
        "a broad-shouldered body",
    ),
    "eyes": (
        "angry eyes",
        "goggle eyes",
        "one red eye",
        "a red visor slit",
        "one camera lens",
        "two dot eyes",
        "yellow eyes",
        "line eyes",
        "masked yellow eyes",
        "a glass visor",
    ),
    "mouth": (
        "a tiny mouth",
        "a speaker mouth",
        "an orange grille mouth",
        "yellow teeth",
        "a slot mouth",
        "a black mouth",
        "a vent mouth",
        "a small yellow mouth",
        "a striped mouth",
        "a panel smile",
    ),
    "accessory": (
        "a number badge",
        "a cigar",
        "a ball antenna",
        "a siren light",
        "a satellite dish",
        "a moustache",
        "a top hat",
        "a TV aerial",
        "a hair tuft",
        "a spike",
    ),
}
SCENES = {
    "bg1/000": "in starry space",
    "bg1/001": "in front of white clouds",
    "bg1/002": "in front of a city skyline",
    "bg1/003": "in a forest",
    "bg1/004": "at a desert island",
    "bg1/005": "on green hills",
    "bg1/006": "under the moon at night",
    "bg1/007": "in front of a mountain",
    "bg1/008": "in a desert",
    "bg1/009": "on green fields at sunrise",
    "bg1/010": "in front of a cloudy sky",
    "bg1/011": "on a beach",
    "bg1/012": "in front of a computer screen",
    "bg2/000": "on a red hexagon poster",
    "bg2/001": "on a blue hexagon poster",
    "bg2/002": "on a blue sunburst",
    "bg2/003": "on a green sunburst",
    "bg2/004": "on a yellow sunburst",
    "bg2/005": "on a red sunburst",
    "bg2/006": "on a green hexagon poster",
}


def robot_phrase(colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} robot"


def describe_parts() -> dict[str, object]:
    """Return what parts.json holds: every part's phrase, and the rules that drawing and captions follow."""
    return {
        "about": "Robots drawn from parts: the atlases' order, the captions' phrases and which pairs are held out.",
        "size": SIZE,
        "parts": ["colour", "head", "body", "eyes", "mouth", "accessory", "background"],
        "colours": list(PHRASES["colour"]),
        "phrases": {
            "colour": [robot_phrase(colour) for colour in PHRASES["colour"]],
            **{kind: list(PHRASES[kind]) for kind in KINDS},
            "background": list(SCENES.values()),
        },
        "caption": "{colour} with {head}, {eyes}, {mouth}, {accessory} and {body}, {background}",
        "class_name": "{colour} with {head}",
        "draw_order": ["background", "body", "head", "mouth", "eyes", "accessory"],
        "sprites": {"file": "sprites.webp", "rows": "colour", "columns": [f"{kind} 0..9" for kind in KINDS]},
        "backgrounds": {"file": "backgrounds.webp", "columns": "background 0..19"},
        "held_out": {"rule": "(accessory - body) mod 10 in offsets", "offsets": [0, 1]},
        "source": "PyPI robohash 2.0, set1 and backgrounds by Zikri Kader, CC-BY; see assets/LICENSES.md",
    }


def read_sprite(path: Path) -> Image.Image:
    with open_image(path.read_bytes()) as image:
        return image.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def find_one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise OSError(f"{folder}: expected one file {pattern}, found {len(found)}; install robohash==2.0")
    return found[0]


def build_robots(source: Path, target: Path) -> None:
    """Write sprites.webp (10 rows of colours x 50 columns of parts), backgrounds.webp (20 columns) and parts.json."""
    target.mkdir(parents=True, exist_ok=True)
    sprites = Image.new("RGBA", (SIZE * 10 * len(KINDS), SIZE * len(PHRASES["colour"])))
    for row, colour in enumerate(PHRASES["colour"]):
        for group, kind in enumerate(KINDS):
            folder = find_one(source / "sets" / "set1" / colour, f"*#{FOLDER_ENDINGS[kind]}")
            for number in range(10):
                sprite = read_sprite(find_one(folder, f"*-{number + 1:02d}.png"))
                sprites.paste(sprite, (SIZE * (10 * group + number), SIZE * row))
    sprites.save(target / "sprites.webp", lossless=True, quality=100, method=6)

    backgrounds = Image.new("RGB", (SIZE * len(SCENES), SIZE))
    for column, key in enumerate(SCENES):
        set_name, number_text = key.split("/")
        scene = read_sprite(find_one(source / "backgrounds" / set_name, f"{number_text}#*.png"))
        backgrounds.paste(Image.alpha_composite(Image.new("RGBA", scene.size, "white"), scene), (SIZE * column, 0))
    backgrounds.save(target / "backgrounds.webp", lossless=True, quality=100, method=6)
    (target / "parts.json").write_text(json.dumps(describe_parts(), indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = open_parser(__doc__)
    assets: Path = parser.parse_args().assets
    package = importlib.util.find_spec("robohash")
    if package is None or package.origin is None:
        raise SystemExit("robohash is not installed: pip install robohash==2.0")
    build_robots(Path(package.origin).parent, assets / "robots")


if __name__ == "__main__":
    main()
