"""What a run may delete or write over in an OUTPUT_DIR: its own files, and no other, whatever is asked of it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

import models
import run_inference
from benchmark.report.ownership import REPORT_NAMES
from files import PROGRAM
from files.locks import LOCK_NAME, locked
from files.records import seal
from models.base import ImageGenerator, ModelFamily, Request, Runtime
from scripts.measuring.damaging import damage


@dataclass(frozen=True)
class Options:
    """A model without options."""


class Grey(ImageGenerator):
    def __init__(self, _: Options, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = "Grey", runtime.image_size, 1_000_000

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), 99, dtype=torch.uint8)


GREY = ModelFamily("grey", Options, lambda _: "Grey", lambda *_: "made up", Grey)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, GREY))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "grey", "NUM_SAMPLES": "3", "NUM_REFERENCES": "4", "METRICS": "psnr",
        "WARMUP": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def run(output: Path | str, fresh: bool = False, dataset: Path | None = None) -> int:
    arguments = ["--output-dir", str(output), *(["--fresh", "1"] if fresh else [])]
    return run_inference.main([*arguments, *(["--dataset", str(dataset)] if dataset else [])])


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, links as where they lead; locks are left out, which anybody may find there."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink()) and path.name != LOCK_NAME
    }


def photo(path: Path) -> Path:
    """Write an image as a user's camera would have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (7, len(path.name), 3)).save(path)
    return path


def captioned(folder: Path, count: int = 6) -> Path:
    for number in range(count):
        photo(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"image {number}")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a person's own work in it, which is also the current folder."""
    folder = tmp_path / "home"
    captioned(folder / "photos")
    for name in ("notes.txt", ".bashrc", "Grey/thesis.tex", "Robots/robot.stl", "output/00000.png", "cache/x.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my {name}")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("output", ["~", ".", "absolute"])
def test_a_home_folder_keeps_every_file_of_its_owner(home: Path, output: str, fresh: bool) -> None:
    before = contents(home)
    run(home if output == "absolute" else Path(output).expanduser(), fresh)
    after = contents(home)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "Grey/output/00001.png", "Grey/timings.jsonl", "Grey/fingerprint.json", "Grey-held-out/output/00002.png",
        "Robots/input/train/00001_input.png", "Robots/input/test/00003_caption.txt", "results.json", "results.csv",
        "report.html", "samples.png", "frontier.png",
    ],
)  # fmt: skip
def test_a_file_of_somebody_else_at_a_name_of_ours_is_refused_by_name_before_anything_is_written(
    home: Path, name: str, fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(home / name) if name.endswith(".png") else (home / name).parent.mkdir(parents=True, exist_ok=True)
    if not name.endswith(".png"):
        (home / name).write_text('{"mine": true}\n')
    before = contents(home)
    assert run(home, fresh) == 2
    printed = capsys.readouterr()
    assert name in printed.err
    assert "FRESH=1" not in printed.err or "deletes nothing" in printed.err
    assert contents(home) == before


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("output", ["photos", "photos/out", ".", "link"])
def test_an_output_folder_that_overlaps_the_data_set_is_refused(
    home: Path, output: str, fresh: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "link").symlink_to(home / "photos")
    before = contents(home)
    assert run(home / output, fresh, dataset=home / "photos") == 2
    assert "photos" in capsys.readouterr().err
    assert contents(home) == before


def test_fresh_starts_over_and_keeps_what_a_user_added(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    mine = {
        "Grey/output/figure.png", "Grey/output/00077.png", "Grey/notes.txt", "Robots/input/data.csv",
        "Robots/input/train/mine.png", "thesis.pdf", "Grey-old/output/00000.png",
    }  # fmt: skip
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"my {name}")
    image = out / "Grey" / "output" / "00000.png"
    modified = image.stat().st_mtime_ns
    assert run(out, fresh=True) == 0
    assert {name: (out / name).read_text() for name in mine} == {name: f"my {name}" for name in mine}
    assert image.stat().st_mtime_ns > modified, "the run started over"


@pytest.mark.parametrize("mark", ["Grey/fingerprint.json", "Robots/input/manifest.jsonl"])
def test_fresh_deletes_nothing_at_all_where_one_mark_is_damaged(
    tmp_path: Path, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    content = (out / mark).read_bytes()
    (out / mark).write_bytes(content.replace(b'"schema_version"', b'"schema_versiom"', 1))
    before = contents(out)
    capsys.readouterr()
    assert run(out, fresh=True) == 2
    printed = capsys.readouterr().err
    assert "FRESH=1 deletes nothing" in printed
    assert "input" in printed or "00000.png" in printed
    assert contents(out) == before


def test_fresh_deletes_nothing_while_another_run_generates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    before = contents(out)
    with locked(out / "Grey", "generates images"):
        capsys.readouterr()
        assert run(out, fresh=True) == 2
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert {name: content for name, content in contents(out).items() if LOCK_NAME not in name} == before


def test_a_column_without_an_image_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.run.rounds.time_round", lambda *_: None)
    assert run(tmp_path / "out") == 1
    assert "Grey: failed: none of its images is there" in capsys.readouterr().out


def test_a_run_that_can_score_nothing_leaves_the_former_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    reports = {
        name: (out / name).read_bytes() for name in ("results.json", "results.csv", "report.html", "samples.png")
    }
    for image in (out / "Grey" / "output").glob("*.png"):  # what is there of a column that fails is scored
        image.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmark.run.rounds.time_round", full)
    assert run(out) == 1
    assert {name: (out / name).read_bytes() for name in reports} == reports
    assert "stay as they were" in capsys.readouterr().err


def test_damaged_reports_are_replaced_or_refused_and_never_end_in_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    whole = json.loads((out / "results.json").read_text())["models"][0]["images"]
    moments = random.Random(3)
    for _ in range(6):
        damage(out / moments.choice(REPORT_NAMES), moments)
        capsys.readouterr()
        status = run(out)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        if status == 2:
            assert "OUTPUT_DIR" in printed.err
            for name in REPORT_NAMES:
                (out / name).unlink(missing_ok=True)
            status = run(out)
        assert status == 0
        assert json.loads((out / "results.json").read_text())["models"][0]["images"] == whole


@pytest.mark.parametrize("name", ["timings.jsonl", "manifest.jsonl"])
def test_fresh_with_one_damaged_line_deletes_nothing_anywhere_and_a_plain_run_repairs_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(out) == 0
    path = next(out.rglob(name))
    lines = path.read_text().splitlines()
    # In the journal, a line that names images: what others say is no one's to delete.
    at = next((at for at, line in enumerate(lines) if '"kind": "batch"' in line), 2)
    lines[at] = lines[at].replace(": 1", ": 7", 1).replace('"checksum": "', '"checksum": "0')
    path.write_text("\n".join(lines) + "\n")
    before = contents(out)
    capsys.readouterr()
    assert run(out, fresh=True) == 2
    assert "FRESH=1 deletes nothing" in capsys.readouterr().err
    assert contents(out) == before
    assert run(out) == 0
    assert run(out, fresh=True) == 0


@pytest.mark.parametrize("name", [".t2i-lock", "Grey/.t2i-lock", "Robots/input/.t2i-lock", ".t2i-lock-holder"])
def test_a_file_of_somebody_else_at_a_locks_name_is_refused_before_anything_is_written(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).write_text("mine")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert run(home) == 2
    assert name in capsys.readouterr().err
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["results.json", "Cache"])
def test_a_data_set_cannot_be_called_like_a_file_of_ours(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "out", dataset=captioned(tmp_path / name)) == 2
    assert f"DATASET: a data set cannot be called {name!r}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_models_own_folder_is_not_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.run.columns import choose_models, plan_columns
    from benchmark.run.folders import refuse_models_folders
    from benchmark.settings.fields import settings_class

    model = tmp_path / "mymodel"
    model.mkdir()
    monkeypatch.setenv("VAR_MODEL", str(model))
    monkeypatch.setenv("MODELS", "var-d16")
    settings = settings_class()()
    columns = plan_columns(settings, choose_models(settings, "Gundam", lambda _: None))
    for written in (model, model / "output"):
        with pytest.raises(ValueError, match="in a model's folder"):
            refuse_models_folders(tmp_path, [written], columns)
    refuse_models_folders(tmp_path, [tmp_path / "VAR-d16"], columns)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_results_of_an_earlier_version_are_told_as_such(
    tmp_path: Path, version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    photo(out / "Grey" / "output" / "00000.png")
    photo(out / "samples.png")
    mark = {"schema_version": version, "SEED": "42", **({"program": PROGRAM} if version > 1 else {})}
    (out / "Grey" / "fingerprint.json").write_text(seal(mark) if version > 1 else json.dumps(mark))
    (out / "Grey" / "timings.jsonl").write_text('{"kind": "batch"}\n')
    assert run(out) == 2
    assert f"another version of this program (schema_version={version}, now 4)" in capsys.readouterr().err
