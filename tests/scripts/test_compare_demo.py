"""The demo of the gate exits as documented, and the workflow example runs commands that the programs have."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark import compare
from benchmark.settings.command_line import parse_command

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "examples" / "compare-workflow.yml"
# Stands for Python: a benchmark writes its name and steps, the gate exits as it is told for each new run.
STUB = """#!/usr/bin/env bash
if [ "$1" = run_inference.py ]; then
    echo "$(basename "$3") $PIXART_STEPS" >> "$CALLS"
    exit 0
fi
echo "compare $(basename "$3") $(basename "$4")" >> "$CALLS"
case "$4" in *equal) exit "$EQUAL" ;; *) exit "$WORSE" ;; esac
"""


def run_demo(folder: Path, equal: int, worse: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    stub, calls = folder / "python", folder / "calls"
    stub.write_text(STUB)
    stub.chmod(0o755)
    told = subprocess.run(
        ["bash", str(ROOT / "scripts" / "compare_demo.sh")], text=True, capture_output=True, check=False,
        env=os.environ | {"PYTHON_BIN": str(stub), "BASE_DIR": str(folder / "runs"), "CALLS": str(calls),
                          "EQUAL": str(equal), "WORSE": str(worse)},
    )  # fmt: skip
    return told, calls.read_text().splitlines()


def test_the_demo_gates_equal_runs_and_a_run_of_fewer_steps(tmp_path: Path) -> None:
    told, calls = run_demo(tmp_path, 0, 1)
    assert told.returncode == 0, told.stderr
    assert calls == ["old 10", "equal 10", "worse 1", "compare old equal", "compare old worse"]


@pytest.mark.parametrize(
    ("equal", "worse", "line"),
    [
        (1, 1, "the gate exited with 1 on the equal run, and should with 0"),
        (0, 0, "the gate exited with 0 on the worse run, and should with 1"),
        (0, 2, "the gate exited with 2 on the worse run, and should with 1"),
    ],
)
def test_the_demo_fails_where_the_gate_exits_in_another_way_than_documented(
    equal: int, worse: int, line: str, tmp_path: Path
) -> None:
    told, calls = run_demo(tmp_path, equal, worse)
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1] == f"compare_demo.sh: {line}"
    assert len(calls) == 5, "both comparisons are shown"


@pytest.fixture
def job() -> dict[str, Any]:
    content = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    found: dict[str, Any] = content["jobs"]["compare"]
    return found


def commands(job: dict[str, Any], program: str) -> list[list[str]]:
    lines = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    return [line for line in lines if program in line]


def test_the_workflow_benchmarks_both_revisions_with_settings_that_there_are(
    job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in job["env"].items():
        assert isinstance(value, str), f"{name}: YAML makes {value!r} of it"
        monkeypatch.setenv(name, value)
    runs = commands(job, "run_inference.py")
    outputs = [parse_command(line[2:], job["env"]).settings.output_dir for line in runs]
    assert outputs == [Path("../runs/old"), Path("../runs/new")]
    assert {step["working-directory"] for step in job["steps"] if "run_inference" in step.get("run", "")} == {
        "old",
        "new",
    }


def test_the_workflow_gates_on_comparisons_that_the_program_can_make(job: dict[str, Any]) -> None:
    gates = commands(job, "benchmark.compare")
    options = [compare.build_parser().parse_args(line[3:]) for line in gates]
    assert [each.runs for each in options] == [["../runs/old", "../runs/new"], ["baseline/results.json", "../runs/new"]]
    assert [each.slower for each in options] == [0.1, None], "a stored baseline is of another machine"
    assert not [step for step in job["steps"] if step.get("continue-on-error")], "a failed gate fails the job"


def test_the_files_that_the_workflow_needs_are_there(job: dict[str, Any]) -> None:
    (install,) = commands(job, "install")
    assert (ROOT / install[-1].removeprefix("new/")).is_file()
