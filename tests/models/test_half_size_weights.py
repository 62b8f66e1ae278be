"""Half-size weights: read where there are no others, in any dtype, and told where a run in float32 reads them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_pixart, build_sdxl, write_pixart_split

from files.downloads import FirstOf
from models import diffusers_hub, needed, pixart, sdxl
from models.base import ImageGenerator, ModelFamily, Request, Runtime
from models.pipelines import sources as pipeline_sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REQUEST = Request(0, "a pink robot", 0)
HALF = "diffusion_pytorch_model.fp16.safetensors"
NOTE = "half-size weights in a float32 run, no full ones are here: "


def runtime(dtype: str = "float32") -> Runtime:
    return Runtime("pretrained", "cpu", dtype, 32, Path("assets"), Path("cache"))  # type: ignore[arg-type]


def load(family: ModelFamily, dtype: str = "float32", **options: object) -> ImageGenerator:
    return family.load(family.options(**options, steps=1), runtime(dtype))


def told(generator: ImageGenerator) -> list[str]:
    return [note.removeprefix(NOTE) for note in generator.notes if "half-size" in note]


def halve(folder: Path, *parts: str) -> None:
    """Give the weights of components the names of half-size ones."""
    for part in parts:
        for path in list((folder / part).glob("*.safetensors")):
            path.rename(path.with_suffix(".fp16.safetensors"))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write SDXL's folder with full and half-size files, "sdxl", and PixArt's, "pixart"."""
    root = tmp_path_factory.mktemp("published")
    for name, pipeline in (("sdxl", build_sdxl()), ("pixart", build_pixart())):
        pipeline.save_pretrained(root / name)
        pipeline.save_pretrained(root / name, variant="fp16")
    return root


def without_full(published: Path, target: Path) -> Path:
    """Copy a folder without its full files."""

    def full(_: str, names: list[str]) -> list[str]:
        return [name for name in names if name.endswith(".safetensors") and ".fp16." not in name]

    return Path(shutil.copytree(published, target, ignore=full))


ALL = {"sdxl": "text_encoder, text_encoder_2, unet, vae", "pixart": "text_encoder, transformer, vae"}


@pytest.mark.parametrize("family", [sdxl.FAMILY, pixart.FAMILY], ids=lambda family: family.key)
def test_folder_of_half_size_files_alone_makes_the_same_images(
    family: ModelFamily, published: Path, tmp_path: Path
) -> None:
    halves = without_full(published / family.key, tmp_path / "halves")
    loaded, whole = load(family, model=str(halves)), load(family, model=str(published / family.key))
    assert torch.equal(loaded.generate([REQUEST]), whole.generate([REQUEST]))
    assert (told(loaded), told(whole)) == ([ALL[family.key]], [])
    smaller = load(family, "bfloat16", model=str(halves))
    assert smaller.generate([REQUEST]).shape == (1, 3, 32, 32)
    assert told(smaller) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("halved", [("unet", "vae"), ("text_encoder",)])
def test_each_network_of_sdxl_is_read_from_the_files_that_it_has(
    tmp_path: Path, dtype: str, halved: tuple[str, ...]
) -> None:
    build_sdxl().save_pretrained(tmp_path)
    halve(tmp_path, *halved)
    loaded = load(sdxl.FAMILY, dtype, model=str(tmp_path))
    assert loaded.generate([REQUEST]).shape == (1, 3, 32, 32)
    assert told(loaded) == ([", ".join(halved)] if dtype == "float32" else [])


def test_transformer_and_base_of_pixart_may_each_be_half_size(tmp_path: Path) -> None:
    model, base = write_pixart_split(tmp_path)
    whole = load(pixart.FAMILY, model=str(model), base=str(base)).generate([REQUEST])
    halve(model, "transformer")
    halve(base, "text_encoder")
    loaded = load(pixart.FAMILY, model=str(model), base=str(base))
    assert torch.equal(loaded.generate([REQUEST]), whole)
    assert told(loaded) == ["text_encoder, transformer"]


def test_vae_that_is_named_may_be_half_size(published: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    for name in ("config.json", HALF):
        shutil.copy(published / "sdxl" / "vae" / name, tmp_path / "vae")
    loaded = load(sdxl.FAMILY, model=str(published / "sdxl"), vae=str(tmp_path / "vae"))
    assert told(loaded) == [f"vae of {tmp_path / 'vae'}"]


def test_pipelines_of_the_hub_tell_half_size_weights_too(published: Path, tmp_path: Path) -> None:
    halves = without_full(published / "sdxl", tmp_path / "halves")
    assert told(load(diffusers_hub.FAMILY, id=str(halves))) == [ALL["sdxl"]]
    assert told(load(diffusers_hub.FAMILY, id=str(published / "sdxl"))) == []
    named = load(diffusers_hub.FAMILY, id=str(published / "sdxl"), components=f'{{"vae": "{halves}"}}')
    assert told(named) == ["vae"]


class Hub:
    """A cache that holds a folder as org/name, and a hub that lists another one, or does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cached: Path, listed: Path, cache: Path) -> None:
        self.listed: Path | None = listed
        shutil.copytree(cached, cache / "models--org--name" / "snapshots" / COMMIT)
        (cache / "models--org--name" / "refs").mkdir()
        (cache / "models--org--name" / "refs" / "main").write_text(COMMIT)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(pipeline_sources, "is_offline", lambda: False)
        for module in (needed, pipeline_sources):
            monkeypatch.setattr(module, "list_files", self.list_files)

    def list_files(self, _repository: str, _revision: str = "") -> Mapping[str, int]:
        if self.listed is None:
            raise OSError("the hub cannot be reached")
        return {path.relative_to(self.listed).as_posix(): 1 for path in self.listed.rglob("*") if path.is_file()}


def test_vae_of_the_hub_may_be_half_size(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = published / "sdxl" / "vae"
    halves = without_full(full, tmp_path / "halves")
    hub = Hub(monkeypatch, halves, full, tmp_path / "cache")
    assert sdxl.FAMILY.needs is not None
    options = sdxl.Options(model=str(published / "sdxl"), vae="org/name", steps=1)
    assert not sdxl.FAMILY.needs(options, runtime())[0].here()
    hub.listed = halves
    assert sdxl.FAMILY.needs(options, runtime())[0].here()
    assert told(sdxl.FAMILY.load(options, runtime())) == ["vae of org/name"]


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (sdxl.FAMILY, {"model": "org/name"}),
        (pixart.FAMILY, {"model": "org/name", "base": "org/name"}),
        (diffusers_hub.FAMILY, {"id": "org/name"}),
    ],
    ids=lambda value: getattr(value, "key", ""),
)
def test_full_weights_are_asked_of_the_hub_where_the_cache_has_half_size_ones_alone(
    family: ModelFamily,
    options: dict[str, object],
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = published / ("pixart" if family is pixart.FAMILY else "sdxl")
    halves = without_full(full, tmp_path / "halves")
    hub = Hub(monkeypatch, halves, full, tmp_path / "cache")
    assert family.needs is not None
    assert not all(need.here() for need in family.needs(family.options(**options), runtime()))
    for listed in (halves, None):  # the hub has no full ones either, or does not answer
        hub.listed = listed
        assert all(need.here() for need in family.needs(family.options(**options), runtime()))
    loaded = family.load(family.options(**options, steps=1), runtime())
    assert told(loaded) == [ALL[full.name]]
    shutil.copytree(full, tmp_path / "cache" / "models--org--name" / "snapshots" / COMMIT, dirs_exist_ok=True)
    hub.listed = full
    assert all(need.here() for need in family.needs(family.options(**options), runtime()))
    assert told(family.load(family.options(**options, steps=1), runtime())) == []


def test_half_precision_run_of_sdxl_asks_no_hub_for_full_weights(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub(monkeypatch, without_full(published / "sdxl", tmp_path / "halves"), published / "sdxl", tmp_path / "cache")
    assert sdxl.FAMILY.needs is not None
    options = sdxl.Options(model="org/name", vae=str(published / "sdxl" / "vae"))
    (need,) = sdxl.FAMILY.needs(options, replace(runtime(), dtype="float16"))
    assert isinstance(need, FirstOf)
    assert need.here()
