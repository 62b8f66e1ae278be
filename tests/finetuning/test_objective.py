"""Noise, targets and weights against their formulas."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from finetuning.objective import Noising, weighted_loss


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noised_latents_and_targets_are_the_schedulers_own(prediction: str) -> None:
    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", prediction_type=prediction)
    latents = torch.randn(5, 4, 3, 3)
    noised, timesteps, target = Noising(scheduler, "cpu").draw(latents, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    torch.testing.assert_close(noised, scheduler.add_noise(latents, noise, timesteps))
    wanted = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(target, wanted)


def test_the_steps_of_a_batch_are_spread_over_all() -> None:
    scheduler = DDPMScheduler()
    _, timesteps, _ = Noising(scheduler, "cpu").draw(torch.zeros(10, 1, 1, 1), torch.Generator().manual_seed(0))
    assert [int(t) // 100 for t in timesteps] == list(range(10))


def test_min_snr_weights_follow_the_paper() -> None:
    scheduler = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    timesteps = torch.tensor([0, 100, 500, 999])
    kept = scheduler.alphas_cumprod[timesteps]
    ratio = kept / (1 - kept)
    noising = Noising(scheduler, "cpu")
    torch.testing.assert_close(
        noising.weights(timesteps, "min-snr", 5.0), torch.minimum(ratio, torch.tensor(5.0)) / ratio, rtol=1e-4, atol=0
    )
    assert noising.weights(timesteps, "uniform", 5.0).tolist() == [1, 1, 1, 1]


def test_the_learnt_variance_is_left_out_and_weights_count() -> None:
    target = torch.zeros(2, 4, 2, 2)
    predicted = torch.cat([torch.ones(2, 4, 2, 2), torch.full((2, 4, 2, 2), 9.0)], dim=1)
    assert float(weighted_loss(predicted, target, torch.tensor([1.0, 3.0]))) == pytest.approx(2.0)
    assert float(weighted_loss(predicted[:, :4], target, torch.ones(2))) == pytest.approx(1.0)
