"""The next-scale models as programs: from tensors at fixed places to images, run plainly or as CUDA graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from models.networks import infinity_sampling
from models.networks import var_transformer as var_network
from models.networks.cuda_graphs import ProgramPool, ProgramT, use_device
from models.networks.decoding import decode_images
from models.networks.noise import Noise
from models.networks.operations import use_operations
from models.stages import StageWatch, inside

if TYPE_CHECKING:
    from models.base import Runtime
    from models.networks.bsq_vae import BSQVAE
    from models.networks.infinity_sampling import BitSampling
    from models.networks.infinity_transformer import Infinity, Text
    from models.networks.next_scale import Schedule
    from models.networks.operations import Rotation
    from models.networks.var_transformer import VAR, Sampling
    from models.networks.vqvae import VQVAE

StepT = TypeVar("StepT")


def is_captured(runtime: Runtime) -> bool:
    """Return whether programs run as CUDA graphs of fused kernels: MODE=compiled on a GPU."""
    return runtime.mode == "compiled" and runtime.device.startswith("cuda")


def mode_notes(runtime: Runtime) -> tuple[str, ...]:
    """Return the footer's note where the mode that was asked for has no form of its own."""
    plain = runtime.mode == "compiled" and not is_captured(runtime)
    return ("ran as eager: there is no compiled form for a CPU",) if plain else ()


def make_pool(runtime: Runtime, networks: Sequence[nn.Module], decoder: nn.Module) -> ProgramPool[ProgramT]:
    """Set the networks up for the runtime's mode and return the pool that their programs go into."""
    if runtime.device.startswith("cuda"):
        decoder.to(memory_format=torch.channels_last)
    if not is_captured(runtime):
        return ProgramPool(False)
    from models.networks.fused import FUSED
    from models.networks.launching import compiling

    use_device(runtime.device)
    for network in networks:
        use_operations(network, FUSED)
    return ProgramPool(True, preparing=compiling)


class NextScaleProgram(ABC):
    """One batch to images, scale by scale, from tensors that the program owns."""

    @abstractmethod
    def latents(self, watch: StageWatch | None = None) -> Tensor:
        """Return what the decoder takes. watch: sees each scale as a call of the backbone."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Return `images_BCHW`, uint8 0..255."""

    def run(self, watch: StageWatch | None = None) -> Tensor:
        """Return `images_BCHW`, uint8 0..255. watch: sees each scale as a call of the backbone, and the decoder."""
        latents = self.latents(watch)
        with inside(watch, "decoder"):
            return self.decode(latents)


class VARProgram(NextScaleProgram):
    """One batch of classes to images.

    official: noise as the published code draws it, from the first seed for the whole batch.
    extremes_2B: after a run, each image's least and greatest value before it was clamped.
    """

    def __init__(self, var: VAR, vqvae: VQVAE, sampling: Sampling, batch: int, official: bool = False) -> None:
        device, scales = var.pos_start.device, var.shape.patch_nums
        self.var, self.vqvae, self.official = var, vqvae, official
        self.labels_B = torch.zeros(batch, dtype=torch.int64, device=device)
        self.extremes_2B = torch.zeros(2, batch, device=device)
        sets = 2 if sampling.more_smooth else 1
        self.noise = Noise(batch, [side * side for side in scales], var.shape.vocabulary, device, sets)
        self.choose = sampling.chooser(len(scales), self.noise, var.operations)
        self.constants = var.constants()
        self.quantizer = var.operations.decoding_of(vqvae.quantize)

    def fill(self, labels: Sequence[int], seeds: Sequence[int]) -> None:
        """Say what is to be drawn, for whom."""
        self.labels_B.copy_(torch.tensor(labels))
        fill_noise(self.noise, seeds, self.official)

    def steps(
        self, choose: Callable[[int, Tensor], var_network.Choice] | None = None
    ) -> Iterator[var_network.ScaleStep]:
        """Make the noise and run scale by scale; `choose` draws in the place of the program's own sampling."""
        if not self.official:
            self.noise.fill_by_request(self.var.operations.fill_uniform)
        yield from var_network.sample_scales(
            self.var, self.quantizer, self.labels_B, choose or self.choose, self.constants
        )

    def latents(self, watch: StageWatch | None = None) -> Tensor:
        """Return `f_hat_BCHW`."""
        return run_scales(self.steps(), len(self.var.shape.patch_nums), watch).f_hat_BCHW

    def decode(self, latents: Tensor) -> Tensor:
        """Return `images_BCHW`, uint8 0..255, of `f_hat_BCHW`."""
        downsampling = self.vqvae.shape.convolutions.downsampling
        return decode_images(self.vqvae.decode_latents, latents, downsampling, self.extremes_2B)


class InfinityProgram(NextScaleProgram):
    """One batch of encoded prompts, padded to `tokens`, to images.

    The prompts' rows come first, then, with guidance, the unconditional ones.
    extremes_2B: after a run, each image's least and greatest value before it was clamped.
    """

    def __init__(
        self,
        infinity: Infinity,
        vae: BSQVAE,
        schedule: Schedule,
        rotation: Rotation,
        sampling: BitSampling,
        batch: int,
        tokens: int,
        official: bool = False,
    ) -> None:
        from models.networks.infinity_transformer import Text

        device, shape = infinity.pos_start.device, infinity.shape
        self.infinity, self.vae, self.official = infinity, vae, official
        self.schedule, self.rotation = schedule, rotation
        self.rows_each = 2 if sampling.is_guided else 1
        rows = self.rows_each * batch
        self.text = Text(
            torch.zeros(rows, tokens, shape.text_width, device=device),
            torch.ones(rows, tokens, dtype=torch.bool, device=device),
        )
        self.extremes_2B = torch.zeros(2, batch, device=device)
        self.noise = Noise(batch, [count * shape.bits for count in schedule.counts], 2, device)
        self.choose = sampling.chooser(self.noise)
        self.constants = infinity.constants()
        self.mixing = [sampling.mixing(scale, shape.depth) for scale in range(len(schedule.grids))]

    def fill(self, text: Text, seeds: Sequence[int]) -> None:
        """Say what is to be drawn, for whom; `text` holds all rows: with guidance two for each image."""
        self.text.features_RTt.copy_(text.features_RTt)
        self.text.mask_RT.copy_(text.mask_RT)
        fill_noise(self.noise, seeds, self.official)

    def steps(self, choose: Callable[[int, Tensor], Tensor] | None = None) -> Iterator[infinity_sampling.ScaleStep]:
        """Make the noise and run scale by scale; `choose` draws in the place of the program's own sampling."""
        if not self.official:
            self.noise.fill_by_request(self.infinity.operations.fill_uniform)
        yield from infinity_sampling.sample_scales(
            self.infinity,
            self.schedule,
            self.rotation,
            self.text,
            choose or self.choose,
            self.mixing,
            self.constants,
            self.rows_each,
        )

    def latents(self, watch: StageWatch | None = None) -> Tensor:
        """Return `sum_BdHW`."""
        return run_scales(self.steps(), len(self.schedule.grids), watch).sum_BdHW

    def decode(self, latents: Tensor) -> Tensor:
        """Return `images_BCHW`, uint8 0..255, of `sum_BdHW`."""
        return decode_images(self.vae.decode_latents, latents, self.vae.shape.downsampling, self.extremes_2B)


def run_scales(steps: Iterator[StepT], scales: int, watch: StageWatch | None = None) -> StepT:
    """Return the step of the last of these scales, keeping none of the others: each holds a scale's logits.

    watch: sees each scale as a call of the backbone, the first one with all that comes before it.
    """
    assert scales > 0
    for _ in range(scales):
        with inside(watch, "backbone"):
            step = next(steps)
    return step


def fill_noise(noise: Noise, seeds: Sequence[int], official: bool) -> None:
    """Say whose noise a program draws: each request's own, or the batch's as the published code draws it."""
    if official:
        noise.fill_by_batch(seeds[0])
    else:
        noise.choose_requests(seeds)
