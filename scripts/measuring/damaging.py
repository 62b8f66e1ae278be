"""Damages files at random places, as a failing disk, a bad copy or an editor would."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path


def damage(path: Path, moments: random.Random, within: range | None = None) -> str:
    """Change the file's bytes in one of several ways at a random place; return what was done.

    within: the places to choose from, all of them where it is None.
    """
    content = bytearray(path.read_bytes())
    within = within or range(len(content))
    place = moments.choice(within)
    length = moments.randint(1, min(64, len(content) - place))
    kind = moments.choice(("flip", "flip", "flip", "digit", "zeros", "cut", "insert", "truncate", "swap", "empty"))
    if kind == "flip":
        content[place] ^= 1 << moments.randrange(8)
    elif kind == "digit":
        digits = [index for index in within if chr(content[index]).isdigit()]
        place = moments.choice(digits) if digits else place
        content[place] = ord("0") + (content[place] - ord("0") + moments.randint(1, 9)) % 10
    elif kind == "zeros":
        content[place : place + length] = bytes(length)
    elif kind == "cut":
        del content[place : place + length]
    elif kind == "insert":
        content[place:place] = moments.randbytes(length)
    elif kind == "truncate":
        del content[place:]
    elif kind == "swap":
        other = moments.randrange(len(content))
        content[place], content[other] = content[other], content[place] ^ 1
    else:
        content.clear()
    path.write_bytes(bytes(content))
    return f"{kind} at {place} of {path.name}"


def damage_line(path: Path, kind: str, moments: random.Random) -> str:
    """Damage a journal at a random place of a random line of a kind; return what was done."""
    places, start = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        if f'"kind": "{kind}"'.encode() in line:
            places.append(range(start, start + len(line)))
        start += len(line)
    return f"{damage(path, moments, moments.choice(places))}, a {kind} line"


def kinds_in(path: Path) -> list[str]:
    """Return the kinds of lines that a journal holds, sorted."""
    return sorted({match.decode() for match in re.findall(rb'"kind": "(\w+)"', path.read_bytes())})


def copy_tree(source: Path, target: Path) -> Path:
    """Return a fresh copy of a folder at `target`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
