"""Whose a training's folder is: what is deleted, what is refused, what is held, and what damage costs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import tiny_settings, train_until

from files.ledger import Ledger
from files.locks import LOCK_NAME, locked
from files.records import seal
from files.writing import PREFIX, partial_path
from finetuning import checkpoints, trainer
from finetuning.checkpoints import load_checkpoint
from finetuning.folder import TrainingFolder
from finetuning.record import read_lines
from finetuning.trainer import train_lora

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "pixart_scripts" / "common" / "train_lora.py"


def files(folder: Path) -> dict[str, bytes]:
    """Return each file's content by its path, without the lock's own."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(LOCK_NAME))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the settings of a training that is finished; its folder is to be copied, not changed."""
    settings = tiny_settings(tmp_path_factory.mktemp("finished"), steps=4, validate_every=2, validation_steps=2)
    train_lora(settings)
    return settings


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Any:
    """Return the settings of a copy of that training, to be changed at will."""
    subprocess.run(["cp", "-a", str(finished.output_dir), str(tmp_path / "lora")], check=True)
    return dataclasses.replace(finished, output_dir=tmp_path / "lora")


def refused(settings: Any, words: str, *, fresh: bool = False, error: type[Exception] = ValueError) -> str:
    """Check that the training is refused in one line, and that no file changed by it."""
    before = files(settings.output_dir.parent)
    with pytest.raises(error, match=words) as caught:
        train_lora(settings, fresh=fresh)
    assert files(settings.output_dir.parent) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Deletion.


def test_every_file_that_a_training_leaves_is_named(finished: Any) -> None:
    names = set(files(finished.output_dir)) - {"training/settings.json", "training/files.jsonl"}
    assert names <= set(TrainingFolder(finished.output_dir).ledger.names())


def test_fresh_deletes_what_is_named_and_nothing_else(copy: Any) -> None:
    output = copy.output_dir
    mine = ["notes.txt", "training/notes.txt", "training/checkpoints/mine.pt", "training/validation/mine.png"]
    for name in mine:
        (output / name).write_text("mine")
    ours = set(files(output)) - set(mine)
    folder = TrainingFolder(output)
    with folder.held():
        folder.clear()
    assert set(files(output)) == set(mine)
    assert ours
    assert not (output / "training" / "tensorboard").exists(), "our own folders go where they are empty"
    with folder.held():
        folder.clear()
    assert set(files(output)) == set(mine)


def test_fresh_does_not_follow_links_or_names_that_lead_outside(copy: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "photo.png").write_text("mine")
    (copy.output_dir / "link").symlink_to(outside)
    ledger = copy.output_dir / "training" / "files.jsonl"
    names = ("../outside/photo.png", "link/photo.png", str(outside / "photo.png"))
    ledger.write_text("".join(f"{seal({'file': name, 'sha256': ''})}\n" for name in names) + ledger.read_text())
    folder = TrainingFolder(copy.output_dir)
    with folder.held():
        folder.clear()
    assert (outside / "photo.png").read_text() == "mine"


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'{"finished": true, "settings": {}}', None])
def test_with_a_damaged_or_missing_mark_nothing_is_deleted_and_the_files_are_named(copy: Any, content: Any) -> None:
    mark = copy.output_dir / "training" / "settings.json"
    if content is None:
        mark.unlink()
    else:
        mark.write_bytes(content)
    words = (
        "settings.json is damaged or of an earlier version"
        if content is not None
        else "holds files that this program did not write"
    )
    for fresh in (True, False):
        told = refused(copy, words, fresh=fresh)
        assert "adapter_config.json, adapter_model.safetensors, training_data.json" in told
        assert "choose another OUTPUT_DIR" in told


@pytest.mark.parametrize(
    "name",
    ["adapter_model.safetensors", "adapter_config.json", "training_data.json", "training/settings.json",
     "training/metrics.jsonl", "training/loss.png", "training/checkpoints/step-000002.pt",
     "training/validation/step-000001.png", "training/tensorboard/events.out.tfevents.1.host"],
)  # fmt: skip
def test_a_folder_with_somebodys_files_at_our_names_is_left_as_it_is(finished: Any, tmp_path: Path, name: str) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "theirs")
    (settings.output_dir / name).parent.mkdir(parents=True)
    (settings.output_dir / name).write_text("mine")
    for fresh in (False, True):
        told = refused(
            settings,
            "damaged" if name.endswith("settings.json") else "holds files that this program did not",
            fresh=fresh,
        )
        assert name in told
    assert not (settings.output_dir / "training" / LOCK_NAME).exists(), "refused before anything is written"


def test_a_lock_file_that_is_somebodys_is_not_emptied(finished: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "theirs")
    (settings.output_dir / "training").mkdir(parents=True)
    lock = settings.output_dir / "training" / LOCK_NAME
    lock.write_text("mine")
    refused(settings, r"under names that a training uses: training/\.t2i-lock", fresh=True)
    assert lock.read_text() == "mine"


def test_ours_and_theirs_mixed_is_left_as_it_is(copy: Any) -> None:
    (copy.output_dir / "training" / "checkpoints" / "step-000009.pt").write_text("mine")
    for fresh in (False, True):
        assert "step-000009.pt" in refused(
            copy, "holds files that this program did not write, under names that a training uses", fresh=fresh
        )


def test_a_link_in_the_place_of_a_folder_of_ours_is_refused(finished: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "theirs")
    settings.output_dir.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (settings.output_dir / "training").symlink_to(tmp_path / "elsewhere")
    refused(settings, "under names that a training uses: training", fresh=True)


def test_the_loras_folder_and_the_images_must_not_lie_in_each_other(finished: Any, tmp_path: Path) -> None:
    train = finished.train_dir
    (tmp_path / "link").symlink_to(train)
    for output in (train, train / "lora", train.parent.parent, tmp_path / "link" / "lora"):
        before = files(train.parent.parent)
        with pytest.raises(ValueError, match="must not contain each other"):
            train_lora(dataclasses.replace(finished, output_dir=output), fresh=True)
        assert files(train.parent.parent) == before


# Locks and leftovers.


def test_the_second_of_two_trainings_is_refused_and_told_who_holds_the_folder(copy: Any) -> None:
    training = copy.output_dir / "training"
    with locked(training, "trains a LoRA"):
        told = refused(copy, "is in use: process", fresh=True, error=OSError)
        arguments = ["--train_dir", copy.train_dir, "--base", copy.base, "--output_dir", copy.output_dir, "--fresh"]
        second = subprocess.run(
            [sys.executable, str(SCRIPT), *map(str, arguments), "--device", "cpu"],
            cwd=ROOT, text=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    assert f"process {os.getpid()} on" in told
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"process {os.getpid()} on" in second.stderr
    assert "trains a LoRA since" in second.stderr


def test_partial_files_of_dead_processes_go_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_settings(tmp_path, steps=3)
    train_until(3, settings, monkeypatch)
    process = subprocess.Popen(["true"])
    process.wait()
    training = settings.output_dir / "training"
    places = [settings.output_dir, training, training / "checkpoints"]
    dead = [partial_path(place / "x").name.replace(f"-{os.getpid()}-", f"-{process.pid}-") for place in places]
    for place, name in zip(places, dead, strict=True):
        (place / name).write_text("half")
        (place / name.replace(PREFIX, "mine")).write_text("mine")
        (place / partial_path(place / "x").name).write_text("of a process that lives")
    train_lora(settings)
    for place, name in zip(places, dead, strict=True):
        assert not (place / name).exists()
        assert (place / name.replace(PREFIX, "mine")).exists()
        assert (place / partial_path(place / "x").name).exists()


# What damage costs.


def test_a_lora_that_is_not_as_it_was_written_is_written_again_without_a_step(
    copy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(copy.output_dir)
    (copy.output_dir / "adapter_model.safetensors").write_bytes(b"x")
    monkeypatch.setattr(trainer.TrainingStep, "__call__", None)
    outcome = train_lora(copy)
    assert outcome.trained
    assert outcome.loss is not None
    assert "has changed since it was written; it is written again" in capsys.readouterr().err
    after = files(copy.output_dir)
    same = [name for name in before if name.startswith(("adapter", "training_data")) or "validation" in name]
    assert len(same) == 5
    assert all(after[name] == before[name] for name in same)
    assert not train_lora(copy).trained


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "lora", checkpoint_every=1)
    train_until(4, settings, monkeypatch)
    path = settings.output_dir / "training" / "checkpoints" / "step-000003.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    train_lora(settings)
    told = capsys.readouterr().err
    assert f"{path} is damaged (it is not as it was written); the checkpoint before it is used" in told
    assert "resuming from step 2" in told
    mine, theirs = (load_file(s.output_dir / "adapter_model.safetensors") for s in (settings, finished))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_damaged_lines_of_the_record_are_left_out_and_told(copy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy.output_dir / "training" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace('"step": 1', '"step": 9'), "{", *lines[2:]]) + "\n")
    assert [line["step"] for line in read_lines(path)] == [3, 4]
    told = capsys.readouterr().err
    assert "line 1: its checksum does not fit its content and 1 more" in told
    assert told.count("\n") == 1


def test_a_damaged_list_of_images_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_settings(tmp_path, steps=3)
    train_until(2, settings, monkeypatch)
    path = settings.output_dir / "training" / "pictures.json"
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert train_lora(settings).trained
    assert f"{path} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_before_its_first_checkpoint_a_training_may_begin_with_other_images_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path, steps=3)
    train_until(1, settings, monkeypatch)
    (settings.train_dir / "00000_input.png").unlink()
    (settings.train_dir / "00000_caption.txt").unlink()
    other = dataclasses.replace(settings, rank=2)
    assert train_lora(other).trained
    assert not train_lora(other).trained
    assert "00000_input.png" not in (settings.output_dir / "training" / "pictures.json").read_text()


def test_a_full_disk_is_one_line_that_names_the_file_and_the_training_goes_on(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "lora")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "save", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*/checkpoints/step-000002.pt'") as caught:
            train_lora(settings)
    assert "\n" not in str(caught.value)
    assert not list(settings.output_dir.rglob(f"{PREFIX}*"))
    train_lora(settings)
    for name in ("adapter_model.safetensors", "adapter_config.json", "training/validation/step-000002.png"):
        assert (settings.output_dir / name).read_bytes() == (finished.output_dir / name).read_bytes()


def test_a_kill_between_validation_image_and_checkpoint_loses_neither(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(finished, output_dir=tmp_path / "lora")
    original = checkpoints.save_checkpoint

    def stop(*arguments: Any) -> None:
        if arguments[1].step == 4:
            raise KeyboardInterrupt
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train_lora(settings)
    validation = settings.output_dir / "training" / "validation"
    assert sorted(path.name for path in validation.iterdir()) == ["step-000002.png", "step-000004.png"]
    train_lora(settings)
    assert files(validation) == files(finished.output_dir / "training" / "validation")
    folder = TrainingFolder(settings.output_dir)
    found = load_checkpoint(folder.checkpoints, folder.ledger)
    assert found is not None
    assert found.step == 4


def test_a_mark_with_an_error_that_is_no_number_can_be_read(copy: Any) -> None:
    folder = TrainingFolder(copy.output_dir)
    folder.note(compiled=False, gradient_error="nan")
    mark = folder.read_mark()
    assert mark is not None
    assert (mark.compiled, mark.gradient_error, mark.finished) == (False, "nan", True)
    assert json.loads(folder.mark_path.read_text())["gradient_error"] == "nan"
    assert isinstance(folder.ledger, Ledger)
