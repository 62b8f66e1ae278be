"""finetune_report.py and infer_finetuned.py on the embedded model with a LoRA of two steps: what they leave and say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMON = ROOT / "scripts" / "pixart_scripts" / "common"
REPORT = ROOT / "scripts" / "finetune_report.py"
FEW = ("--num_samples", "6", "--drift_samples", "4", "--curve_samples", "4", "--training_samples", "8",
       "--strengths", "0,0.5,1")  # fmt: skip


def command_of(script: Path, *arguments: str, **names: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a script, and its environment."""
    ours = {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    environment = ours | {"WEIGHTS": "tiny", "CUDA_VISIBLE_DEVICES": "", "PIXART_STEPS": "2"} | names
    return [sys.executable, str(script), *arguments], environment


def run(script: Path, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
    command, environment = command_of(script, *arguments, **names)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def columns_in(output: Path) -> dict[float, Path]:
    """Return the folders of a run's columns by the LoRA's strength, 0 without it."""
    found = {}
    for mark in output.glob("*/fingerprint.json"):
        recorded = json.loads(mark.read_text(encoding="utf-8"))
        found[float(recorded["PIXART_LORA_SCALE"]) if recorded["PIXART_LORA"] else 0.0] = mark.parent
    return found


def images_in(folder: Path) -> list[Path]:
    return sorted((folder / "output").glob("*.png"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of 60 emoji, six of them held out, with a LoRA that was trained on the others."""
    folder = tmp_path_factory.mktemp("trained")
    told = run(COMMON / "prepare_inputs.py", "--dataset", "emoji", "--num_samples", "60", "--output_dir", str(folder))
    assert told.returncode == 0, told.stderr
    base = folder / "base"
    assert run(COMMON / "build_combined_base.py", COMBINED_BASE=str(base)).returncode == 0
    told = run(
        COMMON / "train_lora.py", "--steps", "2", "--batch_size", "2", "--rank", "2", "--validate_every", "0",
        "--learning_rate", "0.02", BASE_DIR=str(folder / "Emoji"), COMBINED_BASE=str(base),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return folder / "Emoji"


@dataclass(frozen=True)
class Stopped:
    """A report that a signal ended once its first image was there. made: when each of its images was written, in ns."""

    base_dir: Path
    status: int
    told: str
    made: dict[Path, int]


@pytest.fixture(scope="module")
def stopped(trained: Path) -> Stopped:
    command, environment = command_of(REPORT, "--base_dir", str(trained), *FEW)
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE)
    output = trained / "finetune_report"
    while process.poll() is None and not list(output.rglob("00000.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    return Stopped(trained, process.returncode, told, times_in(output))


def times_in(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("[0-9]*.png")}


def test_a_signal_ends_a_report_in_one_line(stopped: Stopped) -> None:
    assert stopped.status == 143, stopped.told
    assert stopped.told.splitlines()[-1] == "finetune_report: stopped; the same command goes on from here"
    assert "Traceback" not in stopped.told
    assert stopped.made


def test_a_report_says_what_changed_and_a_second_call_draws_nothing_again(stopped: Stopped) -> None:
    told = run(REPORT, "--base_dir", str(stopped.base_dir), *FEW)
    assert told.returncode == 0, told.stderr
    output = stopped.base_dir / "finetune_report"
    times = times_in(output)
    assert {path: times[path] for path in stopped.made} == stopped.made, "it went on from where it was stopped"
    assert len(times) >= 30
    page = (output / "finetune.md").read_text(encoding="utf-8")
    assert re.search(r"\*\*FD-EffNetLite0 went -?\d+ % of the way to the floor\*\* on 6 held-out captions", page)
    assert "## Drift: Robots" in page
    assert "N = 6 against 6" in page
    assert [line.split("|")[1].strip() for line in page.splitlines() if re.match(r"\| [01](\.5)? \|", line)] == [
        "0", "0.5", "1",
    ]  # fmt: skip
    for name in ("finetune.png", "strength.png"):
        with Image.open(output / name) as image:
            assert min(image.size) > 100
    for domain, count in (("target", 6), ("drift", 4)):
        of_strength = columns_in(output / domain)
        assert {strength: len(images_in(folder)) for strength, folder in of_strength.items()} == {
            0.0: count, 0.5: 4, 1.0: count,
        }, "strengths in between have as many images as the curve needs"  # fmt: skip
        before, half, after = (images_in(of_strength[strength]) for strength in (0.0, 0.5, 1.0))
        assert all(one.read_bytes() != other.read_bytes() for one, other in zip(before, after, strict=True))
        assert all(one.read_bytes() != other.read_bytes() for one, other in zip(half, after, strict=False))
    assert re.search(r"- `memorisation`: 6 held-out images; a share of 1 % needs at least 100", page), (
        "the training images are known"
    )
    again = run(REPORT, "--base_dir", str(stopped.base_dir), *FEW)
    assert again.returncode == 0, again.stderr
    assert times_in(output) == times
    assert "round 1 of 1" not in again.stderr, "nothing is loaded"
    page_again = (output / "finetune.md").read_text(encoding="utf-8")
    assert re.sub(r"\| \d+ s \|", "", page_again) == re.sub(r"\| \d+ s \|", "", page)


def test_images_of_a_caption_that_was_edited_are_not_taken_for_its_own(stopped: Stopped) -> None:
    caption = min((stopped.base_dir / "input" / "test").glob("*_caption.txt"))
    before = caption.read_text(encoding="utf-8")
    caption.write_text("something else\n", encoding="utf-8")
    try:
        told = run(REPORT, "--base_dir", str(stopped.base_dir), *FEW)
    finally:
        caption.write_text(before, encoding="utf-8")
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].endswith(
        "holds images of other captions, first image 0: choose another --output_dir, or start over with FRESH=1"
    )
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lora", "nowhere"], "nowhere holds no LoRA; train one first"),
        (["--drift", "emoji"], "--drift emoji is the target itself"),
        (["--strengths", "0,much"], "--strengths 0,much: expected numbers by commas"),
        (["--strengths", "0,-1"], "SWEEP: pixart.lora_scale=-1.0: "),
    ],
)
def test_what_cannot_be_reported_is_one_line(arguments: list[str], words: str, trained: Path) -> None:
    told = run(REPORT, "--base_dir", str(trained), *arguments)
    assert told.returncode == 2
    assert words in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_images_of_the_metadatas_prompts(trained: Path) -> None:
    infer = COMMON / "infer_finetuned.py"
    told = run(infer, "--base_dir", str(trained), "--use_meta", "--num_samples", "3", "--cfg", "2.0")
    assert told.returncode == 0, told.stderr
    made = sorted((trained / "finetuned" / "output").glob("*.png"))
    assert len(made) == 3
    assert (trained / "finetuned" / "samples.png").is_file()
    other = run(infer, "--base_dir", str(trained), "--use_meta", "--num_samples", "3", "--cfg", "3.0")
    assert other.returncode == 2
    assert "guidance" in other.stderr
    none = run(infer, "--base_dir", str(trained))
    assert none.returncode == 2
    assert "no prompt: give --use_meta, --prompt TEXT or VALIDATION_PROMPT" in none.stderr
