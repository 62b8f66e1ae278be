"""Schedulers by name: what a network was trained with stays, and what does not fit it is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models import pixart, sdxl
from models.pipelines.schedulers import SCHEDULER_HELP, SCHEDULERS, check_scheduler, describe_scheduler, set_scheduler


class Pipeline(SimpleNamespace):
    """What of a pipeline a scheduler needs."""

    def register_modules(self, **modules: Any) -> None:
        self.__dict__.update(modules)


class StableDiffusion3Pipeline(Pipeline):
    """A pipeline that leaves the noise levels to its scheduler, by its name."""


class LatentConsistencyModelPipeline(Pipeline):
    """A pipeline that hands its scheduler what that of latent consistency alone takes."""


def pipeline_with(kind: str, pipeline: type[Pipeline] = Pipeline, **config: Any) -> Pipeline:
    import diffusers

    return pipeline(scheduler=getattr(diffusers, kind)(**config))


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_keeps_the_noise_that_the_network_was_trained_with(kind: str, name: str) -> None:
    config = sdxl.SCHEDULER if kind == "EulerDiscreteScheduler" else {}
    pipeline = pipeline_with(kind, **config)
    betas = pipeline.scheduler.betas
    assert set_scheduler(pipeline, name).startswith(type(pipeline.scheduler).__name__)
    assert torch.equal(pipeline.scheduler.betas, betas)
    assert not pipeline.scheduler.config.get("clip_sample"), "latents are not within -1..1"
    pipeline.scheduler.set_timesteps(4)
    assert len(pipeline.scheduler.timesteps) == (7 if name.startswith("heun") else 4)


def test_trailing_timesteps_begin_at_the_last_one() -> None:
    pipeline = pipeline_with("EulerDiscreteScheduler", **sdxl.SCHEDULER)
    assert set_scheduler(pipeline, "euler") == "EulerDiscreteScheduler, leading timesteps"
    pipeline.scheduler.set_timesteps(4)
    assert pipeline.scheduler.timesteps.tolist() == [751, 501, 251, 1]
    assert set_scheduler(pipeline, "euler-trailing") == "EulerDiscreteScheduler, trailing timesteps"
    pipeline.scheduler.set_timesteps(4)
    assert pipeline.scheduler.timesteps.tolist() == [999, 749, 499, 249]


def test_names_say_which_noise_levels_and_whether_noise_is_added() -> None:
    pipeline = pipeline_with("DPMSolverMultistepScheduler", **pixart.SCHEDULER)
    said = {name: set_scheduler(pipeline, name) for name in ("dpm++2m", "dpm++2m-karras", "dpm++2m-sde", "dpm++2m")}
    assert said["dpm++2m-karras"] == "DPMSolverMultistepScheduler, Karras' noise levels"
    assert said["dpm++2m-sde"] == "DPMSolverMultistepScheduler, sde-dpmsolver++, linspace timesteps"
    assert said["dpm++2m"] == "DPMSolverMultistepScheduler, linspace timesteps", "nothing of the last one stays"


def test_nothing_is_said_of_settings_that_only_the_old_class_reads(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = pipeline_with("FlowMatchEulerDiscreteScheduler", StableDiffusion3Pipeline, max_shift=1.5)
    set_scheduler(pipeline, "dpm++2m")
    assert pipeline.scheduler.config.max_shift == 1.5, "pipelines read it there"
    assert capfd.readouterr().err == ""


def test_no_name_leaves_the_own_scheduler() -> None:
    pipeline = pipeline_with("EulerDiscreteScheduler", **sdxl.SCHEDULER)
    own = pipeline.scheduler
    assert set_scheduler(pipeline, "") == describe_scheduler(own) == "EulerDiscreteScheduler, leading timesteps"
    assert pipeline.scheduler is own


@pytest.mark.parametrize("name", ["euler", "lcm", "dpm++2m", "unipc"])
@pytest.mark.parametrize("own", ["FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_flow_matching_keeps_its_shift(own: str, name: str) -> None:
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    pipeline = pipeline_with(own, StableDiffusion3Pipeline, **({"shift": 3.0} if own.startswith("Flow") else flow))
    set_scheduler(pipeline, name)
    pipeline.scheduler.set_timesteps(4)
    middle = float(pipeline.scheduler.sigmas[2])
    assert 0.5 < middle < 0.8, "half the way is far above half the noise"
    assert float(pipeline.scheduler.sigmas[-1]) == 0


@pytest.mark.parametrize(
    ("own", "config", "name", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, "ddim", "as that of this Pipeline is .*choose one of euler, lcm, or"),
        ("FlowMatchEulerDiscreteScheduler", {}, "euler-trailing", "trained by flow matching"),
        ("FlowMatchEulerDiscreteScheduler", {}, "dpm++2m", "choose one of euler, lcm, or leave"),
        ("DDIMParallelScheduler", {}, "ddim", "is the only one for it"),
        ("SCMScheduler", {}, "euler", "SCMScheduler, is the only one for it"),
        ("AmusedScheduler", {"mask_token_id": 1}, "euler", "is the only one for it"),
        ("DDPMScheduler", {"variance_type": "learned_range"}, "euler", "predict the noise's variance"),
        ("DDPMScheduler", {"thresholding": True}, "euler", "thresholding=True"),
        ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}, "heun", "rescale_betas_zero_snr=True"),
    ],
)
def test_a_scheduler_for_another_kind_of_network_is_refused(
    own: str, config: dict[str, Any], name: str, words: str
) -> None:
    pipeline = pipeline_with(own, **config)
    with pytest.raises(ValueError, match=words.replace("+", r"\+")) as caught:
        set_scheduler(pipeline, name)
    assert "\n" not in str(caught.value)
    assert type(pipeline.scheduler).__name__ == own


def test_a_pipeline_that_its_own_call_ties_to_a_scheduler_is_told_apart() -> None:
    pipeline = pipeline_with("LCMScheduler", LatentConsistencyModelPipeline)
    assert set_scheduler(pipeline, "lcm") == "LCMScheduler, leading timesteps"
    with pytest.raises(ValueError, match="LatentConsistencyModelPipeline cannot run with euler-trailing"):
        set_scheduler(pipeline, "euler-trailing")
    inverted = pipeline_with("FlowMatchEulerDiscreteScheduler", StableDiffusion3Pipeline, invert_sigmas=True)
    with pytest.raises(ValueError, match=r"dpm\+\+2m cannot follow this model's scheduler, .* with invert_sigmas=True"):
        set_scheduler(inverted, "dpm++2m")


def test_a_network_that_predicts_variances_keeps_a_scheduler_that_reads_them() -> None:
    pipeline = pipeline_with("DDPMScheduler", variance_type="learned_range")
    set_scheduler(pipeline, "dpm++2m")
    assert pipeline.scheduler.config.variance_type == "learned_range"


def test_a_pipeline_without_scheduler_is_refused() -> None:
    with pytest.raises(ValueError, match="no scheduler that could be another"):
        set_scheduler(Pipeline(), "euler")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eular", "no such scheduler: is euler meant"), ("lcm-trailing", "no such scheduler"),
        (" ", "no such scheduler$"),
        ("euler-karras-trailing", "no such scheduler"), ("EulerDiscreteScheduler", "no such scheduler"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest_and_the_settings_help(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_scheduler(name)
    assert all(known in SCHEDULER_HELP for known in SCHEDULERS if not known.endswith("-trailing"))
