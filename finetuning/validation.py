"""Validation images: the same prompts and seeds at every look, beside what the base makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from files.opening import from_pretrained
from finetuning.encodings import Captions
from models.pipelines.generator import quiet_libraries


class Validation:
    """Draws prompts with the network under training. The prompts come encoded: the empty one first, then they.

    The VAE stays on the CPU between two looks.
    """

    def __init__(
        self,
        base: Path,
        prompts: Sequence[str],
        captions: Captions,
        side: int,
        steps: int,
        guidance: float,
        device: str,
    ) -> None:
        self._base, self._side, self._steps, self._guidance = base, side, steps, guidance
        self._prompts, self._captions, self._device = prompts, captions, device
        self._pipeline: Any = None

    @torch.inference_mode()
    def draw(self, transformer: Any, path: Path, seed: int) -> None:
        """Write one row of images, one for each prompt, as PNG; the network is left in the mode it was in."""
        pipeline = self._load(transformer)
        dtype = transformer.dtype
        captions = self._captions.to(self._device)
        count, length = len(self._prompts), captions.longest
        numbers_B = torch.arange(1, count + 1, device=self._device)
        texts_BLC, mask_BL = captions.padded(numbers_B, length)
        empty_BLC, empty_mask_BL = captions.padded(torch.zeros_like(numbers_B), length)
        was_training = transformer.training
        transformer.eval()
        pipeline.vae.to(self._device)
        with torch.autocast(self._device.partition(":")[0], dtype, enabled=dtype != torch.float32):
            images = pipeline(
                prompt=None, negative_prompt=None,
                prompt_embeds=texts_BLC.to(dtype), prompt_attention_mask=mask_BL,
                negative_prompt_embeds=empty_BLC.to(dtype), negative_prompt_attention_mask=empty_mask_BL,
                num_inference_steps=self._steps, guidance_scale=self._guidance, height=self._side, width=self._side,
                generator=[torch.Generator().manual_seed(seed + number) for number in range(count)],
                use_resolution_binning=False,
            ).images  # fmt: skip
        pipeline.vae.to("cpu")
        transformer.train(was_training)
        sheet = Image.new("RGB", (count * self._side, self._side))
        for number, image in enumerate(images):
            sheet.paste(image, (number * self._side, 0))
        sheet.save(path, format="PNG")

    def _load(self, transformer: Any) -> Any:
        from diffusers import AutoencoderKL, PixArtSigmaPipeline

        if self._pipeline is None:
            with quiet_libraries():
                vae = from_pretrained(AutoencoderKL, self._base / "vae", dtype=transformer.dtype)
                self._pipeline = from_pretrained(
                    PixArtSigmaPipeline, self._base, transformer=transformer, vae=vae, text_encoder=None, tokenizer=None
                )
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline
