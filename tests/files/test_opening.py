"""A model folder from a stranger: nothing in it runs, nothing is asked on the terminal, and the refusal is one line."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hostile_files import CODE, Payload, refusal

from files.model_folders import check_folder, check_pipeline
from files.opening import from_pretrained


@pytest.fixture(scope="module")
def folders() -> ModuleType:
    """Return the builders of tiny pipelines, which the tests of models have."""
    place = str(Path(__file__).parents[1] / "models")
    sys.path.insert(0, place)
    try:
        import diffusers_folders
    finally:
        sys.path.remove(place)
    return diffusers_folders


@pytest.fixture
def pipeline(nothing_runs: Path, sdxl: Path) -> Path:
    """Return a copy of a tiny SDXL that the test may spoil."""
    import shutil

    shutil.copytree(sdxl, nothing_runs / "model")
    return nothing_runs / "model"


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory, folders: ModuleType) -> Path:
    path: Path = folders.write_sdxl(tmp_path_factory.mktemp("sdxl") / "model")
    return path


def change(path: Path, **entries: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | entries))


def load(folder: Path) -> object:
    import diffusers

    return from_pretrained(diffusers.DiffusionPipeline, folder)


def test_a_sound_pipeline_loads(pipeline: Path) -> None:
    assert type(load(pipeline)).__name__ == "StableDiffusionXLPipeline"


REMOTE = {"AutoTokenizer": ["evil.Evil", None], "AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
# What is done to the folder of a sound pipeline, and words of the refusal.
SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "tokenizer": (
        lambda f: (change(f / "tokenizer/tokenizer_config.json", auto_map=REMOTE), code(f / "tokenizer/evil.py")),
        "names code of its own (auto_map)",
    ),
    "encoder": (
        lambda f: (change(f / "text_encoder/config.json", auto_map=REMOTE), code(f / "text_encoder/evil.py")),
        "names code of its own (auto_map)",
    ),
    "nested": (
        lambda f: change(f / "text_encoder/config.json", vision_config={"deep": [{"auto_map": REMOTE}]}),
        "names code of its own (auto_map)",
    ),
    "another version's": (
        lambda f: change(f / "text_encoder/config.4.0.0.json", auto_map=REMOTE),
        "config.4.0.0.json names code of its own (auto_map)",
    ),
    "transformers' pipelines": (
        lambda f: change(f / "unet/config.json", custom_pipelines={"a": {"impl": "evil.Evil"}}),
        "names code of its own (custom_pipelines)",
    ),
    "kernel": (
        lambda f: change(f / "text_encoder/config.json", attn_implementation="someone/kernel"),
        "names a kernel to download (someone/kernel)",
    ),
    "component": (
        lambda f: (
            change(f / "model_index.json", unet=["evil", "Evil"]), code(f / "unet/evil.py"),
        ),
        "takes its component unet from ['evil', 'Evil'], which is never run here",
    ),
    "component beside diffusers": (
        lambda f: code(f / "unet/diffusers.py"),
        "diffusers.py is code of the component unet, which is never run here",
    ),
    "component beside a module": (
        lambda f: (
            change(f / "model_index.json", extra=["stable_diffusion", "StableDiffusionSafetyChecker"]),
            (f / "extra").mkdir(), code(f / "extra/stable_diffusion.py"),
        ),
        "stable_diffusion.py is code of the component extra",
    ),
    "module of the process": (lambda f: change(f / "model_index.json", unet=["os", "system"]), "['os', 'system']"),
    "module in a module": (
        lambda f: change(f / "model_index.json", unet=["pipeline_utils", "os"]), "which is no class",
    ),
    "function": (lambda f: change(f / "model_index.json", unet=["diffusers", "logging"]), "which is no class"),
    "own pipeline": (
        lambda f: (change(f / "model_index.json", _class_name=["evil", "Evil"]), code(f / "evil.py")),
        "is a pipeline of code of its own (['evil', 'Evil'])",
    ),
    "no pipeline": (lambda f: change(f / "model_index.json", _class_name="logging"), "which diffusers"),
    "unknown pipeline": (lambda f: change(f / "model_index.json", _class_name="Evil"), "is a pipeline of class Evil"),
    "component elsewhere": (
        lambda f: change(f / "model_index.json", **{"../unet": ["diffusers", "UNet2DConditionModel"]}),
        "a component ../unet, which is no plain folder name",
    ),
    "hidden component": (
        lambda f: change(f / "model_index.json", **{".unet": ["diffusers", "UNet2DConditionModel"]}),
        "a component .unet, which is no plain folder name",
    ),
    "absolute component": (
        lambda f: change(f / "model_index.json", **{"/etc": ["diffusers", "UNet2DConditionModel"]}),
        "a component /etc, which is no plain folder name",
    ),
    "three entries": (lambda f: change(f / "model_index.json", unet=["diffusers", "UNet", "x"]), "expected [library"),
    "text for a component": (lambda f: change(f / "model_index.json", unet="evil"), "expected [library"),
    "number for a class": (lambda f: change(f / "model_index.json", unet=["diffusers", 3]), "expected [library"),
    "a list": (lambda f: (f / "model_index.json").write_text("[]"), "holds a list; expected the components"),
    "no JSON": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json is no JSON"),
    "deep JSON": (lambda f: (f / "model_index.json").write_text("[" * 100_000), "nested too deeply"),
    "deep configuration": (
        lambda f: (f / "unet/config.json").write_text('{"a":' * 100_000),
        "config.json is nested too deeply to be checked",
    ),
    "weights elsewhere": (
        lambda f: elsewhere(f / "unet/diffusion_pytorch_model.safetensors"), "leads outside of",
    ),
    "a component that is a link": (lambda f: elsewhere(f / "vae"), "leads outside of"),
    "shards elsewhere": (
        lambda f: change(f / "unet/diffusion_pytorch_model.safetensors.index.json", weight_map={"a": "../../x.bin"}),
        "names ../../x.bin, which leads outside of",
    ),
    "shards at the root": (
        lambda f: change(f / "text_encoder/model.safetensors.index.json", weight_map={"a": "/etc/x.safetensors"}),
        "names /etc/x.safetensors, which leads outside of",
    ),
    "a vocabulary elsewhere": (
        lambda f: change(f / "tokenizer/special_tokens_map.json", vocab_file="/etc/passwd"),
        "names /etc/passwd, which leads outside of",
    ),
    "another model": (
        lambda f: change(f / "text_encoder/adapter_config.json", base_model_name_or_path="someone/model"),
        "names another model to load instead",
    ),
}  # fmt: skip


def code(path: Path) -> None:
    path.write_text(CODE)


def elsewhere(path: Path) -> None:
    """Move a file or folder out of the model's folder, and leave a link to it."""
    target = path.parents[-4] / "elsewhere" if len(path.parents) < 4 else path.parents[2] / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("what", sorted(SPOILED))
def test_what_a_pipelines_folder_brings_is_refused_before_it_is_read(pipeline: Path, what: str) -> None:
    spoil, words = SPOILED[what]
    spoil(pipeline)
    assert words in refusal(lambda: load(pipeline))


def test_a_hub_pipeline_is_refused_alike_by_the_family(pipeline: Path, tmp_path: Path) -> None:
    from models import diffusers_hub
    from models.base import Runtime

    spoil, words = SPOILED["component"]
    spoil(pipeline)
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=tmp_path / "assets", cache=tmp_path / "cache")
    options = diffusers_hub.Options(id=str(pipeline))
    assert words in refusal(lambda: diffusers_hub.FAMILY.load(options, runtime))


def test_what_the_hub_gave_is_checked_before_it_is_loaded(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer of a hub is another one than the first."""
    from models import diffusers_hub

    sound = tmp_path / "sound"
    sound.mkdir()
    (sound / "model_index.json").write_bytes((pipeline / "model_index.json").read_bytes())
    SPOILED["own pipeline"][0](pipeline)
    answer_as_hub(monkeypatch, sound, pipeline)
    line = refusal(lambda: diffusers_hub.FAMILY.load(diffusers_hub.Options(id="some/one"), runtime_in(tmp_path)))
    assert "is a pipeline of code of its own" in line


def answer_as_hub(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let the hub answer with these folders, one after the other."""
    from files.downloads import HubFiles
    from models.pipelines import sources as pipeline_sources

    answers = iter(folders)
    names = [path.relative_to(folders[-1]).as_posix() for path in folders[-1].rglob("*") if path.is_file()]
    monkeypatch.setattr(HubFiles, "fetch", lambda *_: next(answers))
    monkeypatch.setattr(pipeline_sources, "_cached_names", lambda *_: names)


def runtime_in(folder: Path) -> Any:
    from models.base import Runtime

    return Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")


def test_a_pipe_in_a_folder_is_refused_without_waiting(pipeline: Path) -> None:
    os.mkfifo(pipeline / "vae" / "extra.json")
    assert "extra.json is no regular file" in refusal(lambda: load(pipeline), OSError)


def test_a_hub_pipeline_that_diffusers_would_load_others_with_or_run_code_of_is_refused(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import diffusers_hub

    def load_from_hub() -> None:
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id="a/b"), runtime_in(tmp_path))

    combined = tmp_path / "combined"
    combined.mkdir()
    index = {"_class_name": "KandinskyV22CombinedPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (combined / "model_index.json").write_text(json.dumps(index))
    answer_as_hub(monkeypatch, combined)
    assert "made of several repositories" in refusal(load_from_hub)
    SPOILED["own pipeline"][0](pipeline)
    answer_as_hub(monkeypatch, pipeline)
    assert "a/b is a pipeline of code of its own" in refusal(load_from_hub)


def test_a_readme_that_names_other_pipelines_is_refused(nothing_runs: Path, folders: ModuleType) -> None:
    folder = nothing_runs / "kandinsky"
    folders.build_kandinsky().save_pretrained(folder)
    (folder / "README.md").write_text("---\nprior:\n- someone/else\n---\n")
    assert "README.md can name other pipelines" in refusal(lambda: load(folder))


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_pickle_in_the_place_of_weights_runs_nothing(pipeline: Path, part: str) -> None:
    for weights in (pipeline / part).glob("*.safetensors"):
        weights.unlink()
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save({"w": Payload()}, pipeline / part / name)
    with pytest.raises((OSError, ValueError)) as caught:
        load(pipeline)
    assert "weights_only" not in str(caught.value)


def test_links_of_the_hubs_cache_are_followed(pipeline: Path, sdxl: Path) -> None:
    repository = pipeline.parent / "models--org--name"
    snapshot = repository / "snapshots" / "0123"
    for number, path in enumerate(sorted(path for path in sdxl.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:064x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(sdxl)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    assert type(load(snapshot)).__name__ == "StableDiffusionXLPipeline"


@pytest.mark.parametrize("folder", ["sdxl", "pixart"])
def test_the_embedded_pipelines_pass(folder: str) -> None:
    check_pipeline(Path(__file__).parents[2] / "assets" / folder)


SETTINGS = ("SDXL_MODEL", "PIXART_MODEL", "PIXART_BASE", "INFINITY_TEXT_ENCODER", "CLIP_MODEL", "DINOV2_MODEL")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_that_names_a_folder_refuses_its_code(
    nothing_runs: Path, folders: ModuleType, setting: str
) -> None:
    from metrics.extractors.clip import CLIPFeatures
    from metrics.extractors.dinov2 import ClassToken
    from models import pixart, sdxl
    from models.base import Runtime
    from models.infinity_text import load_text_encoder

    folder = nothing_runs / "model"
    folder.mkdir()
    if setting == "SDXL_MODEL":
        folders.write_sdxl(folder)
    model, base = folders.write_pixart_split(nothing_runs) if setting.startswith("PIXART") else (folder, folder)
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=nothing_runs, cache=nothing_runs)
    pixart_options = pixart.Options(model=str(model), base=str(base))
    spoiled: Path
    call: Callable[[], object]
    spoiled, call = {
        "SDXL_MODEL": (folder / "tokenizer_2", lambda: sdxl.FAMILY.load(sdxl.Options(model=str(folder)), runtime)),
        "PIXART_MODEL": (model / "transformer", lambda: pixart.FAMILY.load(pixart_options, runtime)),
        "PIXART_BASE": (base / "text_encoder", lambda: pixart.FAMILY.load(pixart_options, runtime)),
        "INFINITY_TEXT_ENCODER": (folder, lambda: load_text_encoder(str(folder), "cpu", "float32")),
        "CLIP_MODEL": (folder, lambda: CLIPFeatures(folder, "x", "cpu")),
        "DINOV2_MODEL": (folder, lambda: ClassToken(folder)),
    }[setting]
    name = "tokenizer_config.json" if setting in ("SDXL_MODEL", "INFINITY_TEXT_ENCODER") else "config.json"
    change(spoiled / name, auto_map=REMOTE)
    code(spoiled / "evil.py")
    assert f"{name} names code of its own (auto_map), which is never run here" in refusal(call)


def test_a_tokenizer_alone_is_refused_alike(pipeline: Path) -> None:
    from transformers import AutoTokenizer

    change(pipeline / "tokenizer/tokenizer_config.json", auto_map=REMOTE)
    code(pipeline / "tokenizer/evil.py")
    assert "auto_map" in refusal(lambda: from_pretrained(AutoTokenizer, pipeline / "tokenizer"))


def test_transformers_is_told_not_to_trust_and_diffusers_does_not_by_default(tmp_path: Path) -> None:
    seen: dict[str, object] = {}

    class Theirs:
        __module__ = "transformers.models.something"

        @classmethod
        def from_pretrained(cls, _source: Path, **options: object) -> None:
            seen.update(options)

    from_pretrained(Theirs, tmp_path, local_files_only=True)
    assert seen == {"local_files_only": True, "trust_remote_code": False}
    from diffusers.models.auto_model import AutoModel
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    for method in (AutoModel.from_pretrained, DiffusionPipeline.from_pretrained, DiffusionPipeline.download):
        assert 'kwargs.pop("trust_remote_code", False)' in inspect.getsource(method)


def test_a_hub_id_is_no_folder(nothing_runs: Path) -> None:  # noqa: ARG001 (its checks)
    from transformers import AutoTokenizer

    assert "no folder someone/model" in refusal(lambda: from_pretrained(AutoTokenizer, "someone/model"), OSError)


def test_any_error_of_a_library_becomes_one_line(tmp_path: Path) -> None:
    class Theirs:
        @classmethod
        def from_pretrained(cls, _source: Path) -> None:
            raise KeyError("many\nlines")

    assert "does not load as a Theirs" in refusal(lambda: from_pretrained(Theirs, tmp_path))


def test_a_word_of_a_vocabulary_is_no_code(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"auto_map": 17, "custom_pipelines": 18}))
    check_folder(tmp_path)


def test_transformers_runs_chat_templates_in_the_sandbox_of_jinja() -> None:
    """Nothing here calls one; this is for what a library may do on its own."""
    from jinja2.exceptions import SecurityError
    from transformers.utils import chat_template_utils

    assert "ImmutableSandboxedEnvironment(" in inspect.getsource(chat_template_utils)
    compile_template = chat_template_utils._compile_jinja_template
    with pytest.raises(SecurityError):
        compile_template("{{ ''.__class__.__mro__[1].__subclasses__() }}").render()
