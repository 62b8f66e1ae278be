"""The Slurm example is a script that a shell can read, with settings that there are and options that torchrun has."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from benchmark.settings.command_line import parse_command

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "slurm.sbatch"
OTHERS = {"HF_HOME", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "OMP_NUM_THREADS", "FIRST_NODE"}
# Stand for Slurm: scontrol names two nodes, srun runs the tasks of both; torchrun writes how it is called.
STUBS = {
    "scontrol": "printf 'gpu-1\\ngpu-2\\n'",
    "srun": 'shift; for SLURM_NODEID in 0 1; do SLURM_NODEID=$SLURM_NODEID "$@"; done',
    "torchrun": 'echo "OUTPUT_DIR=$OUTPUT_DIR $*" >> "$CALLS"',
}


@pytest.fixture
def text() -> str:
    return EXAMPLE.read_text(encoding="utf-8")


@pytest.fixture
def calls(tmp_path: Path) -> list[list[str]]:
    """The words of each call of torchrun that the example makes."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    slurm = {"SLURM_JOB_NODELIST": "gpu-[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "77", "SCRATCH": "/scratch/me"}
    environment = os.environ | slurm | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "USER": "me", "CALLS": str(tmp_path / "calls"),
    }  # fmt: skip
    told = subprocess.run(
        ["bash", str(EXAMPLE)], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert told.returncode == 0, told.stderr
    return [shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_a_shell_can_read_it() -> None:
    told = subprocess.run(["bash", "-n", str(EXAMPLE)], text=True, capture_output=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")


def test_its_settings_are_those_of_the_program(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = dict(re.findall(r'^export (\w+)="?([^"\s]*)', text, flags=re.MULTILINE))
    settings = {name: value for name, value in exported.items() if name not in OTHERS}
    assert settings.keys() == {"OUTPUT_DIR", "NUM_SAMPLES", "MODELS", "MODE", "OFFLINE"}
    settings["OUTPUT_DIR"] = "/scratch/me/benchmark"
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    parsed = parse_command([], settings).settings
    assert (parsed.num_samples, parsed.mode, parsed.offline) == (10_000, ("compiled",), True)
    assert [model.family.key for model in parsed.selected_models()] == ["var", "pixart", "infinity"]


def test_each_node_starts_a_rank_for_each_gpu_and_the_first_node_has_rank_0(calls: list[list[str]], text: str) -> None:
    parsed = [get_args_parser().parse_args(call[1:]) for call in calls]
    assert [each.node_rank for each in parsed] == [0, 1]
    assert {(each.nnodes, each.nproc_per_node, each.rdzv_backend, each.rdzv_endpoint) for each in parsed} == {
        ("2", re.findall(r"--gpus-per-node=(\d+)", text)[0], "static", "gpu-1:29500")
    }
    assert [each.training_script for each in parsed] == ["run_inference.py"] * 2
    assert {call[0] for call in calls} == {"OUTPUT_DIR=/scratch/me/benchmark"}


def test_the_threads_of_all_ranks_are_the_cores_of_a_node(text: str) -> None:
    cores, gpus, threads = (
        int(re.findall(pattern, text)[0])
        for pattern in (r"--cpus-per-task=(\d+)", r"--gpus-per-node=(\d+)", r"OMP_NUM_THREADS=(\d+)")
    )
    assert gpus * threads == cores
