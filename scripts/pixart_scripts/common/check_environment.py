"""Checks that the installed packages fit together and that torch sees the GPU, before a training begins.

    python scripts/pixart_scripts/common/check_environment.py
    INSTALL=1 python scripts/pixart_scripts/common/check_environment.py

Prints a line for each finding, and the pip command that fixes it. With INSTALL=1 it runs that command, but only where
pip replaces no installed package by an older one; otherwise nothing is changed. Exit status: 0 where all fits (no GPU
is a note), 1 where something conflicts, 2 where it cannot be checked.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

try:
    from packaging.requirements import Requirement

    from finetuning.environment import Finding, Pip, Versions, find_all, read_ranges, read_versions, run_pip
    from finetuning.installation import fixing_command, install
except ModuleNotFoundError as missing:  # a bare Python, where not even versions can be compared
    sys.exit(f"conflict: {missing}; fix it with: {shlex.join([sys.executable, '-m', 'pip', 'install', '-r'])} "
             f"{shlex.quote(str(Path(__file__).resolve().parents[3] / 'requirements.txt'))}")  # fmt: skip

from benchmark.console.interruption import exit_status_of, leave

ROOT = Path(__file__).resolve().parents[3]
SHOWN = ("torch", "diffusers", "transformers", "peft", "accelerate")
Finder = Callable[[Versions, Mapping[str, Requirement]], Sequence[Finding]]


def main(
    environment: Mapping[str, str] = os.environ, *, versions: Versions | None = None, find: Finder = find_all,
    pip: Pip = run_pip, again: Callable[[], int] | None = None,
) -> int:  # fmt: skip
    """Check, and fix where INSTALL=1 asks for it; return the exit status."""
    wanted = environment.get("INSTALL", "") or "0"
    if wanted not in ("0", "1"):
        print(f"check_environment: INSTALL={wanted}: expected 1 to install what is missing, or 0", file=sys.stderr)
        return 2
    try:
        ranges = read_ranges(ROOT / "requirements.txt")
    except OSError as error:
        print(f"check_environment: {error}", file=sys.stderr)
        return 2
    versions = versions or read_versions()
    findings = find(versions, ranges)
    for finding in findings:
        print(f"{'conflict' if finding.conflict else 'note'}: {finding.text}")
    if not any(finding.conflict for finding in findings):
        print("environment fits: " + ", ".join(f"{name} {versions.get(name)}" for name in SHOWN))
        return 0
    for finding in findings:
        if finding.by_hand:
            print(f"run yourself, it replaces an installed build: {finding.by_hand}")
    command = fixing_command(findings)
    if not command:
        return 1
    if wanted == "0":
        print(f"fix it with: {shlex.join(command)}\nor let this program run it: INSTALL=1")
        return 1
    try:
        plan = install(command, versions, pip)
    except (OSError, ValueError) as error:
        print(f"check_environment: {error}\nthe command: {shlex.join(command)}", file=sys.stderr)
        return 1
    print("installed " + (", ".join(f"{name} {version}" for name, version in sorted(plan.items())) or "nothing new"))
    return (again or _check_again)()


def _check_again() -> int:
    # A process of its own: this one has the old modules in memory.
    sys.stdout.flush()
    command = [sys.executable, str(Path(__file__).resolve())]
    return subprocess.run(command, env=os.environ | {"INSTALL": "0"}, check=False).returncode


if __name__ == "__main__":
    leave(exit_status_of(main, "check_environment", "stopped; run the same command to start again"))
