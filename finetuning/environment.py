"""Whether the installed packages and the GPU serve training: what `pip check` says, and what it cannot say.

pip knows whether the packages agree with one another. It does not know this project's ranges where the project itself
is not installed, whether what training needs can be imported, and whether torch sees the GPU.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Each stands after what it is built on: of several that fail, the first is the one to fix.
TRAINING_NAMES = (
    ("torch", "Tensor"),
    ("torchvision", "transforms"),
    ("accelerate", "Accelerator"),
    ("transformers", "T5EncoderModel"),
    ("peft", "get_peft_model"),
    ("diffusers", "PixArtTransformer2DModel"),
    ("torch.utils.tensorboard", "SummaryWriter"),
    ("matplotlib.figure", "Figure"),
)
# What `pip check` prints: "a 1 requires b, which is not installed." or "a 1 has requirement b>=2, but you have b 1."
_BROKEN = re.compile(r"(?P<who>\S+) \S+ (?:requires (?P<missing>\S+), which|has requirement (?P<wrong>.+?), but you) ")

Pip = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
Importer = Callable[[str], Any]
Versions = Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in one line.

    conflict: training fails or may fail; otherwise it is only worth knowing. remedy: what pip has to install. by_hand:
    a command that this program prints and never runs.
    """

    text: str
    conflict: bool = True
    remedy: Requirement | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class Graphics:
    """The GPUs that the driver lists and that torch sees. cuda: what torch was built for; hidden: by the user."""

    driver: Sequence[str]
    torch: Sequence[str]
    cuda: str | None
    hidden: bool = False


def run_pip(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a pip command and return what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read_versions() -> Versions:
    """Return the versions that are installed for the running Python, by canonical name."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        # The first on the path is the one that is imported.
        found.setdefault(canonicalize_name(distribution.metadata["Name"] or ""), distribution.version)
    return found


def read_ranges(path: Path) -> dict[str, Requirement]:
    """Return the ranges of a requirements file by canonical name. Raises OSError where there is no such file."""
    ranges: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            requirement = Requirement(text)
            ranges[canonicalize_name(requirement.name)] = requirement
    return ranges


def find_out_of_range(versions: Versions, ranges: Mapping[str, Requirement]) -> list[Finding]:
    """Return what is missing, or is outside of the project's own ranges."""
    findings = []
    for name, wish in ranges.items():
        version = versions.get(name)
        if version is None or not wish.specifier.contains(version, prereleases=True):
            found = f"{name} {version}" if version else f"{name} is not installed"
            findings.append(Finding(f"{found}; requirements.txt needs {wish}", remedy=wish))
    return findings


def find_broken(ranges: Mapping[str, Requirement], pip: Pip = run_pip) -> list[Finding]:
    """Return what `pip check` says: a conflict where it is about a package of the project, otherwise a note."""
    told = pip([sys.executable, "-m", "pip", "check"])
    lines = [line.strip() for line in told.stdout.splitlines()] if told.returncode else []
    findings = []
    for line, match in ((line, _BROKEN.match(line)) for line in lines):
        if match is None:
            continue
        try:
            remedy = Requirement(match["missing"] or match["wrong"])
        except InvalidRequirement:  # old packages wrote what no longer parses
            continue
        ours = {canonicalize_name(match["who"]), canonicalize_name(remedy.name)} & {*ranges, "text-to-image-benchmark"}
        findings.append(Finding(f"pip check: {line}", conflict=bool(ours), remedy=remedy if ours else None))
    if told.returncode and not lines:
        error = (told.stderr.strip().splitlines() or ["no output"])[-1]
        findings.append(Finding(f"pip check did not run ({error[:200]})", conflict=False))
    return findings


def find_import_errors(
    versions: Versions, ranges: Mapping[str, Requirement], importer: Importer = importlib.import_module
) -> list[Finding]:
    """Import what training needs, and return a line for each name that cannot be imported.

    Only the first has a remedy: the later ones may well follow from it.
    """
    findings: list[Finding] = []
    for module, name in TRAINING_NAMES:
        # SummaryWriter is torch's, but what it lacks is tensorboard.
        package = "tensorboard" if module == "torch.utils.tensorboard" else module.partition(".")[0]
        if package not in versions:
            continue  # said already
        try:
            getattr(importer(module), name)
        except Exception as error:  # a broken build raises anything: RuntimeError, OSError, NameError
            reason = " ".join(str(error).split())[:300]
            remedy = None if findings else ranges.get(package, Requirement(package))
            text = f"from {module} import {name}: {type(error).__name__}: {reason}"
            findings.append(Finding(text, remedy=remedy))
    return findings


def find_graphics(importer: Importer = importlib.import_module) -> Graphics | None:
    """Return the GPUs as the driver and as torch see them; None where torch cannot be imported."""
    try:
        torch = importer("torch")
    except Exception:  # told by find_import_errors
        return None
    seen = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return Graphics(_driver_gpus(), seen, torch.version.cuda or torch.version.hip, hidden)


def _driver_gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()] if told.returncode == 0 else []


def find_graphics_faults(graphics: Graphics, versions: Versions) -> list[Finding]:
    """Return a conflict where torch does not see the driver's GPU, and a note where there is none."""
    if graphics.torch:
        return []
    if not graphics.driver:
        return [Finding("no GPU: training runs on the CPU, which is fast enough for small models only", conflict=False)]
    listed = f"nvidia-smi lists {graphics.driver[0]}"
    if graphics.hidden:
        return [Finding(f"{listed}, but CUDA_VISIBLE_DEVICES hides it: training runs on the CPU", conflict=False)]
    version = versions.get("torch", "")
    if graphics.cuda:
        advice = "update the driver, or install the torch for the driver's CUDA: https://pytorch.org/get-started"
        return [Finding(f"{listed}, but torch {version} for CUDA {graphics.cuda} does not see it: {advice}")]
    # The same version counts as installed, so pip has to be told to replace it; the second call adds CUDA's packages.
    pair = [f"{name}=={Version(versions[name]).public}" for name in ("torch", "torchvision") if name in versions]
    steps = (["--force-reinstall", "--no-deps", *pair], pair)
    by_hand = " && ".join(shlex.join([sys.executable, "-m", "pip", "install", *step]) for step in steps)
    return [Finding(f"{listed}, but torch {version} is built without CUDA", by_hand=by_hand)]


def find_all(versions: Versions, ranges: Mapping[str, Requirement]) -> list[Finding]:
    """Return everything that was found on this machine."""
    findings = find_out_of_range(versions, ranges) + find_broken(ranges) + find_import_errors(versions, ranges)
    graphics = find_graphics()
    return findings + (find_graphics_faults(graphics, versions) if graphics is not None else [])
