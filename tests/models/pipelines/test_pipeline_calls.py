"""What a pipeline's call is given of what a user asked: under its own names, or refused, or told to reach nothing."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from models.diffusers_hub import Options
from models.pipelines.calls import call_arguments, call_note, check_args, unreached
from models.pipelines.facts import FACTS, PipelineFacts


def arguments(name: str, taken: dict[str, Any], **asked: Any) -> dict[str, object]:
    parameters = {
        key: inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
        for key, default in {"prompt": None, "height": None, "width": None, **taken}.items()
    }
    return call_arguments(name, FACTS[name], parameters, Options(id="a/b", **asked), 64)


SIZE = {"height": 64, "width": 64}


def test_only_what_is_asked_and_what_the_call_takes_is_passed() -> None:
    taken = {"num_inference_steps": 50, "guidance_scale": 7.5}
    name = "StableDiffusionPipeline"
    assert arguments(name, taken) == SIZE
    assert arguments(name, taken, steps=5, guidance=0.0) == SIZE | {"num_inference_steps": 5, "guidance_scale": 0.0}


def test_guidance_goes_to_what_guides_and_brings_the_negative_prompt_that_it_needs() -> None:
    taken = {"true_cfg_scale": 4.0, "negative_prompt": None, "guidance_scale": None}
    name = "QwenImagePipeline"
    assert arguments(name, taken) == SIZE | {"negative_prompt": " "}
    assert arguments(name, taken, guidance=2.0) == SIZE | {"true_cfg_scale": 2.0, "negative_prompt": " "}
    assert arguments(name, taken, guidance=1.0) == SIZE | {"true_cfg_scale": 1.0}
    assert arguments(name, taken, negative_prompt="blur") == SIZE | {"negative_prompt": "blur"}
    assert arguments("QwenImage21Pipeline", taken) == SIZE  # published without guidance


def test_the_prior_takes_part_in_steps_and_guidance() -> None:
    taken = dict.fromkeys(("num_inference_steps", "prior_num_inference_steps", "guidance_scale"), 1)
    taken |= {"prior_guidance_scale": 4.0, "decoder_guidance_scale": 0.0}
    name = "KandinskyV22CombinedPipeline"
    made = arguments(name, taken, steps=3, guidance=2.0)
    assert made == SIZE | {
        "num_inference_steps": 3, "prior_num_inference_steps": 3, "guidance_scale": 2.0, "prior_guidance_scale": 2.0,
    }  # fmt: skip
    made = arguments("StableCascadeCombinedPipeline", taken, steps=3, guidance=2.0)
    assert made == SIZE | {"prior_num_inference_steps": 3, "prior_guidance_scale": 2.0}


def test_prompts_are_not_rewritten() -> None:
    assert arguments("ErnieImagePipeline", {"use_pe": True}) == SIZE | {"use_pe": False}
    assert arguments("LongCatImagePipeline", {"enable_prompt_rewrite": True}) == SIZE | {"enable_prompt_rewrite": False}
    assert arguments("IFPipeline", {"clean_caption": True}) == SIZE | {"clean_caption": False}


@pytest.mark.parametrize(("steps", "high"), [(48, 45), (16, 15), (2, 1), (1, 0), (96, 90)])
def test_ideograms_schedule_is_stretched_to_other_steps(steps: int, high: int) -> None:
    taken = {"guidance_scale": None, "guidance_schedule": (7.0,) * 45 + (3.0,) * 3, "num_inference_steps": 48}
    made = arguments("Ideogram4Pipeline", taken, steps=steps)
    assert made["guidance_schedule"] == [7.0] * high + [3.0] * (steps - high)
    made = arguments("Ideogram4Pipeline", taken, steps=steps, guidance=5.0)
    assert (made["guidance_scale"], made["guidance_schedule"]) == (5.0, None)


@pytest.mark.parametrize(("steps", "is_told"), [(0, False), (2, False), (1, True), (4, True)])
def test_sana_sprint_takes_other_steps_than_two(steps: int, is_told: bool) -> None:
    taken = {"num_inference_steps": 2, "intermediate_timesteps": 1.3}
    made = arguments("SanaSprintPipeline", taken, steps=steps)
    assert ("intermediate_timesteps" in made) == is_told
    assert made.get("intermediate_timesteps") is None


def test_args_reach_the_call_and_names_that_do_not_fit_are_refused() -> None:
    taken = {"max_sequence_length": 512, "guidance_scale": 3.5, "true_cfg_scale": 1.0, "negative_prompt": None}
    name = "FluxPipeline"
    assert arguments(name, taken, args='{"max_sequence_length": 64}') == SIZE | {"max_sequence_length": 64}
    with pytest.raises(ValueError, match="HUB_ARGS names max_tokens, which the call of FluxPipeline does not have"):
        arguments(name, taken, args='{"max_tokens": 64}')
    for own, words in {
        "guidance_scale": "use HUB_GUIDANCE",
        "num_inference_steps": "use HUB_STEPS",
        "height": "use IMAGE_SIZE",
        "generator": "use SEED",
        "output_type": "leave it out",
    }.items():
        with pytest.raises(ValueError, match=f"HUB_ARGS names {own}, which this program sets itself: {words}"):
            check_args(FACTS[name], f'{{"{own}": 1}}')
    with pytest.raises(ValueError, match="names use_pe, which this program sets"):
        check_args(FACTS["ErnieImagePipeline"], '{"use_pe": true}')


def test_flux_has_its_negative_prompt_with_its_second_guidance_alone() -> None:
    taken = {"guidance_scale": 3.5, "true_cfg_scale": 1.0, "negative_prompt": None}
    asked = {"negative_prompt": "blur", "args": '{"true_cfg_scale": 4}'}
    made = arguments("FluxPipeline", taken, **asked)
    assert made == SIZE | {"negative_prompt": "blur", "true_cfg_scale": 4}
    assert unreached(FACTS["FluxPipeline"], Options(id="a/b", **asked)) == {}
    missed = unreached(FACTS["FluxPipeline"], Options(id="a/b", negative_prompt="blur"))
    assert list(missed) == ["negative_prompt"]
    assert "true_cfg_scale" in missed["negative_prompt"]


def test_equal_objects_in_other_words_are_equal_options() -> None:
    texts = ('{"a": 1, "b": [2, 3]}', '{ "b":[2,3],"a" : 1}')
    first, second = (Options(id="a/b", args=text) for text in texts)
    assert first == second
    assert Options(id="a/b", args="{}") == Options(id="a/b")
    assert first != Options(id="a/b", args='{"a": 2, "b": [2, 3]}')


@pytest.mark.parametrize(
    ("name", "asked", "missed"),
    [
        ("Flux2KleinKVPipeline", {"guidance": 2.0, "steps": 2}, ["guidance"]),
        ("DreamLiteMobilePipeline", {"guidance": 2.0, "negative_prompt": "x"}, ["guidance", "negative_prompt"]),
        ("StableDiffusionPipeline", {"guidance": 1.0, "negative_prompt": "x"}, ["negative_prompt"]),
        ("StableDiffusionPipeline", {"guidance": 2.0, "negative_prompt": "x", "safety": True}, []),
        ("StableDiffusionPipeline", {"negative_prompt": "x", "scheduler": "ddim"}, []),
        ("ZImagePipeline", {"guidance": 0.5, "negative_prompt": "x"}, []),
        ("ZImagePipeline", {"guidance": 0.0, "negative_prompt": "x"}, ["negative_prompt"]),
        ("StableDiffusionXLPipeline", {"safety": True}, ["safety"]),
        ("AmusedPipeline", {"scheduler": "ddim"}, ["scheduler"]),
        ("QwenImage21Pipeline", {"negative_prompt": "x"}, ["negative_prompt"]),
        ("QwenImage21Pipeline", {"negative_prompt": "x", "guidance": 3.0}, []),
    ],
)
def test_what_reaches_nothing_is_named_by_class(name: str, asked: dict[str, Any], missed: list[str]) -> None:
    assert list(unreached(FACTS[name], Options(id="a/b", **asked))) == missed


class QwenImagePipeline:
    """A pipeline as far as the footer's line reads it."""

    scheduler = SimpleNamespace(config={})

    def __call__(
        self, prompt: str, negative_prompt: str = "", true_cfg_scale: float = 4.0, num_inference_steps: int = 50
    ) -> None: ...


def test_the_footer_says_what_was_asked_under_the_pipelines_own_names() -> None:
    told = call_note(SIZE | {"num_inference_steps": 8, "negative_prompt": " "}, QwenImagePipeline(), 64)
    assert told == ("asked for true_cfg_scale 4, num_inference_steps 8, 64 px, SimpleNamespace, no negative prompt")
    told = call_note(SIZE | {"negative_prompt": "blur", "max_sequence_length": 64}, QwenImagePipeline(), 64)
    assert told.endswith('negative prompt "blur", max_sequence_length 64')


def test_facts_without_guidance_have_no_scale_for_a_negative_prompt() -> None:
    assert PipelineFacts(guidance=()).scale_of_negative == ""


class FluxPipeline:
    """A pipeline whose checkpoint reads no guidance."""

    def __init__(self, **config: object) -> None:
        self.transformer = SimpleNamespace(config=config)

    def __call__(self, prompt: str, num_inference_steps: int = 28, guidance_scale: float = 3.5) -> None: ...


def test_a_scale_that_a_checkpoint_does_not_read_is_not_claimed() -> None:
    assert call_note({}, FluxPipeline(guidance_embeds=True), 64) == (
        "asked for num_inference_steps 28, guidance_scale 3.5, 64 px"
    )
    told = call_note({"guidance_scale": 2.0}, FluxPipeline(guidance_embeds=False), 64)
    assert told == "asked for num_inference_steps 28, no guidance, 64 px"


def test_lists_become_tuples_where_the_pipeline_takes_nothing_else() -> None:
    taken = {"original_size": None, "crops_coords_top_left": (0, 0), "timesteps": None}
    kinds = {"original_size": "tuple[int, int] | None", "timesteps": "list[int] | tuple[int, ...]"}
    parameters = {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds.get(name))
        for name, default in taken.items()
    }
    text = '{"original_size": [64, 64], "crops_coords_top_left": [1, 2], "timesteps": [3, 1]}'
    name = "StableDiffusionXLPipeline"
    made = call_arguments(name, FACTS[name], parameters, Options(id="a/b", args=text), 64)
    assert made == {"original_size": (64, 64), "crops_coords_top_left": (1, 2), "timesteps": [3, 1]}
