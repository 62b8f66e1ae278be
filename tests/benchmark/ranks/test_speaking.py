"""Why several processes cannot begin is said once, whichever of them sees it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.ranks import speaking
from benchmark.ranks.speaking import SpeakingParser, say_failure

ROOT = Path(__file__).parents[3]
LAUNCHED = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
SLOW_FIRST_RANK = """
import os, time
if os.environ.get("LOCAL_RANK") == "0":
    time.sleep(3)
"""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of the seconds that were waited for the launcher."""
    waited: list[float] = []
    monkeypatch.setattr(speaking.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("run_inference.py --num-samples many", "run_inference.py: NUM_SAMPLES=many"),
        ("scripts/score_folder.py . --reference . --batch-size many", "score_folder: argument --batch-size"),
        ("scripts/score_folder.py . --reference . --device cuda:1", "score_folder: DEVICE=cuda:1 "),
        ("scripts/pixart_scripts/common/train_lora.py --steps many", "train_lora: argument --steps"),
        ("scripts/pixart_scripts/common/train_lora.py --device cuda:1", "train_lora: DEVICE=cuda:1 "),
    ],
)
def test_a_first_process_that_is_slower_than_the_others_still_says_it(tmp_path: Path, command: str, told: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_FIRST_RANK)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": path, "OUTPUT_DIR": str(tmp_path / "output")},
    )  # fmt: skip
    assert ended.returncode != 0
    assert ended.stdout == ""
    name = told.partition(" ")[0]
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith(name)]
    assert line.startswith(told)
    assert not (tmp_path / "output").exists()


def test_one_process_of_each_host_speaks_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], waits: list[float]
) -> None:
    say_failure("alone")
    for name, value in (LAUNCHED | {"LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    say_failure("first of its host")
    assert capsys.readouterr().err == "alone\nfirst of its host\n"
    assert not waits


def test_another_process_speaks_once_it_knows_that_the_failure_is_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], waits: list[float]
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    parser = SpeakingParser("program")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--unknown"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "program: unrecognized arguments: --unknown; --help lists the arguments\n"
    assert waits == [speaking.SECONDS_TO_SPEAK]
    with pytest.raises(SystemExit) as helped:
        parser.parse_args(["--help"])
    assert helped.value.code == 0
    assert capsys.readouterr() == ("", "")
