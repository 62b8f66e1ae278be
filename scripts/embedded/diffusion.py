"""What the trainings of the embedded SDXL and PixArt share: latents, noising, saving, and a look at the outcome."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metrics.extractors.attribute_network import load_attribute_network
from scripts.embedded.judging import Judgement, judge
from scripts.embedded.sprites import RobotSprites

CONDITION_DROPOUT = 0.1
LATENT_SIDE = 16


def pool_size(device: str, tiny: bool) -> int:
    """Return how many latents to keep: many on a GPU, few where encoding them would take the whole time."""
    if tiny:
        return 64
    return 65_536 if device.startswith("cuda") else 1_024


class LatentPool:
    """Latents of training robots in a ring on the device, a part of it drawn anew at every step.

    Encoding is dearer than the training step of so small a network: each latent is used some four times, each time
    with other noise, before it is overwritten.
    """

    def __init__(self, sprites: RobotSprites, vae: Any, batch: int, size: int) -> None:
        self._sprites, self._vae, self._batch, self._size = sprites, vae, batch, size
        self._fresh = max(1, batch // 4)
        device = sprites.device
        self._latents = torch.empty(size, 4, LATENT_SIDE, LATENT_SIDE, device=device)
        self._attributes = torch.empty(size, 7, dtype=torch.int64, device=device)
        self._cursor = torch.zeros((), dtype=torch.int64, device=device)
        self._offsets = torch.arange(self._fresh, device=device)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            for _ in range(-(-size // self._fresh)):
                self._refresh()

    @torch.no_grad()
    def _refresh(self) -> None:
        images_BCHW, attributes_BA = self._sprites.draw(None, self._fresh)
        latents = self._vae.encode(images_BCHW).latent_dist.mode().float() * self._vae.config.scaling_factor
        places = (self._cursor + self._offsets) % self._size
        self._latents.index_copy_(0, places, latents)
        self._attributes.index_copy_(0, places, attributes_BA)
        self._cursor.add_(self._fresh).remainder_(self._size)

    @torch.no_grad()
    def draw(self) -> tuple[Tensor, Tensor]:
        """Return scaled `latents_BCHW` and `attributes_BA` of a batch, after drawing some robots anew."""
        self._refresh()
        chosen = torch.randint(self._size, (self._batch,), device=self._sprites.device)
        return self._latents[chosen], self._attributes[chosen]


def kept_conditions(batch: int, device: str) -> Tensor:
    """Return `kept_B`, bool: whether each request keeps its caption in this step."""
    return torch.rand(batch, device=device) >= CONDITION_DROPOUT


def halve(network: Any) -> Any:
    """Return a float16 copy of a network, without disturbing it (a moved copy would be shared by both pipelines)."""
    import copy

    return copy.deepcopy(network).half().to(memory_format=torch.contiguous_format)


def save_pipeline(pipeline: Any, folder: Path, assets: Path) -> None:
    """Write the pipeline in diffusers' layout without its VAE, which lies in a folder of its own.

    model_index.json goes on naming the VAE: `from_pretrained(folder, vae=...)` asks for it. The tokenizers are the
    shipped files byte for byte: a used tokenizer would also write how it last padded.
    """
    source = assets / folder.name if (assets / folder.name).is_dir() else folder
    shipped = {path.relative_to(source): path.read_bytes() for path in source.glob("tokenizer*/*")}
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "vae")
    for path, content in shipped.items():
        (folder / path).write_bytes(content)


@torch.inference_mode()
def judge_pipeline(pipeline: Any, sprites: RobotSprites, assets: Path, count: int, **arguments: Any) -> Judgement:
    """Generate `count` captions with held-out pairs, 10 steps, guidance 1.5, and judge the images."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(sprites.device).manual_seed(7)
    attributes_BA = sprites.random_attributes(generator, count, "held_out")
    images: list[Tensor] = []
    captions: Sequence[str] = sprites.captions(attributes_BA)
    for start in range(0, count, 128):
        made = pipeline(
            prompt=captions[start : start + 128],
            num_inference_steps=10,
            guidance_scale=1.5,
            height=64,
            width=64,
            output_type="pt",
            generator=torch.Generator("cpu").manual_seed(start),
            **arguments,
        )
        images.append(made.images.float() * 2 - 1)
    network = load_attribute_network(assets, sprites.device)
    return judge(torch.cat(images), sprites.compose(attributes_BA), attributes_BA, network)
