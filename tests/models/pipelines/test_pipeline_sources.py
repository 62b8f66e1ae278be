"""What a pipeline's name means, and which of its files are read: told by names and its index alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from files.hub import NotOnHub
from models.pipelines import sources as pipeline_sources
from models.pipelines.sources import COMBINED, PRIORS, Source, find_pipeline, hub_files, parse_source
from models.pipelines.weight_files import choose_variant, variants_of, wanted_files


@dataclass(frozen=True)
class Named:
    id: str
    components: str = ""
    config: str = ""


def write_index(folder: Path, class_name: str, **components: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name, **components}))
    return folder


def in_cache(monkeypatch: pytest.MonkeyPatch, cache: Path, repository: str, revision: str, *names: str) -> Path:
    """Put empty files of a repository into a hub's cache, and return the folder of its snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = cache / f"models--{repository.replace('/', '--')}"
    commit = f"{sum(revision.encode()):040x}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    for name in names:
        (place / "snapshots" / commit / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "snapshots" / commit / name).write_text("{}")
    return place / "snapshots" / commit


def test_names_are_folders_files_or_hub_ids_with_a_revision(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert parse_source(str(tmp_path)) == Source("folder", str(tmp_path))
    assert parse_source(str(tmp_path / "model.safetensors")).kind == "file"
    assert parse_source("org/name") == Source("hub", "org/name")
    assert parse_source("org/name@fp16") == Source("hub", "org/name", "fp16")
    assert parse_source("org/name@refs/pr/3").revision == "refs/pr/3"
    assert parse_source("org/name@fp16").told == "org/name@fp16"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nowhere", "no folder ./nowhere"),
        ("models/mine.safetensors", "no file models/mine.safetensors"),
        ("org/name@", "no folder org/name@"),
        ("a/b/c", "no folder a/b/c"),
    ],
)
def test_what_is_nowhere_is_refused_with_what_a_name_may_be(name: str, words: str) -> None:
    with pytest.raises(OSError, match=words) as caught:
        parse_source(name)
    assert "org/name@revision" in str(caught.value)


@pytest.mark.parametrize(("suffix", "words"), [(".ckpt", "convert it to .safetensors"), (".zip", "no .safetensors")])
def test_other_files_are_refused(tmp_path: Path, suffix: str, words: str) -> None:
    (tmp_path / f"model{suffix}").touch()
    with pytest.raises(OSError, match=words):
        parse_source(str(tmp_path / f"model{suffix}"))


def test_decoders_are_called_by_the_class_that_diffusers_combines_them_in() -> None:
    from diffusers import pipelines
    from diffusers.pipelines.auto_pipeline import _get_connected_pipeline

    for decoder, combined in COMBINED.items():
        assert _get_connected_pipeline(getattr(pipelines, decoder)).__name__ == combined


def test_decoder_needs_a_prior_that_is_named(tmp_path: Path) -> None:
    folder = write_index(tmp_path / "decoder", "KandinskyV22Pipeline", unet=["diffusers", "UNet2DConditionModel"])
    (folder / "README.md").write_text("---\nprior:\n- someone/else\n---\n")
    with pytest.raises(ValueError, match="a decoder that needs its prior") as caught:
        find_pipeline(Named(str(folder)))
    assert "HUB_COMPONENTS" in str(caught.value)
    found = find_pipeline(Named(str(folder), '{"prior": "org/prior@v2"}'))
    assert (found.class_name, found.prior) == ("KandinskyV22CombinedPipeline", Source("hub", "org/prior", "v2"))


def test_published_decoders_have_their_published_priors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "stabilityai/stable-cascade"
    folder = in_cache(monkeypatch, tmp_path, name, "main", "model_index.json")
    write_index(folder, "StableCascadeDecoderPipeline")
    found = find_pipeline(Named(name))
    assert (found.class_name, found.prior) == ("StableCascadeCombinedPipeline", Source("hub", PRIORS[name]))


def test_revision_of_the_hub_is_read_from_the_cache_of_that_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision, class_name in (("main", "FluxPipeline"), ("fp16", "SanaPipeline")):
        write_index(in_cache(monkeypatch, tmp_path, "org/name", revision, "model_index.json"), class_name)
    assert find_pipeline(Named("org/name")).class_name == "FluxPipeline"
    assert find_pipeline(Named("org/name@fp16")).class_name == "SanaPipeline"


def test_hub_that_may_not_be_asked_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cache(monkeypatch, tmp_path, "org/name", "main", "model_index.json")
    with pytest.raises(OSError, match="org/other is not in the hub's cache") as caught:
        find_pipeline(Named("org/other@fp16"))
    assert "\n" not in str(caught.value)


def test_revision_that_the_hub_lacks_tells_where_half_size_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object) -> Path:
        raise NotOnHub("org/name has no such revision on the hub")

    monkeypatch.setattr(pipeline_sources.HubFiles, "fetch", answer)
    with pytest.raises(NotOnHub, match=r"no such revision.*are found without @fp16"):
        find_pipeline(Named("org/name@fp16"))


INDEX = {
    "unet": ["diffusers", "UNet2DConditionModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "image_encoder": [None, None],
}  # fmt: skip
FILES = (
    "model_index.json", "README.md", "whole.safetensors", "unet/config.json", "unet/other/config.json",
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin", "tokenizer/config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
    "safety_checker/config.json", "safety_checker/model.safetensors",
)  # fmt: skip


@pytest.mark.parametrize(("weights", "count"), [("pretrained", 5), ("random", 4)])
def test_only_what_loading_reads_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, count: int
) -> None:
    write_index(in_cache(monkeypatch, tmp_path, "org/name", "main", *FILES), "StableDiffusionPipeline", **INDEX)

    @dataclass(frozen=True)
    class Asked(Named):
        safety: bool = False

    (need,) = hub_files(find_pipeline(Asked("org/name")), Asked("org/name"), weights)
    assert set(need.patterns) <= set(FILES)
    assert not {"README.md", "whole.safetensors", "unet/diffusion_pytorch_model.bin"} & set(need.patterns)
    assert not any(name.startswith("safety_checker/") for name in need.patterns)
    assert sum(name != "model_index.json" for name in need.patterns) == count
    assert need.here()


def test_missing_weights_of_a_repository_are_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in FILES if not name.startswith("unet/diffusion")]
    write_index(in_cache(monkeypatch, tmp_path, "org/name", "main", *names), "StableDiffusionPipeline", **INDEX)
    with pytest.raises(OSError, match="org/name lacks weights in unet"):
        hub_files(find_pipeline(Named("org/name")), Named("org/name"), "pretrained")


def test_named_component_comes_from_its_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(tmp_path / "local", "StableDiffusionPipeline", **INDEX)
    in_cache(monkeypatch, tmp_path / "cache", "org/vae", "main", "config.json", "diffusion_pytorch_model.safetensors")
    in_cache(monkeypatch, tmp_path / "cache", "org/name", "main", *FILES)
    named = Named(str(tmp_path / "local"), '{"vae": "org/vae", "unet": "org/name"}')
    vae, unet = hub_files(find_pipeline(named), named, "pretrained")
    assert set(vae.patterns) == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert set(unet.patterns) == {"unet/config.json", "unet/diffusion_pytorch_model.safetensors"}


def test_weights_without_a_variant_are_preferred() -> None:
    assert choose_variant(["model.safetensors", "model.fp16.safetensors"]) == ""
    assert choose_variant(["model.fp16.safetensors", "model.bf16.safetensors"]) == "fp16"
    assert choose_variant(["diffusion_pytorch_model.non_ema.safetensors"]) == "non_ema"
    assert choose_variant(["config.json", "model.onnx", "model.safetensors.index.json"]) is None


def test_weights_in_parts_count_when_all_parts_are_there() -> None:
    parts = [f"model.fp16-0000{part}-of-00003.safetensors" for part in (1, 2, 3)]
    old = [f"model-0000{part}-of-00002.fp16.safetensors" for part in (1, 2)]
    assert variants_of(parts) == {"fp16": tuple(parts)}
    assert variants_of(parts[:2]) == {}
    assert variants_of(old) == {"fp16": tuple(old)}
    assert variants_of([*parts[:2], "pytorch_model.bin"]) == {"": ("pytorch_model.bin",)}


def test_safetensors_are_preferred_to_pickles() -> None:
    names = ["pytorch_model.bin", "model.safetensors"]
    assert variants_of(names) == {"": ("model.safetensors",)}
    assert wanted_files([f"vae/{name}" for name in (*names, "config.json")], {"vae": True})[0] == [
        "vae/config.json",
        "vae/model.safetensors",
    ]


def test_folder_that_is_not_there_is_missing() -> None:
    assert wanted_files(["unet/config.json"], {"vae": False, "unet": True}) == (
        ["unet/config.json"],
        ["the folder vae", "weights in unet"],
    )


def test_a_pipeline_is_found_without_the_libraries_that_load_it(tmp_path: Path) -> None:
    write_index(tmp_path / "flux", "FluxPipeline")
    code = (
        "import sys; from models.diffusers_hub import FAMILY, Options; from models.base import Runtime; "
        "from pathlib import Path; "
        "FAMILY.check(Options(id=sys.argv[1]), Runtime('pretrained', 'cpu', 'float32', 64, Path(), Path())); "
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "flux")], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
