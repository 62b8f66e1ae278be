"""Safety checkers, watermarks and cut prompts of pipelines: off or counted, and told in the footer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers_folders import build_sdxl
from PIL import Image
from zoo_pipelines import save_pipeline

from models.base import ImageGenerator, Request, Runtime
from models.diffusers_hub import FAMILY, Options
from models.pipelines.generator import DiffusersGenerator
from models.pipelines.side_parts import turn_off_side_parts, unreached_here
from models.pipelines.table import PipelineFacts

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]
CALL = {"num_inference_steps": 1, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a pipeline with a safety checker that finds every image unsafe."""
    return save_pipeline("StableDiffusionPipeline", tmp_path_factory.mktemp("unsafe") / "unsafe")


def load(folder: Path, **options: object) -> ImageGenerator:
    runtime = Runtime("pretrained", "cpu", "float32", 32, folder / "assets", folder / "cache")
    return FAMILY.load(Options(id=str(folder), steps=1, **options), runtime)  # type: ignore[arg-type]


def test_the_safety_checker_is_off_and_told(unsafe: Path) -> None:
    loaded = load(unsafe)
    assert loaded.generate(REQUESTS).float().std() > 1
    assert "its safety checker is off, which would make images black; HUB_SAFETY=1 keeps it" in loaded.notes


def test_a_safety_checker_that_stays_has_its_black_images_counted_once_each(unsafe: Path) -> None:
    loaded = load(unsafe, safety=True)
    assert loaded.generate(REQUESTS[:1]).max() == 0
    assert "its safety checker is on: it made 1 of 1 images black" in loaded.notes
    loaded.generate(REQUESTS)
    assert "its safety checker is on: it made 2 of 2 images black" in loaded.notes
    assert sum("safety" in note for note in loaded.notes) == 1


def test_the_watermark_is_off_and_told() -> None:
    pipeline = build_sdxl()
    assert turn_off_side_parts(pipeline, {}, keeps_safety=False) == ()
    pipeline.watermark = object()
    assert turn_off_side_parts(pipeline, {}, keeps_safety=True) == ("its watermark is off",)
    assert pipeline.watermark is None


def test_prompts_that_a_text_encoder_cuts_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = build_sdxl()
    pipeline.register_modules(tokenizer_2=build_sdxl().tokenizer)
    pipeline.tokenizer_2.model_max_length = 40
    generator = DiffusersGenerator("x", pipeline, 32, CALL)
    long = [Request(0, "robot " * 30, 0), Request(1, "robot " * 9, 1), Request(2, "cat", 2)]
    assert generator.prepare(long) == long
    assert generator.notes[-2:] == (
        "1 of 3 prompts was cut at 77 tokens by text_encoder",
        "2 of 3 prompts were cut at 40 tokens by text_encoder_2",
    )
    pipeline.tokenizer_2.model_max_length = 77
    generator.generate(long[:2])
    assert "truncated" not in caplog.text
    assert len(generator.notes) == 3


def test_prompts_that_fit_are_not_told_of() -> None:
    generator = DiffusersGenerator("x", build_sdxl(), 32, CALL)
    before = generator.notes
    generator.prepare(REQUESTS)
    assert generator.notes == before


def test_a_negative_prompt_goes_to_every_request_of_a_batch() -> None:
    pipeline = build_sdxl()
    plain = DiffusersGenerator("x", pipeline, 32, CALL).generate(REQUESTS)
    guided = DiffusersGenerator("x", pipeline, 32, CALL | {"negative_prompt": "blue cat"})
    images_BCHW = guided.generate(REQUESTS)
    assert (images_BCHW != plain).any()
    alone = torch.cat([guided.generate([request]) for request in REQUESTS])
    assert (images_BCHW.int() - alone.int()).abs().max() <= 1


def test_a_size_that_the_pipeline_chooses_is_taken_over_and_told() -> None:
    generator = DiffusersGenerator("x", build_sdxl(), 40, CALL, ("made 40 px images; trained at 32 px",))
    generator.generate(REQUESTS[:1])
    assert generator.image_size == 32
    assert generator.notes[-1] == "makes 32 px images where 40 px are asked for: the pipeline chooses its sizes"
    assert not any(note.startswith("made 40 px") for note in generator.notes)


def test_another_number_of_images_than_of_prompts_is_refused() -> None:
    class Twice:
        unet = torch.nn.Linear(1, 1)

        def set_progress_bar_config(self, disable: bool) -> None: ...

        def __call__(self, **_: object) -> SimpleNamespace:
            return SimpleNamespace(images=[Image.new("RGB", (32, 32))] * 2)

    generator = DiffusersGenerator("x", Twice(), 32, {})
    with pytest.raises(ValueError, match="x made 2 images of 1 prompts; expected one each"):
        generator.generate(REQUESTS[:1])


def part(**config: object) -> SimpleNamespace:
    return SimpleNamespace(config=config)


@pytest.mark.parametrize(
    ("pipeline", "asked", "missed"),
    [
        (part(is_distilled=True), {"guidance": 2.0}, ["guidance"]),
        (SimpleNamespace(transformer=part(guidance_embeds=False)), {"guidance": 2.0}, ["guidance"]),
        (SimpleNamespace(transformer=part(guidance_embeds=True)), {"guidance": 2.0}, []),
        (SimpleNamespace(unet=part(time_cond_proj_dim=4)), {"negative_prompt": "x"}, ["negative_prompt"]),
        (SimpleNamespace(safety_checker=None), {"safety": True}, ["safety"]),
    ],
)
def test_what_reaches_nothing_in_a_checkpoint_is_named(
    pipeline: SimpleNamespace, asked: dict[str, object], missed: list[str]
) -> None:
    options = Options(id="a/b", **asked)  # type: ignore[arg-type]
    assert list(unreached_here(pipeline, PipelineFacts(distilled=True, safety=True), options)) == missed
