"""References that are not here as images: mean and covariance of their features, in an .npz file."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.reference import Reference
from files.opening import array_shapes
from files.reading import file_digest, shown, valid_text


def open_statistics(path: Path) -> Reference:
    """Return the statistics in a file as a reference without images; its arrays are not read yet.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no mean `mu` with a covariance `sigma` of as many features.
    """
    shapes = array_shapes(path)
    mu, sigma = shapes.get("mu"), shapes.get("sigma")
    if not {"mu", "sigma"} & set(shapes) and len(shapes.get("arr_0", ())) == 4:
        raise ValueError(
            f"{shown(path)} holds images (arr_0 of {shapes['arr_0']}), no statistics: name a folder of them, or score "
            "your images against the file with scripts/score_folder.py"
        )
    if mu is None or len(mu) != 1 or sigma != (*mu, *mu):
        found = ", ".join(f"{shown(name)} of {shape}" for name, shape in list(shapes.items())[:5]) or "nothing"
        raise ValueError(f"{shown(path)} holds {found}; expected mu of (D,) and sigma of (D, D), as clean-fid writes")
    name = valid_text(path.stem)
    return Reference(name, f"statistics {name} {file_digest(path)[:16]}", statistics=path)
