"""What the network learns: noise added by the scheduler's forward process, told again, and how each step counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finetuning.settings import LossWeighting


class Noising:
    """The forward process of a scheduler: x_t = a_t x_0 + s_t noise, and what the network is to predict."""

    def __init__(self, scheduler: Any, device: str | torch.device) -> None:
        kept_T = scheduler.alphas_cumprod.double()
        self._signal_T = kept_T.sqrt().float().to(device)
        self._noise_T = (1 - kept_T).sqrt().float().to(device)
        self._predicts_v = scheduler.config.prediction_type == "v_prediction"

    def draw(self, latents_BCHW: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return noised latents, `timesteps_B`, and the target; the steps of a batch are spread evenly at random."""
        batch = len(latents_BCHW)
        device = latents_BCHW.device
        uniform_B = torch.rand(batch, device=device, generator=generator)
        even_B = (torch.arange(batch, device=device) + uniform_B) / batch
        timesteps_B = (even_B * len(self._signal_T)).long().clamp(max=len(self._signal_T) - 1)
        noise = torch.randn(latents_BCHW.shape, device=device, dtype=latents_BCHW.dtype, generator=generator)
        signal, scale = self._signal_T[timesteps_B, None, None, None], self._noise_T[timesteps_B, None, None, None]
        noised = signal * latents_BCHW + scale * noise
        target = signal * noise - scale * latents_BCHW if self._predicts_v else noise
        return noised, timesteps_B, target

    def weights(self, timesteps_B: Tensor, weighting: LossWeighting, gamma: float) -> Tensor:
        """Return `weights_B` of the squared errors: all 1, or those of min-SNR.

        Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy": min(SNR, gamma) / SNR
        where the noise is predicted, min(SNR, gamma) / (SNR + 1) where v is.
        """
        if weighting == "uniform":
            return torch.ones_like(timesteps_B, dtype=torch.float32)
        ratio_B = (self._signal_T[timesteps_B] / self._noise_T[timesteps_B]).square()
        weights_B: Tensor = ratio_B.clamp(max=gamma) / (ratio_B + 1 if self._predicts_v else ratio_B.clamp(min=1e-8))
        return weights_B


def weighted_loss(predicted_BCHW: Tensor, target_BCHW: Tensor, weights_B: Tensor) -> Tensor:
    """Return the weighted mean squared error of the network's answer.

    Its second half, where there is one, is the learnt variance, which the published sampler leaves out.
    """
    if predicted_BCHW.shape[1] == 2 * target_BCHW.shape[1]:
        predicted_BCHW = predicted_BCHW.chunk(2, dim=1)[0]
    errors_B = (predicted_BCHW.float() - target_BCHW).square().mean(dim=(1, 2, 3))
    return (weights_B * errors_B).mean()
