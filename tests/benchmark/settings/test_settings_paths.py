"""Settings that name files and folders, exclude each other, or give columns their names: refused in parsing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from parsing import FIELDS, SETTINGS, no_settings_in_the_environment, parse, read_line, refusal  # noqa: F401

import models

# What lies at the paths that settings name.


@pytest.mark.parametrize(
    "variable",
    ["SDXL_MODEL", "SDXL_VAE", "VAR_MODEL", "VAR_CLIP", "PIXART_MODEL", "PIXART_BASE", "INFINITY_MODEL",
     "INFINITY_TEXT_ENCODER", "CLIP_MODEL", "DINOV2_MODEL"],
)  # fmt: skip
def test_a_model_that_can_only_be_a_folder_must_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "file").write_text("")
    for value in (
        "/nope",
        "./nope",
        "~/nope",
        "~nobody.here/nope",
        "a/b/c",
        "nope",
        "org/na me",
        "org/file",
        "x" * 5000,
    ):
        assert variable in refusal(monkeypatch, [], {variable: value}), value


def test_a_models_folder_must_hold_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    wanted = {
        "sdxl": ("SDXL_MODEL", "model_index.json"),
        "var": ("VAR_MODEL", "var_d16.pth"),
        "infinity": ("INFINITY_MODEL", "infinity_2b_reg.pth"),
        "pixart": ("PIXART_MODEL", "transformer"),
    }
    for model, (variable, missing) in wanted.items():
        said = refusal(monkeypatch, ["--models", model], {variable: str(folder)})
        assert variable in said
        assert missing in said
        unread = refusal(monkeypatch, ["--models", model, "--weights", "tiny"], {variable: str(folder)})
        assert "WEIGHTS=tiny reads the embedded weights" in unread, "and does not look at the folder"
        monkeypatch.delenv(variable)
    assert "model_index.json" in refusal(monkeypatch, ["--models", f"hub:{folder}"], {})
    for name in ("var_d17.safetensors", "vae_ch160v4096z32.pth", "model_index.json"):
        (folder / name).write_text("{}")
    parse(monkeypatch, ["--models", "var-d17", "--var-model", str(folder)], {})
    assert "names no class" in refusal(monkeypatch, ["--models", f"hub:{folder}"], {})
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    parse(monkeypatch, ["--models", f"hub:{folder}"], {})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("VAR_DEPTH=17 WEIGHTS=random", "VAR_DEPTH=17"),
        ("VAR_DEPTH=20 WEIGHTS=tiny", "VAR_DEPTH=20"),
        ("VAR_DEPTH=20 MODELS=var-d30", "MODELS names var-d30, but VAR_DEPTH=20"),
        ("VAR_CLASSES=100 WEIGHTS=tiny", "VAR_CLASSES=100"),
        ("INFINITY_ASPECT=2 WEIGHTS=tiny", "INFINITY_ASPECT=2"),
        ("INFINITY_INSERTION=-33", "INFINITY_INSERTION=-33"),
        ("IMAGE_SIZE=520 MODELS=pixart", "IMAGE_SIZE=520: PixArt needs a multiple of 16"),
        ("MODELS=hub:org/name WEIGHTS=tiny", "no embedded weights, but WEIGHTS=tiny: set WEIGHTS=pretrained"),
        ("MODELS=hub:./nope", "MODELS=hub:./nope"),
        ("MODELS=hub:nope", "MODELS=hub:nope"),
        ("HUB_ID=org/name", "HUB_ID=org/name: name the pipeline in MODELS"),
        ("OFFLOAD=1 DEVICE=cpu", "OFFLOAD=1"),
        ("METRICS=fid\\,fid", "METRICS=fid,fid"),
        ("DATASET=emoji IMAGE_COLUMN=x", "IMAGE_COLUMN=x"),
        ("DATASET=~nobody.here/x", "DATASET=~nobody.here/x"),
        ("NUM_REFERENCES=10000001", "NUM_REFERENCES=10000001"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, line: str, says: str) -> None:
    assert says in refusal(monkeypatch, *read_line(line))


def test_offload_of_a_compiled_pipeline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.settings.preconditions.count_gpus", lambda: 1)
    variables = {"OFFLOAD": "1", "MODE": "eager,compiled"}
    assert "MODE=compiled" in refusal(monkeypatch, ["--models", "pixart"], variables)
    assert parse(monkeypatch, ["--models", "var"], variables).offload  # which keeps its weights where they are


def test_the_published_depth_is_that_of_the_network() -> None:
    from models.infinity import PUBLISHED_DEPTH
    from models.networks.infinity_transformer import infinity_2b_shape

    assert infinity_2b_shape().depth == PUBLISHED_DEPTH


def test_more_references_follow_however_the_number_of_samples_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("10000", "10_000", " 10000 ", "+10000"):
        assert parse(monkeypatch, [], {"NUM_SAMPLES": value}).num_references == 10000


# OUTPUT_DIR, and where it lies.


def test_an_output_folder_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for value in ("file", "file/out", "dangling", "dangling/out", "round/out", "x" * 5000, "/dev/null"):
        assert "OUTPUT_DIR=" in refusal(monkeypatch, [], {"OUTPUT_DIR": value}), value
    assert "OUTPUT_DIR=" in refusal(monkeypatch, ["--output-dir", "a\0b"], {})
    parse(monkeypatch, [], {"OUTPUT_DIR": "some/new/folder"})
    assert not (tmp_path / "some").exists(), "parsing makes nothing"


def test_an_output_folder_that_may_not_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # root may write everywhere
    assert "cannot be written" in refusal(monkeypatch, [], {"OUTPUT_DIR": str(tmp_path / "out")})
    monkeypatch.setattr(os, "access", lambda *_: True)
    parse(monkeypatch, [], {"OUTPUT_DIR": str(tmp_path / "out")})


def test_an_output_folder_that_overlaps_the_data_set_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "images" / "mine"
    data.mkdir(parents=True)
    (data / "0.png").write_text("")
    (tmp_path / "link").symlink_to(data)
    for output, verb in (
        ("images/mine", "is"), ("images/mine/out", "lies in"), ("images", "holds"), (".", "holds"),
        ("link/new/out", "lies in"), ("images/mine/../mine", "is"),
    ):  # fmt: skip
        said = refusal(monkeypatch, [], {"DATASET": "images/mine", "OUTPUT_DIR": output})
        assert f"{verb} the data set's folder DATASET=images/mine" in said
        assert f"OUTPUT_DIR={Path(output)} " in said
    assert "is the data set's folder" in refusal(monkeypatch, [], {"DATASET": "./link", "OUTPUT_DIR": str(data)})
    assert "holds" in refusal(monkeypatch, [], {"DATASET": "link", "OUTPUT_DIR": "images"})
    for output in ("images/mine2", "images/other", "out"):
        parse(monkeypatch, [], {"DATASET": "images/mine", "OUTPUT_DIR": output})
    parse(monkeypatch, [], {"DATASET": "robots", "OUTPUT_DIR": "."})


def test_a_data_folder_without_an_image_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine" / ".hidden").mkdir(parents=True)
    for name in ("notes.txt", ".hidden/0.png", ".1.png"):
        (tmp_path / "mine" / name).write_text("")
    assert "DATASET=mine holds neither images" in refusal(monkeypatch, [], {"DATASET": "mine"})
    with monkeypatch.context() as patch:
        patch.setattr("benchmark.settings.preconditions.MOST_ENTRIES", 1)
        parse(patch, [], {"DATASET": "mine"})  # too many files to look at all of them here
    for name in ("0.PNG", "shard.parquet", "metadata.csv"):
        (tmp_path / "mine" / name).write_text("")
        parse(monkeypatch, [], {"DATASET": str(tmp_path / "mine"), "OUTPUT_DIR": str(tmp_path / "out")})
        (tmp_path / "mine" / name).unlink()


def test_a_home_folder_is_found_in_a_flag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse(monkeypatch, ["--output-dir=~/out"], {}).output_dir == tmp_path / "out"


# Titles of columns.


@pytest.mark.parametrize(
    "name",
    ["results.json", "Results.CSV", "samples.png", "report.html", "cache", "CACHE", "Reference", "CACHEDIR.TAG",
     "cachedir.tag", "Frontier.png", ".hidden", "a\x1b[31mb", "a\nb", "a\u202eb", "cach)e", "x" * 201],
)  # fmt: skip
def test_a_column_cannot_be_called_as_what_we_write_or_be_unreadable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "models" / name
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    said = refusal(monkeypatch, [f"--models=hub:{folder}"], {})
    assert "a column cannot be called" in said
    assert said.isprintable()


def test_other_titles_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VAR-d16-fast", "results", "my (model)", "Müller's model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
        parse(monkeypatch, ["--models", f"var,hub:./{name}", "--mode", "eager,compiled"], {})
    parse(monkeypatch, ["--models", "var,hub:./VAR-d16-fast"], {})


def test_every_family_checks_its_options_without_torch_or_says_nothing() -> None:
    assert all(family.check is not None for family in models.FAMILIES)
