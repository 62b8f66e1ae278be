"""Images as files, one a row, with the captions beside them; what a table says of them is `image_tables`' to read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.data.decoding import outside, read_inside
from files.listing import TEXT_SUFFIXES, LeftOut, Listing, count_reasons
from files.paths import is_inside
from files.reading import decode_text, is_regular, shown

IMAGE_STEM_END, CAPTION_STEM_END = "_input", "_caption"


@dataclass(frozen=True)
class ImageFile:
    """One row: an image's file, which may be missing where a table names it, and its caption.

    root: the data set's folder, in which the file must lie. error: why the row cannot be used; empty where it can.
    uncaptioned: whether a table has nothing where the caption should be, such as JSON's null.
    """

    path: Path
    caption: str
    root: Path
    error: str = ""
    uncaptioned: bool = False

    def read(self) -> bytes:
        """Return the file's content.

        Raises:
            ValueError: the row cannot be used, or its file cannot be read or lies outside of `root`; one line.
            OSError: this process has no memory or no file descriptors left.
        """
        if self.error:
            raise ValueError(self.error)
        return read_inside(self.path, self.root)

    def fault(self) -> str:
        """Return why the row cannot be used, known without reading its file: its error, or a path that leads outside.

        A file that is missing or damaged is no fault yet. Empty: none.
        """
        try:
            return self.error or ("" if is_inside(self.path, self.root) else outside(self.path, self.root))
        except ValueError as error:
            return str(error)

    def loss(self) -> str:
        """Return why the row has no image, as far as that is known without reading one: a fault, or a missing file."""
        return self.fault() or ("" if is_regular(self.path) else f"there is no file {shown(self.path)}")


@dataclass(frozen=True)
class FoundRows:
    """The rows found in a folder, in their order, what is no row of it, and what a user must know of them.

    used: the files that gave the rows: images, captions and tables.
    """

    rows: list[ImageFile]
    used: set[Path]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_captions(folder: Path, files: Sequence[ImageFile]) -> None:
    """Raise ValueError where a row cannot be used or its caption is empty: nothing could be learnt from it."""
    unusable = [fault for file in files if (fault := file.fault())]
    if unusable:
        raise ValueError(f"{len(unusable)} of {len(files)} rows of {shown(folder)} cannot be used: {unusable[0]}")
    empty = [shown(file.path.name) for file in files if not file.caption]
    if empty:
        raise ValueError(f"{len(empty)} of {len(files)} captions in {folder} are empty, first that of {empty[0]}")


def in_caption_order(images: Iterable[Path]) -> list[Path]:
    """Return images in the order of their names, whatever subfolders they are in."""
    return sorted(images, key=lambda path: (path.name, path))


def captions_beside(listing: Listing) -> dict[Path, list[Path]]:
    """Return for each image the text files that may hold its caption, the likeliest first; empty where there is none.

    For NAME.png these are NAME_caption.txt, NAME.txt and NAME.png.txt, for 00000_input.png also 00000_caption.txt. The
    suffix may be .caption, in any case of letters.
    """
    texts: Mapping[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in sorted(listing.others, key=lambda path: (path.suffix != ".txt", path)):
        if path.suffix.lower() in TEXT_SUFFIXES:
            texts[path.parent, path.stem].append(path)
    found = {}
    for image in listing.images:
        stems = [image.stem + CAPTION_STEM_END, image.stem]
        if image.stem.endswith(IMAGE_STEM_END):
            stems.append(image.stem.removesuffix(IMAGE_STEM_END) + CAPTION_STEM_END)
        stems.append(image.name)
        found[image] = [text for stem in stems for text in texts.get((image.parent, stem), ())]
    return found


def rows_beside(listing: Listing, texts: Mapping[Path, Sequence[Path]]) -> FoundRows:
    """Return a row for each image that has a caption beside it, in the order of their names; the others are left out.

    Raises:
        ValueError: no row can be used.
    """
    rows, left_out = [], []
    used: set[Path] = set()
    spare: set[Path] = set()
    for image in in_caption_order(listing.images):
        if not texts[image]:
            left_out.append(LeftOut(listing.name(image), "an image without a caption beside it"))
            continue
        caption, *others = texts[image]
        rows.append(_beside(listing.folder, image, caption))
        used |= {image, caption}
        spare |= set(others)
    left_out += [LeftOut(listing.name(other), "another text gives the image's caption") for other in spare - used]
    if rows and all(row.error for row in rows):
        raise ValueError(rows[0].error)
    return FoundRows(rows, used, left_out)


def missing_captions(folder: Path, images: Sequence[Path], bare: Sequence[Path], more: str = "") -> str:
    """Return what is said of images without captions. more: what else was found, as a sentence's end."""
    stem = bare[0].stem
    usual = stem.removesuffix(IMAGE_STEM_END) + CAPTION_STEM_END
    return (
        f"{len(bare)} of {len(images)} images in {shown(folder)} have no caption, first {shown(bare[0].name)}: give "
        f"each a {shown(stem)}.txt or {shown(usual)}.txt, or a metadata.jsonl with file_name and text{more}"
    )


def nothing_found(listing: Listing) -> str:
    """Return what is said of a folder in which nothing can be a row, with what is in it instead."""
    told = count_reasons(listing.left_out)
    there = f" (left out: {'; '.join(told)})" if told else ""
    return f"{shown(listing.folder)} holds neither images nor parquet shards{there}; give a folder that does"


def _beside(folder: Path, image: Path, text: Path) -> ImageFile:
    """Return an image with the caption in `text`; where that cannot be read, the row has the reason as its error."""
    try:
        caption = decode_text(read_inside(text, folder), text).replace("\r\n", "\n").replace("\r", "\n").strip()
    except ValueError as error:
        return ImageFile(image, "", folder, str(error))
    return ImageFile(image, caption, folder)
