"""Builds assets/emoji from three npm packages: one sheet of 64-px images for each drawing style, and captions.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    python -m scripts.embedded.build_emoji FOLDER_WITH_THE_THREE_TGZ

The packages' other sheets (Apple's, Facebook's) are not licensed for this and are never read.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from files.images import open_image
from scripts.embedded.job import open_parser

SIZE = 64
COLUMNS = 40
QUALITY = 85
LEFT_OUT = ("Flags", "Symbols", "Component")
PACKAGES = {
    "noto": ("emoji-datasource-google-16.0.0.tgz", "package/img/google/64/"),
    "twemoji": ("emoji-datasource-twitter-16.0.0.tgz", "package/img/twitter/64/"),
    "fluent": ("lobehub-fluent-emoji-3d-1.1.0.tgz", "package/assets/"),
}


def code_points(name: str) -> str:
    """Return the file's code points without variation selectors, which packages write or leave out as they like."""
    return "-".join(code for code in Path(name).stem.lower().split("-") if code != "fe0f")


def read_images(package: Path, folder: str) -> Iterator[tuple[str, Image.Image]]:
    """Yield the code points and the image, on white, of each file in the package's folder."""
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith(folder) and (content := archive.extractfile(member)) is not None:
                with open_image(content.read()) as image:
                    scaled = image.convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
                white = Image.new("RGBA", scaled.size, "white")
                yield code_points(member.name), Image.alpha_composite(white, scaled).convert("RGB")


def read_concepts(package: Path) -> list[dict[str, str]]:
    """Return name, category and subcategory of each emoji that is kept, in Unicode's order."""
    with tarfile.open(package) as archive:
        content = archive.extractfile("package/emoji_pretty.json")
        assert content is not None
        entries = json.load(content)
    entries.sort(key=lambda entry: entry["sort_order"])
    return [
        {
            "code_points": code_points(entry["unified"]),
            "name": (entry["name"] or entry["short_name"].replace("_", " ")).lower(),
            "category": entry["category"],
            "subcategory": entry["subcategory"],
        }
        for entry in entries
        if entry["category"] not in LEFT_OUT
    ]


def build_emoji(source: Path, target: Path) -> None:
    """Write one WebP sheet for each style, and emoji.json, whose tiles say where each image lies on its sheet."""
    target.mkdir(parents=True, exist_ok=True)
    concepts = read_concepts(source / PACKAGES["noto"][0])
    index: dict[str, object] = {"size": SIZE, "columns": COLUMNS, "concepts": concepts}
    tiles: dict[str, list[int]] = {}
    for style, (file, folder) in PACKAGES.items():
        images = dict(read_images(source / file, folder))
        # tiles[style][i] is the number of the concept whose image is the sheet's tile i.
        tiles[style] = [number for number, concept in enumerate(concepts) if concept["code_points"] in images]
        rows = -(-len(tiles[style]) // COLUMNS)
        sheet = Image.new("RGB", (SIZE * COLUMNS, SIZE * rows), "white")
        for place, number in enumerate(tiles[style]):
            where = (SIZE * (place % COLUMNS), SIZE * (place // COLUMNS))
            sheet.paste(images[concepts[number]["code_points"]], where)
        sheet.save(target / f"{style}.webp", quality=QUALITY, method=6)
    index["tiles"] = tiles
    (target / "emoji.json").write_text(json.dumps(index, separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    parser = open_parser(__doc__)
    parser.add_argument("source", type=Path, help="the folder with the three packages, as npm pack leaves them")
    arguments = parser.parse_args()
    build_emoji(arguments.source, arguments.assets / "emoji")


if __name__ == "__main__":
    main()
