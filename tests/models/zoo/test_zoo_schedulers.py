"""Schedulers that are asked for by name, on the zoo: with many steps every solver comes to the pipeline's own image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from zoo_pipelines import ENTRIES

from models.pipelines.schedulers import LEAVE_LEVELS, set_scheduler

SOLVERS = {
    "FluxPipeline": ("euler", "dpm++2m", "unipc"),
    "SanaPipeline": ("euler", "unipc"),
    "PixArtSigmaPipeline": ("euler", "ddim", "heun", "dpm++2m-karras", "unipc"),
}
STEPS = 12


def image(pipeline: Any, name: str, steps: int, seed: int = 0) -> np.ndarray:
    entry = ENTRIES[name]
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        made = pipeline(
            prompt=["a pink robot"], generator=generator, output_type="np",
            **{**entry.call, "num_inference_steps": steps},
        )  # fmt: skip
    return np.asarray(made[0], dtype=np.float32)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_comes_to_the_same_image_with_many_steps(name: str) -> None:
    pipeline = ENTRIES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    own = image(pipeline, name, STEPS)
    apart = np.abs(image(pipeline, name, STEPS, seed=5) - own).mean()
    for scheduler in SOLVERS[name]:
        set_scheduler(pipeline, scheduler)
        assert np.abs(image(pipeline, name, STEPS) - own).mean() < 0.2 * apart, scheduler


@pytest.mark.parametrize("name", sorted(LEAVE_LEVELS - SOLVERS.keys()))
def test_a_solver_of_several_steps_runs_in_each_pipeline_that_it_is_offered_for(name: str) -> None:
    pipeline = ENTRIES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    before = image(pipeline, name, steps=2)
    set_scheduler(pipeline, "unipc")
    after = image(pipeline, name, steps=2)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)
