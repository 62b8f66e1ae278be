"""The rank of the LoRA is LORA_RANK; RANK is the number of a process wherever a launcher has set it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.pixart_scripts.common.train_lora import build_parser, rank_variable

ROOT = Path(__file__).parents[2]
COMMON = ROOT / "scripts" / "pixart_scripts" / "common"
LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}

CASES = pytest.mark.parametrize(
    ("variables", "rank", "told"),
    [
        ({}, 16, False),
        ({"LORA_RANK": "5"}, 5, False),
        ({"RANK": "8"}, 8, True),
        ({"RANK": "8", "LORA_RANK": "5"}, 5, False),
        ({"RANK": "8", "WORLD_SIZE": "1"}, 16, False),
        (LAUNCHED, 16, False),
        (LAUNCHED | {"LORA_RANK": "5"}, 5, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 16, False),
    ],
)


@CASES
def test_the_parser_reads_lora_rank_and_rank_without_a_launcher(
    variables: dict[str, str], rank: int, told: bool
) -> None:
    parser = build_parser(variables)
    assert parser.parse_args([]).rank == rank
    assert (rank_variable(variables) == "RANK") == told
    assert parser.parse_args(["--rank", "3"]).rank == 3


def run(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if name not in {*LAUNCHED, "LORA_RANK"}}
    return subprocess.run(command, cwd=ROOT, env=others | variables, text=True, capture_output=True, check=False)


@CASES
def test_the_shell_scripts_take_the_same_rank_and_name_the_new_variable(
    variables: dict[str, str], rank: int, told: bool
) -> None:
    shell = (
        f'. "{COMMON}/lora_rank.sh"; echo "${{LORA_RANK:-16}}"; "$0" -c "import os; print(os.getenv(\'LORA_RANK\'))"'
    )
    done = run(["bash", "-c", f"set -euo pipefail; {shell}", sys.executable], variables)
    ours, child = done.stdout.split()
    assert ours == str(rank)
    assert child == (ours if {"LORA_RANK", "RANK"} & variables.keys() and rank != 16 else "None"), "a child reads it"
    assert ("write LORA_RANK=8 instead" in done.stderr) == told
    assert done.stderr.count("\n") == told


def test_train_lora_names_the_new_variable_in_one_line_and_only_where_rank_was_read(tmp_path: Path) -> None:
    command = [sys.executable, str(COMMON / "train_lora.py"), "--train_dir", str(tmp_path / "no"), "--steps", "0"]
    old = run(command, {"RANK": "8"})
    first, second = old.stderr.splitlines()
    assert first == (
        "train_lora: RANK=8 sets the rank of the LoRA; write LORA_RANK=8 instead, since launchers use RANK for the "
        "number of a process"
    )
    assert "steps=0" in second
    first_process = LAUNCHED | {"RANK": "0", "LOCAL_RANK": "0"}
    for variables, flags in [({"LORA_RANK": "8"}, []), (first_process, []), ({"RANK": "8"}, ["--rank", "4"])]:
        assert run([*command, *flags], variables).stderr.splitlines() == [second]
