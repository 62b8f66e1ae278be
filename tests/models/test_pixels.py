"""One checked conversion to uint8: a pipeline's images are those that it means, and what is no image is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers_folders
import numpy as np
import pytest
import torch
from PIL import Image

from models import diffusers_hub
from models.base import Request, Runtime
from models.networks.decoding import decode_images
from models.pipelines.generator import DiffusersGenerator
from models.pixels import check_decoded, check_rgb, images_of, keeps_range, pil_to_uint8, to_uint8

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]
BUILDERS = {
    "kandinsky": (diffusers_folders.build_kandinsky, "pil"),
    "deepfloyd": (diffusers_folders.build_deepfloyd, "pil"),
    "stable diffusion": (diffusers_folders.build_stable_diffusion, "pt"),
    "sdxl": (diffusers_folders.build_sdxl, "pt"),
    "pixart": (diffusers_folders.build_pixart, "pt"),
}


def load(folder: Path, build: Callable[[], Any]) -> Any:
    build().save_pretrained(folder / "made")
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    return diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder / "made"), steps=2), runtime)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_images_equal_the_pipelines_own_pil_images_byte_for_byte(tmp_path: Path, kind: str) -> None:
    build, output_type = BUILDERS[kind]
    loaded = load(tmp_path, build)
    assert loaded.output_type == output_type
    images_BCHW = loaded.generate(REQUESTS)
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS]
    prompts = [request.prompt for request in REQUESTS]
    own = loaded.pipeline(prompt=prompts, generator=generators, output_type="pil", **loaded.arguments).images
    assert len(own) == 2
    for image_CHW, image in zip(images_BCHW, own, strict=True):
        assert np.array_equal(image_CHW.permute(1, 2, 0).numpy(), np.asarray(image))
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.float().std() > 1


@pytest.mark.parametrize(
    ("name", "keeps"),
    [
        *((name, False) for name in (
            "KandinskyCombinedPipeline", "KandinskyV22CombinedPipeline", "Kandinsky3Pipeline", "IFPipeline",
            "StableCascadeCombinedPipeline", "WuerstchenCombinedPipeline", "LTXPipeline", "AnimateDiffPipeline",
        )),
        *((name, True) for name in (
            "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline",
            "FluxPipeline", "SanaPipeline", "AuraFlowPipeline", "LuminaPipeline", "HunyuanDiTPipeline",
        )),
    ],
)  # fmt: skip
def test_tensors_are_asked_for_where_diffusers_own_processor_makes_them(name: str, keeps: bool) -> None:
    """Whatever processor a pipeline holds, it has to be what makes the images."""
    import diffusers
    from diffusers.image_processor import VaeImageProcessor

    pipeline = object.__new__(getattr(diffusers, name))
    vars(pipeline)["image_processor"] = VaeImageProcessor()
    assert keeps_range(pipeline) is keeps
    vars(pipeline)["image_processor"] = object()  # of transformers, say
    assert not keeps_range(pipeline)


@pytest.mark.parametrize("kind", ["kandinsky", "deepfloyd"])
def test_tensors_of_another_range_are_refused_and_not_wrapped(tmp_path: Path, kind: str) -> None:
    """What was scored before: these pipelines' tensors, taken for 0..1."""
    loaded = load(tmp_path, BUILDERS[kind][0])
    loaded.output_type = "pt"
    with pytest.raises(ValueError, match=r"made made pixels of -.*expected 0\.\.1") as caught:
        loaded.generate(REQUESTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["kandinsky", "deepfloyd", "sdxl"])
def test_a_pipeline_that_makes_nan_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    loaded = load(tmp_path, BUILDERS[kind][0])
    part = {"kandinsky": "movq", "deepfloyd": "unet", "sdxl": "vae"}[kind]
    with torch.no_grad():
        for weights in list(getattr(loaded.pipeline, part).parameters())[-1:]:
            weights.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"made made pixels that are no numbers .*DTYPE=float32") as caught:
        loaded.generate(REQUESTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.01, r"pixels of 0\.5\.\.1\.01; expected 0\.\.1"),
        (-0.01, r"pixels of -0\.01\.\.0\.5; expected 0\.\.1"),
        (float("inf"), "pixels of 0.5..inf"),
        (float("-inf"), "pixels of -inf..0.5"),
        (float("nan"), "first in image 1 of its batch; set DTYPE=float32"),
        (255.0, "pixels of 0.5..255"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_is_no_pixel_is_refused_by_name(value: float, words: str, dtype: torch.dtype) -> None:
    images_BCHW = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float32)
    images_BCHW[1, 2, 3, 1] = value
    with pytest.raises(ValueError, match=words if dtype == torch.float32 else "pixels") as caught:
        to_uint8(images_BCHW.to(dtype), "Some model")
    assert str(caught.value).startswith("Some model made pixels")


def test_rounding_errors_beyond_the_range_are_no_fault_and_every_level_is_kept() -> None:
    levels = torch.arange(256) / 255
    assert to_uint8(levels.view(1, 1, 1, -1), "x").flatten().tolist() == list(range(256))
    edges = torch.tensor([-0.0019, 1.0019]).view(1, 1, 1, 2)
    assert to_uint8(edges, "x").flatten().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (None, "returned nothing"),
        ([], "returned a list"),
        ([np.zeros((2, 2, 3))], "returned a list of ndarray"),
        ([Image.new("RGB", (2, 2)), Image.new("RGB", (2, 3))], "several sizes"),
    ],
)
def test_what_is_no_list_of_images_is_refused(images: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pil_to_uint8(images, "A video pipeline")


def test_grey_images_become_rgb() -> None:
    assert pil_to_uint8([Image.new("L", (2, 1), 7)], "x").tolist() == [[[[7, 7]]] * 3]


def test_a_pipeline_without_images_is_refused() -> None:
    class Video:
        unet = torch.nn.Linear(1, 1)

        def set_progress_bar_config(self, disable: bool) -> None: ...

        def __call__(self, **_: object) -> Any:
            return SimpleNamespace(frames=[])

    with pytest.raises(ValueError, match="Video returned nothing"):
        DiffusersGenerator("Video", Video(), 32, {}).generate(REQUESTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_decoders_broken_image_is_found_wherever_it_is_in_the_batch(value: float) -> None:
    latents_BCHW = torch.linspace(-1, 1, 2 * 3 * 4).view(1, 3, 2, 4).repeat(70, 1, 1, 1)
    latents_BCHW[66, 1, 1, 2] = value
    extremes_2B = torch.zeros(2, 70)
    # 1024 times as large an image: three at once do not fit, so that the batch is decoded in parts.
    images_BCHW = decode_images(lambda part: part, latents_BCHW, 1024, extremes_2B)
    assert images_BCHW.shape == latents_BCHW.shape
    assert extremes_2B[:, 0].tolist() == [-1, 1]
    with pytest.raises(ValueError, match=r"A model made pixels that are no numbers .* first in image 66"):
        check_decoded(extremes_2B, "A model")
    check_decoded(extremes_2B[:, :66], "A model")


@pytest.mark.parametrize("family", ["var", "infinity"])
def test_nan_in_a_next_scale_model_is_refused_and_the_next_batch_is_judged_anew(family: str, tmp_path: Path) -> None:
    from models import infinity, var

    assets = Path(__file__).parents[2] / "assets"
    runtime = Runtime("tiny", "cpu", "float32", 64, assets=assets, cache=tmp_path)
    if family == "var":
        loaded: Any = var.load(var.VAROptions(classes="1,2"), runtime)
        bias = loaded.vqvae.decoder.conv_out.bias
    else:
        loaded = infinity.load(infinity.InfinityOptions(), runtime)
        bias = [value for key, value in loaded.vae.decoder.named_parameters() if key.startswith("conv_out")][-1]
    requests = [dataclasses.replace(request, class_label=1) for request in loaded.prepare(REQUESTS)]
    before = loaded.generate(requests)
    loaded.check()
    kept = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(float("nan"))
    loaded.generate(requests)
    with pytest.raises(ValueError, match=r"made pixels that are no numbers .*DTYPE=float32"):
        loaded.check()
    with torch.no_grad():
        bias.copy_(kept)
    assert torch.equal(loaded.generate(requests), before)
    loaded.check()


def test_a_tensor_with_other_channels_than_three_is_refused_by_name() -> None:
    check_rgb(torch.zeros(2, 3, 4, 4), "x")
    for shape in ((2, 4, 8, 8), (3, 8, 8), (2, 1, 8, 8)):
        with pytest.raises(ValueError, match=r"RGBA model returned a tensor of shape .*; expected \(images, 3, "):
            check_rgb(torch.zeros(shape), "RGBA model")


def test_the_images_of_an_output_are_found_by_name_and_else_are_its_first_field() -> None:
    image = Image.new("RGB", (2, 2))
    assert images_of(SimpleNamespace(images=[image], text=["x"])) == [image]
    assert images_of(SimpleNamespace(image=[image])) == [image]
    assert images_of({"made": [image], "other": 1}) == [image]
    assert images_of(([image], None)) == [image]
    assert images_of(SimpleNamespace(frames=[])) is None
