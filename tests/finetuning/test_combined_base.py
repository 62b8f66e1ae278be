"""The combined base: the same images as the split folders, links, one build, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # where other tests' small pipelines are written
from diffusers_folders import build_pixart, write_pixart_split

from files.downloads import HubFiles
from files.hub import select_files
from files.records import write_record
from files.writing import PREFIX, partial_path
from finetuning.base import open_base
from finetuning.combined_base import CombinedBase, build_combined_base, find_parts
from models import pixart
from models.base import Request, Runtime
from scripts.pixart_scripts.common import build_combined_base as script

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    write_pixart_split(folder)
    return folder


@pytest.fixture
def split(published: Path, tmp_path: Path) -> tuple[str, str]:
    """Return the two folders, to be changed at will."""
    shutil.copytree(published, tmp_path / "split")
    return str(tmp_path / "split" / "model"), str(tmp_path / "split" / "base")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def image_of(**options: Any) -> torch.Tensor:
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=Path("assets"), cache=Path("cache"))
    generator = pixart.FAMILY.load(pixart.Options(steps=2, **options), runtime)
    return generator.generate([Request(0, "a pink robot", 1), Request(1, "a blue cat", 2)])


def test_it_makes_the_images_of_the_split_folders_and_is_built_once(split: tuple[str, str], tmp_path: Path) -> None:
    target = tmp_path / "new" / "pixart_base"
    built = build_combined_base(*split, target)
    assert built.built
    assert built.notes[-1].startswith("32 px; transformer ")
    assert json.loads((target / "model_index.json").read_text())["transformer"] == [
        "diffusers", "PixArtTransformer2DModel",
    ]  # fmt: skip
    assert open_base(target).native_side == 32
    assert torch.equal(image_of(model=str(target), base="nowhere/at-all"), image_of(model=split[0], base=split[1]))

    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    again = build_combined_base(*split, target)
    assert again == CombinedBase(target, False, built.notes[-1:])
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def test_weights_are_linked_through_the_caches_symbolic_links(split: tuple[str, str], tmp_path: Path) -> None:
    path = Path(split[0]) / "transformer" / WEIGHTS
    blob = path.rename(tmp_path / "0a1b2c")
    path.symlink_to(blob)
    target = build_combined_base(*split, tmp_path / "combined").folder
    assert (target / "transformer" / WEIGHTS).samefile(blob)
    assert not (target / "transformer" / WEIGHTS).is_symlink()
    config = Path("transformer", "config.json")
    assert not (target / config).samefile(Path(split[0]) / config), "an edit of one must not reach the other"


def test_weights_are_copied_where_they_cannot_be_linked(
    split: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    target = build_combined_base(*split, tmp_path / "combined").folder
    source = Path(split[0]) / "transformer" / WEIGHTS
    assert not (target / "transformer" / WEIGHTS).samefile(source)
    assert (target / "transformer" / WEIGHTS).read_bytes() == source.read_bytes()


def test_a_whole_pipeline_needs_no_base(tmp_path: Path) -> None:
    build_pixart().save_pretrained(tmp_path / "whole")
    target = build_combined_base(str(tmp_path / "whole"), "nowhere/at-all", tmp_path / "combined").folder
    assert (target / "vae" / WEIGHTS).samefile(tmp_path / "whole" / "vae" / WEIGHTS)


def test_shards_are_taken_and_a_missing_one_is_named(split: tuple[str, str], tmp_path: Path) -> None:
    folder = Path(split[1]) / "text_encoder"
    (folder / "model.safetensors").unlink()
    build_pixart().text_encoder.save_pretrained(folder, max_shard_size="8KB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    target = build_combined_base(*split, tmp_path / "combined").folder
    assert sorted(path.name for path in (target / "text_encoder").glob("model-*.safetensors")) == shards
    (folder / shards[1]).unlink()
    with pytest.raises(OSError, match=f"index.json names {shards[1]}, which is not there"):
        build_combined_base(*split, tmp_path / "other")


def test_other_sources_are_refused(split: tuple[str, str], tmp_path: Path) -> None:
    target = build_combined_base(*split, tmp_path / "combined").folder
    with pytest.raises(
        ValueError, match=r"was built with model .*, not org/another: move that folder away .* or name another"
    ):
        build_combined_base("org/another", split[1], target)
    assert not build_combined_base(str(target), split[1], target).built, "the folder itself is no other source"
    shutil.rmtree(split[1])
    shutil.rmtree(split[0])
    path = target / "vae" / WEIGHTS
    path.rename(tmp_path / "lost")
    with pytest.raises(OSError, match=r"vae.* is missing, or has another size"):
        build_combined_base(str(target), "", target)


def test_a_source_that_was_changed_since_is_told(split: tuple[str, str], tmp_path: Path) -> None:
    target = build_combined_base(*split, tmp_path / "combined").folder
    edit(Path(split[0]) / "transformer" / "config.json", note="changed")
    with pytest.raises(ValueError, match=r"config\.json was changed after"):
        build_combined_base(*split, target)


def test_a_users_own_whole_folder_is_verified_and_left(split: tuple[str, str], tmp_path: Path) -> None:
    build_pixart().save_pretrained(tmp_path / "own")
    found = build_combined_base(*split, tmp_path / "own")
    assert not found.built
    assert found.notes[0].startswith("a folder of your own, left as it is: 32 px")
    assert not (tmp_path / "own" / "combined.json").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a whole PixArt-Sigma folder"):
        build_combined_base(*split, tmp_path / "notes")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"


def test_what_a_kill_left_is_built_anew(split: tuple[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()  # and is dead from here on
    ours = partial_path(tmp_path / "combined").name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    users = ours.replace("combined", "a combined")
    for name in (ours, users):
        (tmp_path / name / "transformer").mkdir(parents=True)
        (tmp_path / name / "transformer" / "half").write_text("x")
    write_record(tmp_path / ours / "combined.json", {"schema_version": 2})
    target = build_combined_base(*split, tmp_path / "combined").folder
    assert not (tmp_path / ours).exists()
    assert (tmp_path / users / "transformer" / "half").exists()
    assert not (target / "transformer" / "half").exists()


def test_a_damaged_marker_is_told_and_one_of_the_first_version_is_read(split: tuple[str, str], tmp_path: Path) -> None:
    target = build_combined_base(*split, tmp_path / "combined").folder
    marker = target / "combined.json"
    content = marker.read_text()
    marker.write_text(content.replace('"verified": "32 px', '"verified": "64 px'))
    with pytest.raises(
        ValueError, match=r"is damaged \(its checksum does not fit its content\): move that folder away"
    ):
        build_combined_base(*split, target)
    first = {**json.loads(content), "schema_version": 1}
    del first["checksum"]
    marker.write_text(json.dumps(first))
    assert not build_combined_base(*split, target).built
    marker.write_text(json.dumps(first | {"files": {"../outside": 1}}))
    with pytest.raises(ValueError, match="leads outside"):
        build_combined_base(*split, target)


def test_a_base_whose_tokenizer_brings_code_is_not_built(split: tuple[str, str], tmp_path: Path) -> None:
    (Path(split[1]) / "tokenizer" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    edit(Path(split[1]) / "tokenizer" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
    with pytest.raises(ValueError, match="names code of its own") as caught:
        build_combined_base(*split, tmp_path / "combined")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "combined").exists()


def lose_a_part(_: Path, base: Path) -> None:
    shutil.rmtree(base / "scheduler")


def narrow_captions(model: Path, _: Path) -> None:
    wide = build_pixart().transformer.from_config({**build_pixart().transformer.config, "caption_channels": 48})
    wide.save_pretrained(model / "transformer")


def cut_short(_: Path, base: Path) -> None:
    path = base / "vae" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_tensor(_: Path, base: Path) -> None:
    path = base / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, path, {"format": "pt"})


def reshape(model: Path, _: Path) -> None:
    edit(model / "transformer" / "config.json", num_layers=3)


def pickle_only(_: Path, base: Path) -> None:
    (base / "vae" / WEIGHTS).rename(base / "vae" / "diffusion_pytorch_model.bin")


def shrink_vocabulary(_: Path, base: Path) -> None:
    path = base / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    tensors["shared.weight"] = tensors["shared.weight"][:20].clone()
    save_file(tensors, path, {"format": "pt"})
    edit(base / "text_encoder" / "config.json", vocab_size=20)


def clip_instead(_: Path, base: Path) -> None:
    edit(base / "text_encoder" / "config.json", model_type="clip_text_model")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lose_a_part, r"no folder .*scheduler; expected the scheduler"),
        (narrow_captions, r"caption_channels is 48, the text encoder's d_model 32"),
        (cut_short, r"vae.* is damaged \(.*\): download it again"),
        (lose_a_tensor, r"encoder\.final_layer_norm\.weight is not in the file"),
        (reshape, r"transformer_blocks\.2\..* is not in the file"),
        (pickle_only, r"has no diffusion_pytorch_model\.safetensors, found diffusion_pytorch_model\.bin"),
        (shrink_vocabulary, r"tokens go up to \d+, but the text encoder knows 20"),
        (clip_instead, r"text_encoder is a clip_text_model; expected T5"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(
    damage: Any, told: str, split: tuple[str, str], tmp_path: Path
) -> None:
    damage(Path(split[0]), Path(split[1]))
    with pytest.raises((OSError, ValueError), match=told):
        build_combined_base(*split, tmp_path / "combined")
    assert not (tmp_path / "combined").exists()
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_weights_in_other_forms_are_left_out_and_told(split: tuple[str, str], tmp_path: Path) -> None:
    (Path(split[1]) / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    built = build_combined_base(*split, tmp_path / "combined")
    assert built.notes[0] == f"vae: left out diffusion_pytorch_model.bin; {WEIGHTS} is loaded"
    assert not (built.folder / "vae" / "diffusion_pytorch_model.bin").exists()


def test_attention_under_its_old_names_is_accepted_and_loads_the_same(split: tuple[str, str], tmp_path: Path) -> None:
    path = Path(split[1]) / "vae" / WEIGHTS
    tensors = load_file(path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name in [name for name in tensors if ".attentions." in name]:
        for new, old in names.items():
            if f".{new}." in name:
                tensors[name.replace(new, old)] = tensors.pop(name)
    save_file(tensors, path, {"format": "pt"})
    target = build_combined_base(*split, tmp_path / "combined").folder
    from diffusers import AutoencoderKL

    given, loaded = build_pixart().vae.state_dict(), AutoencoderKL.from_pretrained(target / "vae").state_dict()
    assert all(torch.equal(given[name], loaded[name]) for name in given)


def test_the_script_builds_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEIGHTS", "tiny")
    monkeypatch.setenv("COMBINED_BASE", str(tmp_path / "base"))
    assert script.main([]) == 0
    assert capsys.readouterr().out.endswith("base: built\n")
    assert script.main([]) == 0
    assert capsys.readouterr().out.endswith("complete already, nothing to do\n")
    monkeypatch.setenv("WEIGHTS", "random")
    assert script.main([]) == 2
    assert "WEIGHTS=random has no files" in capsys.readouterr().err
    monkeypatch.delenv("WEIGHTS")
    assert script.main(["--model", "./nowhere", "--output_dir", str(tmp_path / "other")]) == 2
    assert "no folder ./nowhere" in capsys.readouterr().err


def test_of_the_hub_only_what_is_read_is_fetched(split: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {"org/model": Path(split[0]), "org/base": Path(split[1])}
    fetched: list[str] = []

    def fetch(need: HubFiles, *_: object) -> Path:
        folder = folders[need.repository]
        names = {path.relative_to(folder).as_posix(): 1 for path in folder.rglob("*") if path.is_file()}
        more = ("pytorch_model.bin", "flax_model.msgpack", "model.onnx")
        published = names | {f"{part}/{name}": 1 for part in ("transformer", "text_encoder") for name in more}
        fetched.extend(select_files(published, need.patterns, need.ignored))
        return folder

    monkeypatch.setattr(HubFiles, "fetch", fetch)
    parts, _ = find_parts("org/model", "org/base")
    assert parts["vae"] == folders["org/base"] / "vae"
    assert {f"transformer/{WEIGHTS}", "text_encoder/model.safetensors", "model_index.json"} <= set(fetched)
    assert not [name for name in fetched if name.endswith((".bin", ".msgpack", ".onnx"))]
