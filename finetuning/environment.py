"""Whether the installed packages and the GPU serve training: what conflicts, and the pip command that fixes it.

The versions are held against the project's own ranges and against what the packages declare of each other; then what
training needs is really imported, because a broken build shows only there.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TRAINING_PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "safetensors", "tokenizers", "sentencepiece", "protobuf",
    "huggingface-hub", "accelerate", "transformers", "peft", "diffusers", "psutil", "tensorboard", "matplotlib",
)  # fmt: skip
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
# What the packages ask of each other under an extra holds too; the rest of an extra is for their own examples.
_EXTRAS = ("torch", "training", "accelerate")
_TOGETHER = frozenset({"torch", "accelerate", "transformers", "peft", "diffusers"})

Pip = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
Importer = Callable[[str], Any]


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in one line.

    conflict: training fails or may fail; else it is only worth knowing. remedy: what pip has to install. by_hand: a
    command that this program prints and never runs.
    """

    text: str
    conflict: bool = True
    remedy: Requirement | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class Installed:
    """The installed packages: versions, and the requirements that they declare, by canonical name."""

    versions: Mapping[str, str]
    requirements: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Graphics:
    """The GPUs that the driver lists and that torch sees. cuda: what torch was built for; hidden: by the user."""

    driver: Sequence[str]
    torch: Sequence[str]
    cuda: str | None
    hidden: bool = False


def read_installed() -> Installed:
    """Return what is installed for the running Python."""
    versions: dict[str, str] = {}
    requirements: dict[str, Sequence[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"] or "")
        if name and name not in versions:  # the first on the path is the one that is imported
            versions[name] = distribution.version
            requirements[name] = distribution.requires or ()
    return Installed(versions, requirements)


def read_ranges(path: Path) -> dict[str, Requirement]:
    """Return the ranges of a requirements file by canonical name. Raises OSError where there is no such file."""
    ranges: dict[str, Requirement] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-"):
            requirement = Requirement(text)
            ranges[canonicalize_name(requirement.name)] = requirement
    return ranges


def find_version_conflicts(installed: Installed, ranges: Mapping[str, Requirement]) -> list[Finding]:
    """Return what is missing, or is outside of the project's ranges or of what the packages ask of each other."""
    asked = [("requirements.txt", ranges[name]) for name in TRAINING_PACKAGES if name in ranges]
    for name in TRAINING_PACKAGES:
        if name in installed.versions:
            who = f"{name} {installed.versions[name]}"
            asked += [(who, requirement) for requirement in _declared(installed.requirements.get(name, ()))]
    findings, told = [], set()
    for who, requirement in asked:
        name = canonicalize_name(requirement.name)
        version = installed.versions.get(name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        wish = f"{requirement.name}{requirement.specifier}"
        if fits or (who, wish) in told:
            continue
        told.add((who, wish))
        found = f"{name} {version}" if version else f"{name} is not installed"
        remedy = _joined([other for _, other in asked if canonicalize_name(other.name) == name])
        findings.append(Finding(f"{found}; {who} needs {wish}", remedy=remedy))
    return findings


def _declared(texts: Iterable[str]) -> list[Requirement]:
    """Return the requirements that hold here, those of an extra only where they are of the packages that must agree."""
    here: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]  # a TypedDict of str
    kept = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # old packages wrote what no longer parses; pip skips it too
            continue
        extras = ("", *_EXTRAS) if canonicalize_name(requirement.name) in _TOGETHER else ("",)
        marker = requirement.marker
        if marker is None or any(marker.evaluate(here | {"extra": extra}) for extra in extras):
            kept.append(requirement)
    return kept


def _joined(requirements: Sequence[Requirement]) -> Requirement:
    """Return one requirement that asks for what all of them ask for, with one lower bound."""
    specifiers = {str(part) for requirement in requirements for part in requirement.specifier}
    bounds = sorted((part for part in specifiers if part.startswith(">=")), key=lambda part: Version(part[2:]))
    kept = sorted(specifiers - set(bounds[:-1]), reverse=True)
    extras = sorted({extra for requirement in requirements for extra in requirement.extras})
    shown = f"[{','.join(extras)}]" if extras else ""
    return Requirement(f"{canonicalize_name(requirements[0].name)}{shown}{','.join(kept)}")


def find_adapter_note(installed: Installed, importer: Importer = importlib.import_module) -> list[Finding]:
    """Return a note where transformers' own adapter functions, which training does not call, ask for a newer peft."""
    version = installed.versions.get("peft")
    try:
        wish = Requirement(importer("transformers.dependency_versions_table").deps["peft"])
    except (ImportError, AttributeError, KeyError):
        return []
    if version is None or wish.specifier.contains(version, prereleases=True):
        return []
    text = f"peft {version}; transformers' own load_adapter, which training does not call, needs {wish}"
    return [Finding(text, conflict=False)]


def find_import_errors(
    installed: Installed, ranges: Mapping[str, Requirement], importer: Importer = importlib.import_module
) -> list[Finding]:
    """Import what training needs, and return a line for each name that cannot be imported.

    Only the first has a remedy: the later ones may well follow from it.
    """
    findings: list[Finding] = []
    for module, name in TRAINING_NAMES:
        # SummaryWriter is torch's, but what it lacks is tensorboard.
        package = "tensorboard" if module == "torch.utils.tensorboard" else module.partition(".")[0]
        if package not in installed.versions:
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


def find_graphics_faults(graphics: Graphics, installed: Installed) -> list[Finding]:
    """Return a conflict where a driver's GPU is not seen by torch, and a note where there is none."""
    if graphics.torch:
        return []
    if not graphics.driver:
        return [Finding("no GPU: training runs on the CPU, which only small models bear", conflict=False)]
    listed = f"nvidia-smi lists {graphics.driver[0]}"
    if graphics.hidden:
        return [Finding(f"{listed}, but CUDA_VISIBLE_DEVICES hides it: training runs on the CPU", conflict=False)]
    version = installed.versions.get("torch", "")
    if graphics.cuda:
        advice = "update the driver, or install the torch for the driver's CUDA: https://pytorch.org/get-started"
        return [Finding(f"{listed}, but torch {version} for CUDA {graphics.cuda} does not see it: {advice}")]
    # The same version counts as installed, so pip has to be told to replace it; the second call adds CUDA's packages.
    pair = [f"{name}=={Version(installed.versions[name]).public}" for name in ("torch", "torchvision")
            if name in installed.versions]  # fmt: skip
    steps = (["--force-reinstall", "--no-deps", *pair], pair)
    by_hand = " && ".join(shlex.join([sys.executable, "-m", "pip", "install", *step]) for step in steps)
    return [Finding(f"{listed}, but torch {version} is built without CUDA", by_hand=by_hand)]


def find_all(installed: Installed, ranges: Mapping[str, Requirement]) -> list[Finding]:
    """Return everything that was found on this machine."""
    findings = find_version_conflicts(installed, ranges) + find_import_errors(installed, ranges)
    graphics = find_graphics()
    if graphics is not None:
        findings += find_graphics_faults(graphics, installed)
    return findings + find_adapter_note(installed)


def mending_command(findings: Sequence[Finding], python: str = sys.executable) -> list[str]:
    """Return the pip command that installs every remedy; empty where there is none."""
    remedies = list(dict.fromkeys(str(finding.remedy) for finding in findings if finding.remedy is not None))
    if not remedies:
        return []
    return [python, "-m", "pip", "install", "--upgrade", "--upgrade-strategy", "only-if-needed", *remedies]


def run_pip(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a pip command and return what it said."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def plan_install(command: Sequence[str], pip: Pip = run_pip) -> dict[str, str]:
    """Return the versions that a pip command would install, by canonical name; nothing is changed.

    Raises:
        OSError: pip is missing, too old to tell, or finds nothing that fits.
    """
    told = pip([*command, "--dry-run", "--quiet", "--report", "-"])
    if told.returncode:
        lines = told.stderr.strip().splitlines()
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["no output"]
        raise OSError(f"pip failed ({errors[0][:200]}); nothing was changed: is there a network, and pip 23 or newer?")
    try:
        planned = [entry["metadata"] for entry in json.loads(told.stdout)["install"]]
    except (ValueError, KeyError) as error:
        raise OSError("pip failed (no report of a dry run); nothing was changed: pip 23 or newer is needed") from error
    return {canonicalize_name(entry["name"]): entry["version"] for entry in planned}


def find_downgrades(plan: Mapping[str, str], installed: Installed) -> list[str]:
    """Return "name old -> new" for each installed package that a plan would replace by an older version."""
    return [
        f"{name} {installed.versions[name]} -> {version}"
        for name, version in sorted(plan.items())
        if name in installed.versions and Version(version) < Version(installed.versions[name])
    ]


def install(command: Sequence[str], installed: Installed, pip: Pip = run_pip) -> dict[str, str]:
    """Run a pip command as its dry run planned it, and return what was installed.

    Raises:
        ValueError: it would replace an installed package by an older version; nothing was changed.
        OSError: pip failed.
    """
    plan = plan_install(command, pip)
    downgrades = find_downgrades(plan, installed)
    if downgrades:
        raise ValueError(
            f"the command would downgrade {', '.join(downgrades)}, which INSTALL=1 never does; nothing was changed: "
            "run it yourself, or make another virtual environment from requirements.txt"
        )
    # The very versions that were planned: an index that changed in between must not bring others.
    told = pip([*command, *(f"{name}=={version}" for name, version in sorted(plan.items()))])
    if told.returncode:
        raise OSError(f"pip failed: {(told.stderr.strip().splitlines() or ['no output'])[-1]}")
    return plan
