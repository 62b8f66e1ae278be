"""Damages files at random places, as a failing disk, a bad copy or an editor would."""

from __future__ import annotations

import random
import shutil
from pathlib import Path


def damage(path: Path, moments: random.Random) -> str:
    """Change the file's bytes in one of several ways at a random place; return what was done."""
    content = bytearray(path.read_bytes())
    place = moments.randrange(len(content))
    length = moments.randint(1, min(64, len(content) - place))
    kind = moments.choice(("flip", "flip", "flip", "digit", "zeros", "cut", "insert", "truncate", "swap", "empty"))
    if kind == "flip":
        content[place] ^= 1 << moments.randrange(8)
    elif kind == "digit":
        digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
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


def copy_tree(source: Path, target: Path) -> Path:
    """Return a fresh copy of a folder at `target`."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
