"""What fixes an environment: one pip command for all findings, run only where no package becomes an older one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from packaging.utils import canonicalize_name
from packaging.version import Version

from finetuning.environment import Finding, Pip, Versions, run_pip


def fixing_command(findings: Sequence[Finding], python: str = sys.executable) -> list[str]:
    """Return the pip command that installs every remedy; empty where there is none."""
    remedies = list(dict.fromkeys(str(finding.remedy) for finding in findings if finding.remedy is not None))
    if not remedies:
        return []
    return [python, "-m", "pip", "install", "--upgrade", "--upgrade-strategy", "only-if-needed", *remedies]


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


def find_downgrades(plan: Mapping[str, str], versions: Versions) -> list[str]:
    """Return "name old -> new" for each installed package that a plan would replace by an older version."""
    return [
        f"{name} {versions[name]} -> {version}"
        for name, version in sorted(plan.items())
        if name in versions and Version(version) < Version(versions[name])
    ]


def install(command: Sequence[str], versions: Versions, pip: Pip = run_pip) -> dict[str, str]:
    """Run a pip command as its dry run planned it, and return what was installed.

    Raises:
        ValueError: it would replace an installed package by an older version; nothing was changed.
        OSError: pip failed.
    """
    plan = plan_install(command, pip)
    downgrades = find_downgrades(plan, versions)
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
