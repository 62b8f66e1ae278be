"""A column's folder is found by the key in its fingerprint, never by which other columns a run has."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.measure.machine import Machine
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.folders import place_columns
from benchmark.run.jobs import open_jobs
from benchmark.settings.axes import Axis
from benchmark.settings.fields import settings_class

MACHINE = Machine("cpu", "float32", "CPU", {"torch": "2"})


def columns_of(monkeypatch: pytest.MonkeyPatch, output: Path, *axes: Axis, **variables: str) -> list[Column]:
    for name, value in {"WEIGHTS": "tiny", "OUTPUT_DIR": str(output), **variables}.items():
        monkeypatch.setenv(name, value)
    settings = settings_class()()
    wanted = [Axis("mode", settings.mode), *axes] if axes else []
    chosen = choose_models(settings, "Robots", lambda _: None, wanted)
    return plan_columns(settings, chosen, MACHINE, wanted)


def claim(columns: list[Column], held_out: str = "") -> list[str]:
    """Write the fingerprints of the columns as a run does, and return the names of their folders."""
    jobs = open_jobs(columns, MACHINE, "robots", held_out=held_out)
    for job in jobs:
        with job.journal.locked():
            pass
    return [job.journal.folder.name for job in jobs]


def names(columns: list[Column]) -> list[str]:
    return [folder.name for folder in place_columns(columns[0].settings.output_dir, columns)]


def model_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "model_index.json").write_text("{}")
    return path


@pytest.mark.parametrize(
    "named",
    ["var,hub:./VAR-d16-compiled", "hub:./VAR-d16-compiled,var", "hub:./a (b),hub:./a-b", "hub:./Straße,hub:./STRASSE"],
)
def test_two_columns_never_share_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in named.split(","):
        if name.startswith("hub:"):
            model_folder(tmp_path / name.removeprefix("hub:./"))
    columns = columns_of(monkeypatch, tmp_path / "out", MODELS=named, MODE="eager,compiled", WEIGHTS="pretrained")
    folders = names(columns)
    assert len({name.casefold() for name in folders}) == len(columns)
    assert claim(columns) == folders
    assert names(columns[::-1]) == folders[::-1], "found again in any order"


def test_folders_of_one_name_give_two_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "a" / "x")
    model_folder(tmp_path / "b" / "x")
    columns = columns_of(monkeypatch, tmp_path / "out", MODELS="hub:./a/x,hub:./b/x", WEIGHTS="pretrained")
    assert [column.title for column in columns] == ["x (a/x)", "x (b/x)"]
    first, second = claim(columns)
    assert first == "x"
    assert second.startswith("x-")
    # Alone, each has the title and the folder that it had.
    (alone,) = columns_of(monkeypatch, tmp_path / "out", MODELS="hub:./b/x", WEIGHTS="pretrained")
    assert (alone.title, names([alone])) == ("x", [second])


def test_another_option_is_another_column_and_leaves_the_first_ones_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl", SDXL_STEPS="4")) == ["SDXL"]
    (other,) = claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl", SDXL_STEPS="5"))
    assert other.startswith("SDXL-")
    assert names(columns_of(monkeypatch, tmp_path, MODELS="sdxl", SDXL_STEPS="4")) == ["SDXL"]


def test_a_sweep_finds_the_column_that_a_plain_run_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl,var", SDXL_STEPS="4")) == ["SDXL", "VAR-d16"]
    swept = columns_of(monkeypatch, tmp_path, Axis("sdxl_steps", (3, 4)), MODELS="sdxl,var", SDXL_STEPS="4")
    assert [column.title for column in swept] == ["SDXL (steps 3)", "SDXL (steps 4)", "VAR-d16"]
    assert names(swept)[1:] == ["SDXL", "VAR-d16"]
    assert names(swept)[0].startswith("SDXL-")


def test_an_axis_over_a_setting_of_the_run_gives_every_model_its_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    swept = columns_of(monkeypatch, tmp_path, Axis("batch_size", (1, 2)), MODELS="sdxl,var")
    assert [column.title for column in swept] == [
        "SDXL (batch size 1)", "SDXL (batch size 2)", "VAR-d16 (batch size 1)", "VAR-d16 (batch size 2)",
    ]  # fmt: skip
    assert [column.settings.batch_size for column in swept] == [1, 2, 1, 2]
    folders = claim(swept)
    assert len(set(folders)) == 4
    # A plain run finds the one of its batch size, and so does the sweep.
    assert names(columns_of(monkeypatch, tmp_path, MODELS="var", BATCH_SIZE="2")) == [folders[3]]
    assert names(swept) == folders


def test_images_of_held_out_captions_have_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    columns = columns_of(monkeypatch, tmp_path, MODELS="sdxl")
    assert claim(columns) == ["SDXL"]
    assert claim(columns, held_out="ab12") == ["SDXL-held-out"]
    assert names(columns) == ["SDXL"]


def test_a_setting_that_a_record_lacks_counts_as_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from files.records import read_record, write_record

    assert claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl")) == ["SDXL"]
    mark = tmp_path / "SDXL" / "fingerprint.json"
    recorded = {name: value for name, value in read_record(mark).items() if name not in ("WARMUP", "SDXL_STEPS")}
    mark.unlink()
    write_record(mark, recorded)
    assert claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl")) == ["SDXL"]
    with pytest.raises(ValueError, match="made with WARMUP=3, now WARMUP=1"):
        claim(columns_of(monkeypatch, tmp_path, MODELS="sdxl", WARMUP="1"))
