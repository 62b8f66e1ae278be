"""A column's folder: what is ours, what is damaged and made again, and what FRESH=1 may delete."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from journal_cases import FINGERPRINT, images, lines_of, make, record
from PIL import Image

from benchmark.run import column_folder
from benchmark.run import journal as journals
from benchmark.run.column_folder import DamagedFolder
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch, Line, Timed
from benchmark.run.snapshot import Snapshot
from files.images import is_our_png, save_png
from files.locks import LOCK_NAME
from files.writing import PREFIX, partial_path
from scripts.measuring.damaging import copy_tree, damage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("column")
    make(folder)
    return folder


def standing(snapshot: Snapshot) -> set[Line]:
    """Return the lines that stay: all, but a timed call of the first round and its images stand or go together."""
    timed = {call.indices for call in snapshot.timed if call.round == 0}
    imaged = {batch.indices for batch in snapshot.batches if batch.purpose == "timed"}
    return {
        line for line in lines_of(snapshot)
        if not isinstance(line, Timed | Batch) or line.round or line.indices not in timed ^ imaged
    }  # fmt: skip


def test_damage_at_random_places_costs_its_line_and_changes_no_figure(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power fails here
    moments = random.Random(13)
    whole = Journal(made, FINGERPRINT).read()
    files = ("timings.jsonl", "timings.jsonl", "timings.jsonl", "timings-looks.jsonl", "fingerprint.json",
             "output/00001.png", "output/00007.png")  # fmt: skip
    for _ in range(250):
        folder = copy_tree(made, tmp_path / "damaged")
        done = damage(folder / moments.choice(files), moments)
        kept = Journal(folder, FINGERPRINT).read()
        assert {*lines_of(kept)} <= {*lines_of(whole)}, f"{done}: a changed figure passed"
        assert set(kept.processes) <= set(whole.processes), f"{done}: a changed process passed"
        assert set(kept.looks) <= set(whole.looks), f"{done}: a changed look passed"
        notes = make(folder)
        assert images(folder) == images(made), done
        after = Journal(folder, FINGERPRINT).read()
        assert after.asked(99) == whole.asked(99), done
        assert after.pixels() == whole.pixels(), done
        assert [(call.round, call.indices) for call in after.timed] == [
            (call.round, call.indices) for call in whole.timed
        ], done
        assert standing(kept) - {*lines_of(after)} == set(), f"{done}: made again"
        assert [(one.start, one.size) for one in after.bulk_sizes] == [(4, 4)], done
        assert {(one.purpose, one.round) for one in after.processes} >= {("timed", 0), ("timed", 1)}, done
        assert after.loaded is not None, done
        assert after.looks == whole.looks, done
        assert after.faults == (), f"{done}: still damaged"
        assert all("\n" not in note for note in notes)


def test_what_is_damaged_is_named(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "a")
    lines = (folder / "timings.jsonl").read_text().splitlines()
    lines[2] = lines[2].replace('"seconds": ', '"seconds": 1')
    (folder / "timings.jsonl").write_text("\n".join(lines) + "\n")
    assert any("timings.jsonl is damaged in line 3; what these lines recorded is made again" in note
               for note in make(folder))  # fmt: skip
    folder = copy_tree(made, tmp_path / "b")
    (folder / "output" / "00003.png").write_bytes(b"something else")
    assert any("00003.png changed since" in note for note in make(folder))
    assert images(folder) == images(made)
    (folder / "timings-looks.jsonl").write_text("{}\n")
    assert any("timings-looks.jsonl is damaged in line 1; that a verdict was formed before may be forgotten" in note
               for note in make(folder))  # fmt: skip


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
        record(journal, 0)
    assert column_folder.foreign_files(tmp_path, 10) == []
    assert list((tmp_path / "output").iterdir()) == [], "what was half written is gone"
    assert Journal(tmp_path, FINGERPRINT).read().batches == ()


def test_images_say_who_made_them_and_only_such_are_written_over(made: Path, tmp_path: Path) -> None:
    assert is_our_png(made / "output" / "00000.png")
    folder = copy_tree(made, tmp_path / "column")
    Image.new("RGB", (8, 8)).save(folder / "output" / "00017.png")
    save_png(Image.new("RGB", (8, 8)), folder / "output" / "00018.png")
    assert column_folder.foreign_files(folder, 20) == ["output/00017.png"]
    assert column_folder.foreign_files(folder, 10) == [], "a run of 10 images does not write it"


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
    column_folder.clear(folder, 10)
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
        lines[4] = lines[4].replace('"seconds": ', '"seconds": 1')
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
        column_folder.clear(folder, 10)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    if fault in ("damaged line", "no lines"):
        make(folder)  # as the message says
        column_folder.clear(folder, 10)
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
    (folder / "fingerprint.json").write_text(json.dumps({"schema_version": 3, **FINGERPRINT}))
    said = r"another version of this program \(schema_version=3, now 4\)"
    with pytest.raises(column_folder.FingerprintError, match=said):
        Journal(folder, FINGERPRINT)


@pytest.mark.parametrize(
    ("now", "remedy"),
    [("CPU (arm64, 2 threads)", "set it back with OMP_NUM_THREADS,"), ("NVIDIA H200", "set it back,")],
)
def test_another_number_of_threads_is_refused_with_the_variable_that_sets_it(
    tmp_path: Path, now: str, remedy: str
) -> None:
    with Journal(tmp_path, FINGERPRINT | {"DEVICE": "CPU (arm64, 1 threads)"}).locked():
        pass
    with pytest.raises(column_folder.FingerprintError) as refused:
        Journal(tmp_path, FINGERPRINT | {"DEVICE": now})
    assert f"made with DEVICE=CPU (arm64, 1 threads), now DEVICE={now}: {remedy}" in str(refused.value)


def test_a_damaged_digit_of_the_version_is_damage_and_no_other_version(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "column")
    mark = folder / "fingerprint.json"
    mark.write_text(mark.read_text().replace('"schema_version": 4', '"schema_version": 3'))
    assert any("fingerprint.json is damaged; it is written again" in note for note in make(folder))
    assert mark.read_bytes() == (made / "fingerprint.json").read_bytes()


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
    kept = standing(Journal(tmp_path, FINGERPRINT).read())
    assert kept, "what was whole before is kept"
    make(tmp_path)
    assert kept <= {*lines_of(Journal(tmp_path, FINGERPRINT).read())}
    assert images(tmp_path) == images(made)
