"""VAR and Infinity at full size with random weights, as the measuring scripts run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.measure.clock import Clock
from models.base import DType, Mode, Runtime
from models.infinity_files import random_networks as random_infinity
from models.infinity_schedules import schedule_for
from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.cuda_graphs import ProgramPool
from models.networks.infinity_sampling import BitSampling
from models.networks.infinity_transformer import Infinity, InfinityShape, Text
from models.networks.operations import PLAIN, use_operations
from models.networks.var_transformer import VAR, Sampling, VARShape, var_shape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.next_scale_programs import InfinityProgram, VARProgram, make_pool
from models.random_weights import build_random
from models.var_files import random_networks as random_var

TEXT_TOKENS = 64
PUBLISHED = Sampling(cfg=1.5, top_k=900, top_p=0.96)


@dataclass
class Case:
    """Networks in one dtype and mode, and how to make and fill their programs."""

    networks: tuple[nn.Module, nn.Module]
    make: Callable[[int], Any]
    fill: Callable[[Any, int, int], None]
    pool: ProgramPool[Any]

    def run(self, batch: int, seed: int) -> Tensor:
        """Return the images of one call."""
        with torch.inference_mode():
            return self.pool(batch, lambda: self.make(batch), lambda program: self.fill(program, batch, seed))

    def program(self, batch: int, seed: int) -> Any:
        """Return a filled program of its own."""
        with torch.inference_mode():
            program = self.make(batch)
            self.fill(program, batch, seed)
            return program

    def close(self, clock: Clock) -> None:
        """Give all memory back."""
        for network in self.networks:
            use_operations(network, PLAIN)
        self.networks, self.pool = (nn.Identity(), nn.Identity()), ProgramPool(False)
        del self.make, self.fill
        clock.release_memory()


def runtime(device: str, dtype: DType, mode: Mode) -> Runtime:
    nowhere = Path()
    return Runtime("random", device, dtype, 256, nowhere, nowhere, mode=mode)


def open_case(name: str, device: str, dtype: DType, mode: Mode, tiny: bool = False) -> Case:
    """Return `var-d<depth>` or `infinity-<pixels>` ("infinity-1M"); `tiny` builds small networks, for a CPU."""
    if name.startswith("var-d"):
        depth = int(name.removeprefix("var-d"))
        var, vqvae = small_var(depth, device, dtype) if tiny else random_var(depth, device, dtype)
        pool: ProgramPool[Any] = make_pool(runtime(device, dtype, mode), (var, vqvae), vqvae.decoder)
        sampling = Sampling(1.5, 20, 0.96) if tiny else PUBLISHED

        def fill_var(program: VARProgram, batch: int, seed: int) -> None:
            classes = var.shape.classes
            program.fill([7 * (seed + i) % classes for i in range(batch)], [seed + i for i in range(batch)])

        return Case((var, vqvae), lambda batch: VARProgram(var, vqvae, sampling, batch), fill_var, pool)
    schedule = schedule_for(name.removeprefix("infinity-"), 1.0)  # type: ignore[arg-type]
    infinity, vae = small_infinity(device, dtype) if tiny else random_infinity(device, dtype)
    pool = make_pool(runtime(device, dtype, mode), (infinity, vae), vae.decoder)
    texts = {seed: text_rows(infinity, 1, seed, device) for seed in range(64)}

    def fill_infinity(program: InfinityProgram, batch: int, seed: int) -> None:
        rows = [texts[(seed + i) % len(texts)] for i in range(batch)]
        prompts = Text(torch.cat([row.features_RTt for row in rows]), torch.cat([row.mask_RT for row in rows]))
        program.fill(infinity.with_unconditional(prompts), [seed + i for i in range(batch)])

    rotation = infinity.rotation(schedule)

    def make(batch: int) -> InfinityProgram:
        return InfinityProgram(infinity, vae, schedule, rotation, BitSampling(), batch, TEXT_TOKENS)

    return Case((infinity, vae), make, fill_infinity, pool)


def text_rows(infinity: Infinity, batch: int, seed: int, device: str) -> Text:
    """Return random text features of `TEXT_TOKENS` tokens, the size of a T5 encoder's (about 0.2 a channel)."""
    generator = torch.Generator().manual_seed(seed)
    features_BTt = 0.2 * torch.randn(batch, TEXT_TOKENS, infinity.shape.text_width, generator=generator)
    return Text(features_BTt.to(device), torch.ones(batch, TEXT_TOKENS, dtype=torch.bool, device=device))


def small_var(depth: int, device: str, dtype: DType) -> tuple[VAR, VQVAE]:
    """Return a VAR with four scales and the variants of the published one of this depth."""
    shape = VARShape(2, 64, 2, (1, 2, 3, 4), 8, 64, shared_aln=var_shape(depth).shared_aln)
    vqvae = VQVAEShape(ConvolutionShape((32, 32), 1, 8), 64, shape.patch_nums)
    return (
        build_random(lambda: VAR(shape), device, torch.float32).cast(getattr(torch, dtype)),
        build_random(lambda: VQVAE(vqvae), device, torch.float32).cast(getattr(torch, dtype)),
    )


def small_infinity(device: str, dtype: DType) -> tuple[Infinity, BSQVAE]:
    shape = InfinityShape(2, 64, 2, 128, 32, TEXT_TOKENS, 1, 8)
    vae = ConvolutionShape((32, 32), 1, 8, attention=False, middle_attention=False)
    return (
        build_random(lambda: Infinity(shape), device, torch.float32).cast(getattr(torch, dtype)),
        build_random(lambda: BSQVAE(vae), device, torch.float32).cast(getattr(torch, dtype)),
    )
