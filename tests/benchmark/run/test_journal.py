"""A column's folder: what is ours, what is damaged and made again, and what FRESH=1 may delete."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.run import column_folder, journal_lines
from benchmark.run import journal as journals
from benchmark.run.generation import Plan, generate_images
from benchmark.run.journal import DamagedFolder, Journal
from files.images import is_our_png, save_png
from files.locks import LOCK_NAME
from files.records import read_record, seal
from files.writing import PREFIX, partial_path
from models.base import ImageGenerator, Request
from scripts.measuring.damaging import copy_tree, damage

FINGERPRINT = {"SEED": "42", "BATCH_SIZE": "2"}


class Noise(ImageGenerator):
    """Images of noise from the requests' seeds."""

    name, image_size, parameters = "Noise", 8, 1_000_000

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        draws = [torch.Generator().manual_seed(request.seed) for request in requests]
        return torch.stack([torch.randint(0, 256, (3, 8, 8), generator=draw, dtype=torch.uint8) for draw in draws])


def make(folder: Path, count: int = 6) -> list[str]:
    """Generate into the folder; return the notes."""
    notes: list[str] = []
    with Path(os.devnull).open("w") as nowhere:
        progress = Progress(nowhere)
        progress.note = notes.append  # type: ignore[method-assign]
        requests = [Request(index, f"image {index}", index) for index in range(count)]
        generate_images(Noise, requests, Journal(folder, FINGERPRINT), Plan(2, 1, "cpu"), progress)
    return notes


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "output").iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("column")
    make(folder)
    return folder


def test_damage_at_random_places_costs_its_batch_and_changes_no_figure(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    monkeypatch.setattr(Clock, "release_memory", lambda _: None)  # a collection of garbage takes most of the time
    moments = random.Random(13)
    before = {batch.start: batch for batch in Journal(made, FINGERPRINT).read().batches}
    for _ in range(250):
        folder = copy_tree(made, tmp_path / "damaged")
        file = moments.choice(("timings.jsonl", "timings.jsonl", "fingerprint.json", "output/00001.png"))
        done = damage(folder / file, moments)
        kept = {batch.start: batch for batch in Journal(folder, FINGERPRINT).read().batches}
        assert all(before[start] == batch for start, batch in kept.items()), f"{done}: a changed figure passed"
        notes = make(folder)
        assert images(folder) == images(made), done
        after = Journal(folder, FINGERPRINT).read().batches
        assert [batch.prompts for batch in after] == [batch.prompts for batch in before.values()], done
        assert {start: batch for start, batch in kept.items() if batch not in after} == {}, f"{done}: made again"
        assert Journal(folder, FINGERPRINT).read().loaded is not None, done
        assert Journal(folder, FINGERPRINT).read().faults == (), f"{done}: still damaged"
        assert all("\n" not in note for note in notes)


def test_what_is_damaged_is_named(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "a")
    lines = (folder / "timings.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace('"seconds": ', '"seconds": 1')
    (folder / "timings.jsonl").write_text("\n".join(lines) + "\n")
    assert any("timings.jsonl is damaged in line 3" in note for note in make(folder))
    folder = copy_tree(made, tmp_path / "b")
    (folder / "output" / "00003.png").write_bytes(b"something else")
    assert any("00003.png changed since" in note for note in make(folder))
    assert images(folder) == images(made)


@pytest.mark.parametrize("seconds", [None, -5, "1.0", True, 0, float("1e999")])
def test_a_line_with_a_fitting_checksum_and_impossible_seconds_is_no_batch(
    made: Path, tmp_path: Path, seconds: object
) -> None:
    folder = copy_tree(made, tmp_path / "column")
    mark = read_record(folder / "fingerprint.json")
    context = journal_lines.context_of(mark)
    line = {"kind": "batch", "start": 0, "stop": 2, "seconds": 1.0, "prompts": ["", ""], "cold": False,
            "digests": ["", ""]}  # fmt: skip
    text = seal(line, context) if seconds == float("inf") else seal(line | {"seconds": seconds}, context)
    with (folder / "timings.jsonl").open("a") as file:
        file.write(text.replace('"seconds": 1.0', '"seconds": Infinity') + "\n")
    assert 0 < Journal(folder, FINGERPRINT).read().batches[0].seconds < 60, "the line before stands"


def test_lines_of_other_settings_never_pass_for_these(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    with Journal(folder, FINGERPRINT | {"SEED": "7"}).locked():
        pass
    (folder / "timings.jsonl").write_bytes((made / "timings.jsonl").read_bytes())
    assert Journal(folder, FINGERPRINT | {"SEED": "7"}).read().batches == ()


def test_a_damaged_mark_whose_lines_are_of_other_settings_is_refused_and_nothing_is_changed(
    made: Path, tmp_path: Path
) -> None:
    folder = copy_tree(made, tmp_path / "column")
    (folder / "fingerprint.json").write_text("{")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DamagedFolder, match=r"fingerprint\.json is not as this program wrote it.*OUTPUT_DIR"):
        Journal(folder, FINGERPRINT | {"SEED": "7"})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_every_image_under_its_name_is_named_by_a_line_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(journals, "publish", killed)
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked(), pytest.raises(KeyboardInterrupt):
        journal.record_batch(journals.Batch((0,), 1.0, ("",)), [Image.new("RGB", (8, 8))])
    assert column_folder.foreign_files(tmp_path, 10) == []
    assert list((tmp_path / "output").iterdir()) == [], "what was half written is gone"
    assert Journal(tmp_path, FINGERPRINT).read().batches == ()


def test_a_model_is_loaded_again_where_only_what_is_known_of_it_was_lost(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    lines = (folder / "timings.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["kind"] == "loaded"
    (folder / "timings.jsonl").write_text("\n".join(["{}", *lines[1:]]) + "\n")
    make(folder)
    assert Journal(folder, FINGERPRINT).read().loaded is not None


def test_images_say_who_made_them_and_only_such_are_written_over(made: Path, tmp_path: Path) -> None:
    assert is_our_png(made / "output" / "00000.png")
    folder = copy_tree(made, tmp_path / "column")
    Image.new("RGB", (8, 8)).save(folder / "output" / "00007.png")
    save_png(Image.new("RGB", (8, 8)), folder / "output" / "00008.png")
    assert column_folder.foreign_files(folder, 20) == ["output/00007.png"]
    assert column_folder.foreign_files(folder, 7) == [], "a run of 7 images does not write it"


@pytest.mark.parametrize("name", ["timings.jsonl", "fingerprint.json", "output/00000.png"])
def test_a_folder_with_files_at_our_names_and_no_mark_is_not_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"theirs": 1}\n')
    assert name == "fingerprint.json" or column_folder.foreign_files(tmp_path, 1) == [name]
    with pytest.raises(ValueError, match=r"OUTPUT_DIR"):
        Journal(tmp_path, FINGERPRINT)
    with pytest.raises(ValueError, match=rf"deletes nothing.*{name}"):
        column_folder.clear(tmp_path)
    assert (tmp_path / name).read_text() == '{"theirs": 1}\n'


def test_fresh_deletes_what_the_journal_names_and_nothing_else(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    theirs = [folder / "output" / "figure.png", folder / "output" / "00099.png", folder / "notes.txt"]
    for path in theirs:
        path.write_bytes(b"theirs")
    column_folder.clear(folder, 6)
    left = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME
    )
    assert left == ["notes.txt", "output/00099.png", "output/figure.png"]


@pytest.mark.parametrize("fault", ["damaged line", "no lines", "link to an image", "linked folder"])
def test_fresh_deletes_nothing_where_the_next_run_would_be_refused(made: Path, tmp_path: Path, fault: str) -> None:
    folder = copy_tree(made, tmp_path / "column")
    image = folder / "output" / "00002.png"
    if fault == "damaged line":
        lines = (folder / "timings.jsonl").read_text().splitlines()
        lines[2] = lines[2].replace('"seconds": ', '"seconds": 1')
        (folder / "timings.jsonl").write_text("\n".join(lines) + "\n")
    elif fault == "no lines":
        (folder / "timings.jsonl").unlink()
    elif fault == "link to an image":
        image.rename(tmp_path / "elsewhere.png")
        image.symlink_to(tmp_path / "elsewhere.png")
    else:
        (folder / "output").rename(tmp_path / "elsewhere")
        (folder / "output").symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"FRESH=1 deletes nothing.*00002\.png.* would be left"):
        column_folder.clear(folder, 6)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    if fault in ("damaged line", "no lines"):
        make(folder)  # as the message says
        column_folder.clear(folder, 6)
        assert not (folder / "output").exists()


def test_fresh_deletes_nothing_where_the_mark_is_damaged(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    damage(folder / "fingerprint.json", random.Random(0))
    before = images(folder)
    with pytest.raises(ValueError, match=r"FRESH=1 deletes nothing.*damaged.*output/00000\.png"):
        column_folder.clear(folder)
    assert images(folder) == before


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    mine = partial_path(folder / "output" / "00000.png")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-99999999-"))
    living = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    elsewhere = dead.with_name(dead.name.replace(PREFIX, f"{PREFIX}-otherhost", 1))
    for path in (dead, living, elsewhere):
        path.write_bytes(b"half")
    make(folder)
    assert not dead.exists()
    assert living.exists()
    assert elsewhere.exists()


def test_images_of_an_earlier_version_are_refused_as_such(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    (folder / "fingerprint.json").write_text(json.dumps({"schema_version": 1, **FINGERPRINT}))
    said = r"another version of this program \(schema_version=1, now 3\)"
    with pytest.raises(column_folder.FingerprintError, match=said):
        Journal(folder, FINGERPRINT)


@pytest.mark.parametrize("what", ["save_png", "append_line", "publish"])
def test_a_disk_that_fills_up_names_the_path_and_costs_only_the_work_in_flight(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real, calls = getattr(journals, what), 0

    def fill(*arguments: object, **more: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(28, "No space left on device")
        real(*arguments, **more)

    monkeypatch.setattr(journals, what, fill)
    with pytest.raises(OSError, match=r"No space left on device") as caught:
        make(tmp_path)
    assert what == "append_line" or str(tmp_path) in str(caught.value)
    monkeypatch.setattr(journals, what, real)
    assert not list(tmp_path.rglob(f"{PREFIX}*"))
    kept = Journal(tmp_path, FINGERPRINT).read().batches
    assert kept, "what was whole before is kept"
    make(tmp_path)
    assert Journal(tmp_path, FINGERPRINT).read().batches[: len(kept)] == kept
    assert images(tmp_path) == images(made)
