"""The shell scripts of fine-tuning: which steps run, with what, from where; the training itself is only recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from finetuning.combined_base import build_combined_base

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
FINE_TUNE = SCRIPTS / "pixart_scripts" / "common" / "fine_tune.sh"

# What takes long or needs a GPU is answered here; all else is run.
INTERPRETER = """#!/usr/bin/env bash
here=$(dirname "$0")
for argument in "$@"; do
    case $argument in
        *.py) basename "$argument" >>"$here/steps" ;;
        *device_count*) echo "${FAKE_GPUS:-0}"; exit 0 ;;
    esac
    case $argument in
        */back_fill_inputs.py) [ -z "${ONLY_ASKED:-}" ] || { printf '%s\\n' "$@" >"$here/arguments"; exit 3; } ;;
        */build_combined_base.py) [ -n "${REAL_BASE:-}" ] || exit 0 ;;
        */check_environment.py) exit "${FAKE_CHECK:-0}" ;;
        */train_lora.py) printf '%s\\n' "$@" >"$here/arguments"; env >"$here/environment"; exit "${FAKE_TRAINING:-0}" ;;
    esac
done
exec @PYTHON@ "$@"
"""


@dataclass(frozen=True)
class Session:
    """A folder with a data set of two images, a combined base and the interpreter; `run` is a shell call there."""

    folder: Path

    @property
    def base_dir(self) -> Path:
        return self.folder / "My Set"

    def run(self, script: Path = FINE_TUNE, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
        for name in ("steps", "arguments", "environment"):
            (self.folder / "bin" / name).unlink(missing_ok=True)
        ours = {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
        paths = {"PYTHON_BIN": str(self.folder / "bin" / "python"), "BASE_DIR": str(self.base_dir), "WEIGHTS": "tiny",
                 "COMBINED_BASE": str(self.folder / "the base")}  # fmt: skip
        given = {name: value for name, value in {**ours, **paths, **names}.items() if value}
        command = ["bash", str(script), *arguments]
        return subprocess.run(command, cwd=self.folder, env=given, capture_output=True, text=True, check=False)

    def recorded(self, name: str) -> list[str]:
        path = self.folder / "bin" / name
        return path.read_text().splitlines() if path.is_file() else []

    def flags(self) -> dict[str, str]:
        """Return train_lora.py's flags with their values."""
        given = self.recorded("arguments")
        start = next(index for index, argument in enumerate(given) if argument.endswith("/train_lora.py")) + 1
        return dict(zip(given[start::2], given[start + 1 :: 2], strict=True))


def write_images(folder: Path, count: int = 2) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.new("RGB", (8, 8), (100 * index, 0, 0)).save(folder / f"{index:05d}_input.png")
        (folder / f"{index:05d}_caption.txt").write_text(f"shade {index}\n")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assets = ROOT / "assets"
    source = str(assets / "pixart")
    return build_combined_base(source, source, tmp_path_factory.mktemp("b") / "base", assets / "vae").folder


@pytest.fixture
def session(tmp_path: Path, base: Path) -> Session:
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True)
    interpreter = folder / "bin" / "python"
    interpreter.write_text(INTERPRETER.replace("@PYTHON@", f"'{sys.executable}'"))
    interpreter.chmod(0o755)
    shutil.copytree(base, folder / "the base")
    write_images(folder / "My Set" / "input" / "train")
    return Session(folder)


def test_the_steps_come_in_order_and_a_second_call_changes_nothing(session: Session) -> None:
    write_images(session.base_dir / "input" / "test")
    metadata = "make_imagefolder_metadata.py"
    steps = [metadata, metadata, "check_environment.py", "build_combined_base.py", "train_lora.py"]
    told = session.run(REAL_BASE="1")
    assert told.returncode == 0, told.stderr
    assert session.recorded("steps") == steps
    files = [path for path in session.folder.rglob("*") if path.is_file() and path.parent.name != "bin"]
    assert session.base_dir / "input" / "test" / "metadata.jsonl" in files
    before = {path: path.stat().st_mtime_ns for path in files}
    again = session.run(REAL_BASE="1")
    assert again.returncode == 0
    assert "2 images, unchanged" in again.stdout
    assert "complete already, nothing to do" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_defaults_and_names_become_flags(session: Session) -> None:
    session.run()
    assert session.recorded("arguments")[0].endswith("/train_lora.py")
    assert session.flags() == {
        "--train_dir": f"{session.base_dir}/input/train", "--test_dir": f"{session.base_dir}/input/test",
        "--base": f"{session.folder}/the base", "--output_dir": f"{session.base_dir}/pixart_lora",
        "--batch_size": "4", "--steps": "1000", "--learning_rate": "1e-4", "--rank": "16",
    }  # fmt: skip
    prompt = 'a "pink" robot | it\'s $HOME'
    names = {"BS": "2", "STEPS": "7", "LR": "0.5", "LORA_RANK": "3", "VALIDATION_PROMPT": prompt}
    session.run(FINE_TUNE, "--seed", "3", BASE_DIR="My Set", OUTPUT_DIR="my lora", **names)
    assert session.flags() == {
        "--train_dir": "My Set/input/train", "--test_dir": "My Set/input/test",
        "--base": f"{session.folder}/the base", "--output_dir": "my lora", "--batch_size": "2", "--steps": "7",
        "--learning_rate": "0.5", "--rank": "3", "--validation_prompt": prompt, "--seed": "3",
    }  # fmt: skip
    assert not [line for line in session.recorded("environment") if line.startswith("OUTPUT_DIR=")]


@pytest.mark.parametrize(
    ("names", "launcher"),
    [
        ({"FAKE_GPUS": "1"}, []),
        ({"FAKE_GPUS": "4", "NUM_PROCESSES": "1"}, []),
        ({"FAKE_GPUS": "4"}, ["accelerate.commands.launch", "--num_processes 4", "--main_process_port 29500"]),
        ({"FAKE_GPUS": "4", "NUM_PROCESSES": "2", "PORT": "1234"},
         ["accelerate.commands.launch", "--num_processes 2", "--main_process_port 1234"]),
        ({"NUM_PROCESSES": "2", "PORT": "1234"},
         ["torch.distributed.run", "--nproc_per_node 2", "--master_port 1234"]),
    ],
)  # fmt: skip
def test_several_processes_are_launched_on_gpus_and_on_the_cpu(
    names: dict[str, str], launcher: list[str], session: Session
) -> None:
    told = session.run(**names)
    assert told.returncode == 0, told.stderr
    before = " ".join(session.recorded("arguments")).partition("/train_lora.py")[0]
    assert ("-m " in before) == bool(launcher)
    assert all(part in before for part in launcher)


@pytest.mark.parametrize(
    ("names", "status", "last"),
    [
        ({"FAKE_CHECK": "1"}, 1, "check_environment.py"),
        ({"WEIGHTS": "random", "REAL_BASE": "1"}, 2, "build_combined_base.py"),
        ({"NUM_PROCESSES": "many"}, 2, "build_combined_base.py"),
        ({"FAKE_TRAINING": "5"}, 5, "train_lora.py"),
    ],
)
def test_a_step_that_fails_ends_it_with_its_status(
    names: dict[str, str], status: int, last: str, session: Session
) -> None:
    assert session.run(**names).returncode == status
    assert session.recorded("steps")[-1] == last


def test_without_images_the_one_line_names_the_command_that_writes_them(session: Session) -> None:
    told = session.run(BASE_DIR="no where/WikiArt")
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("fine_tune: no images in no where/WikiArt/input/train: write them with ")
    command = "scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py --output_dir 'no where' --name 'WikiArt'"
    assert told.stderr.endswith(f"{command}\n")
    assert session.recorded("steps") == []


def test_a_table_that_is_the_captions_only_place_is_kept(session: Session) -> None:
    train = session.base_dir / "input" / "train"
    for caption in train.glob("*.txt"):
        caption.unlink()
    table = '{"file_name": "00000_input.png", "text": "mine"}\n'
    (train / "metadata.jsonl").write_text(table)
    assert session.run().returncode == 0
    assert (train / "metadata.jsonl").read_text() == table


def test_from_inference_back_fills_what_belongs_to_the_images(session: Session) -> None:
    (session.folder / "PixArt" / "output").mkdir(parents=True)
    (session.folder / "PixArt" / "output" / "00029.png").touch()
    names = {"DATASET": "robots", "BASE_DIR": f"{session.folder}/Robots"}
    told = session.run(SCRIPTS / "fine_tune_from_inference.sh", "--seed", "5", **names)
    assert told.returncode == 0, told.stderr
    assert session.recorded("steps")[:2] == ["back_fill_inputs.py", "make_imagefolder_metadata.py"]
    assert len(list((session.folder / "Robots" / "input").glob("*/*_input.png"))) == 30
    assert session.flags()["--output_dir"] == f"{session.folder}/Robots/pixart_lora"
    assert session.flags()["--seed"] == "5"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a repository of the shell scripts alone, whose local_repo does not exist."""
    root = tmp_path / "another place"
    for script in SCRIPTS.rglob("*.sh"):
        target = root / script.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(script, target)
    return root


@pytest.mark.parametrize(
    ("script", "weights", "folder"),
    [
        ("wikiart/fine_tune_wikiart.sh", "", "local_repo/WikiArt"),
        ("gundam/fine_tune_gundam.sh", "tiny", "local_repo/tiny/Gundam"),
        ("common/fine_tune.sh", "", "local_repo/Gundam"),
    ],
)
def test_each_data_set_has_its_folder_under_the_repositorys_local_repo(
    script: str, weights: str, folder: str, copied: Path, session: Session
) -> None:
    path = copied / "scripts" / "pixart_scripts" / script
    told = session.run(path, BASE_DIR="", COMBINED_BASE="", WEIGHTS=weights)
    assert told.stderr.startswith(f"fine_tune: no images in {copied}/{folder}/input/train: ")


@pytest.mark.parametrize(("dataset", "name"), [("emoji", "Emoji"), ("", "Gundam")])
def test_from_inference_takes_the_data_sets_own_name(dataset: str, name: str, session: Session) -> None:
    names = {"DATASET": dataset, "BASE_DIR": "", "ONLY_ASKED": "1"}
    assert session.run(SCRIPTS / "fine_tune_from_inference.sh", **names).returncode == 3
    assert session.recorded("arguments")[1:] == [
        "--dataset", dataset or "gundam", "--output_dir", f"{ROOT}/local_repo/tiny", "--name", name,
    ]  # fmt: skip


def test_from_inference_refuses_what_is_no_data_set(session: Session) -> None:
    told = session.run(SCRIPTS / "fine_tune_from_inference.sh", DATASET="no such thing", BASE_DIR="")
    assert told.returncode == 2
    assert told.stderr.startswith("fine_tune_from_inference: ")
    assert session.recorded("steps") == []
