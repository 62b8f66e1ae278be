"""Writes requirements.lock and requirements-cpu.lock: the versions that are installed here.

    make lock

A lock holds what requirements-dev.txt asks for and all that follows from it; other packages of the environment are left
out. The CPU lock leaves out the CUDA wheels and takes torch from PyTorch's own index for CPUs. Triton stays in it: the
tests interpret its kernels on a CPU.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PREFIXES = ("nvidia-", "cuda-")
NO_CUDA_WHEEL = "nvidia-ml-py"  # Python alone: it asks the driver, and says where there is no driver
CPU_BUILDS = ("torch", "torchvision")  # PyPI's are built for CUDA

Distribution = Callable[[str], importlib.metadata.Distribution]


def read_requirements(path: Path) -> Iterator[Requirement]:
    """Yield the requirements of a file and of the files that it includes with -r. Other options are left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        if text.startswith("-r "):
            yield from read_requirements(path.parent / text.removeprefix("-r ").strip())
        elif text and not text.startswith(("-", "#")):
            yield Requirement(text)


def find_versions(
    asked: Iterable[Requirement], distribution: Distribution = importlib.metadata.distribution
) -> dict[str, str]:
    """Return the installed version of each package that is asked for, and of what these ask for, by name.

    Raises:
        ValueError: one of them is not installed.
    """
    found: dict[str, str] = {}
    pending = list(asked)
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or not _holds(requirement.marker, ()):
            continue
        seen.add((name, extras))
        try:
            installed = distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise ValueError(f"{requirement} is not installed; run pip install -r requirements-dev.txt") from error
        found[installed.metadata["Name"]] = installed.version
        for needed in map(Requirement, installed.requires or ()):
            if _holds(needed.marker, extras):
                needed.marker = None
                pending.append(needed)
    return found


def _holds(marker: Marker | None, extras: Iterable[str]) -> bool:
    here: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]  # a TypedDict of str
    return marker is None or any(marker.evaluate(here | {"extra": extra}) for extra in ("", *extras))


def format_lock(versions: dict[str, str], head: Sequence[str]) -> str:
    """Return the text of a lock file, sorted by name."""
    lines = [f"{name}=={versions[name]}" for name in sorted(versions, key=str.lower)]
    return "\n".join([*head, *lines]) + "\n"


def without_cuda(versions: dict[str, str]) -> dict[str, str]:
    """Return the same set for a machine without a GPU: no CUDA wheels, and torch's builds for CPUs."""
    kept = {
        name: version
        for name, version in versions.items()
        if name == NO_CUDA_WHEEL or not name.lower().startswith(CUDA_PREFIXES)
    }
    return kept | {name: f"{Version(kept[name]).public}+cpu" for name in CPU_BUILDS if name in kept}


def main() -> int:
    """Write both files."""
    try:
        versions = find_versions(read_requirements(ROOT / "requirements-dev.txt"))
    except ValueError as error:
        print(f"locks: {error}", file=sys.stderr)
        return 2
    made = f"Python {'.'.join(platform.python_version_tuple()[:2])}, {platform.system()} {platform.machine()}"
    tested = f"# The set that the tests last passed with ({made}); make lock writes it. pyproject.toml has the ranges."
    cpu = ["# requirements.lock for machines without a GPU: no CUDA wheels, and torch from PyTorch's index for CPUs."]
    files = {
        "requirements.lock": format_lock(versions, [tested]),
        "requirements-cpu.lock": format_lock(without_cuda(versions), [*cpu, f"--extra-index-url {CPU_INDEX}"]),
    }
    for name, text in files.items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(f"{name}: {sum('==' in line for line in text.splitlines())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
