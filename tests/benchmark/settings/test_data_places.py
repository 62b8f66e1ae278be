"""Where the data of DATASET and REFERENCE lie: what is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from parsing import no_settings_in_the_environment, parse, refusal  # noqa: F401


def images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "00000.png").write_bytes(b"\x89PNG")
    return folder


def test_a_file_of_prompts_is_taken_wherever_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wishes.txt").write_text("a red robot\n")
    settings = parse(monkeypatch, [f"--dataset={tmp_path / 'wishes.txt'}", f"--output-dir={tmp_path}"], {})
    assert settings.dataset.endswith("wishes.txt")


def test_a_file_of_prompts_cannot_be_called_as_what_we_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cache.txt").write_text("a red robot\n")
    said = refusal(monkeypatch, [f"--dataset={tmp_path / 'cache.txt'}"], {})
    assert "DATASET: a data set cannot be called 'cache'" in said


def test_references_in_the_output_folder_are_refused_by_their_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = images(tmp_path / "mine")
    given = ["--dataset=robots", f"--reference={folder}", f"--output-dir={folder / 'out'}"]
    assert f"lies in the data set's folder REFERENCE={folder}" in refusal(monkeypatch, given, {})
    parse(monkeypatch, ["--dataset=robots", f"--reference={folder}", f"--output-dir={tmp_path / 'out'}"], {})


@pytest.mark.parametrize("reference", ["nothing.npz", "./nowhere", "robot"])
def test_references_that_are_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    assert "REFERENCE" in refusal(monkeypatch, ["--dataset=robots", f"--reference={reference}"], {})


def test_a_bare_folder_is_no_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    said = refusal(monkeypatch, ["--dataset=robots", f"--reference={tmp_path / 'bare'}"], {})
    assert said.startswith(f"REFERENCE={tmp_path / 'bare'} holds neither images")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--dataset=wishes.txt"], "references: none, since the data set is prompts without images"),
        (["--dataset=wishes.txt", "--reference=robots"], "references: at most 2000 images of robots"),
        (["--dataset=robots", "--num-references=7"], "references: at most 7 images of robots"),
        (["--dataset=robots", "--weights=random"], "references: none, since random weights are not scored"),
    ],
)
def test_check_says_what_the_references_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: list[str], says: str
) -> None:
    from benchmark.run.check import describe_run

    (tmp_path / "wishes.txt").write_text("a red robot\n")
    settings = parse(monkeypatch, ["--weights=tiny", *given], {})
    assert f"\n{says}\n" in describe_run(settings)[0]
