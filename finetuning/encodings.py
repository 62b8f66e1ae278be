"""Latents and caption encodings: computed once, kept on disk by a digest of all that they follow from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.console.progress import Progress
from files.caches import open_cache
from files.opening import from_pretrained
from files.tensors import load_sealed, save_sealed
from finetuning.images import TrainingImage, read_pixels
from finetuning.notes import tell
from models.pipelines.generator import quiet_libraries
from models.pixart import PROMPT_TOKENS

IMAGES_AT_ONCE, CAPTIONS_AT_ONCE = 16, 64
# T5-XXL's own weights are 9.5 GB in bfloat16; with less than this left beside them its parts come one by one.
ROOM_BYTES = 2 * 2**30
TOKENS_MULTIPLE = 8
_EDGE_BYTES = 2**20


@dataclass(frozen=True)
class Captions:
    """Encoded captions. `tokens_TC` holds the valid tokens of all of them, one after the other; caption i has
    `lengths_N[i]` of them.
    """

    tokens_TC: Tensor
    lengths_N: Tensor

    @property
    def longest(self) -> int:
        """The length that batches are padded to: the longest caption's, rounded up."""
        return -(-int(self.lengths_N.max()) // TOKENS_MULTIPLE) * TOKENS_MULTIPLE

    def to(self, device: Any) -> Captions:
        return Captions(self.tokens_TC.to(device), self.lengths_N.to(device))

    def padded(self, numbers_B: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return `encodings_BLC` of these captions and `mask_BL`, 1 where there is a token."""
        ends_N = self.lengths_N.cumsum(0)
        lengths_B = self.lengths_N[numbers_B]
        places_L = torch.arange(length, device=self.tokens_TC.device)
        mask_BL = places_L < lengths_B[:, None]
        places_BL = (ends_N[numbers_B] - lengths_B)[:, None] + places_L.clamp(max=length)
        encodings_BLC = self.tokens_TC[torch.where(mask_BL, places_BL, 0)] * mask_BL[..., None]
        return encodings_BLC, mask_BL.long()


@dataclass(frozen=True)
class Encodings:
    """All that training needs of images and captions.

    latents_VNCHW: scaled latents; V is 2 where the second are of the mirrored images, else 1.
    captions: the distinct captions, the empty one first. caption_of_N: which one is each image's.
    """

    latents_VNCHW: Tensor
    captions: Captions
    caption_of_N: Tensor

    def __len__(self) -> int:
        return self.latents_VNCHW.shape[1]


def weights_digest(folder: Path) -> str:
    """Return a digest of a network's folder: names, sizes, both ends of each weights file, all of the small files."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_EDGE_BYTES))
            file.seek(max(0, size - _EDGE_BYTES))
            digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def encode_latents(
    images: Sequence[TrainingImage], base: Path, cache: Path, side: int, flip: bool, device: str, progress: Progress
) -> Tensor:
    """Return `latents_VNCHW`, float32 on the CPU: the VAE's mode for each image, times its scaling factor.

    Raises:
        ValueError: an image does not decode.
    """
    from diffusers import AutoencoderKL

    key = hashlib.sha256(f"latents {side} {flip} {weights_digest(base / 'vae')}\n".encode())
    for image in images:
        key.update(image.file_digest.encode())

    def compute() -> dict[str, Tensor]:
        with quiet_libraries():
            # float32: published VAEs overflow in float16, and this is done once.
            vae = from_pretrained(AutoencoderKL, base / "vae", dtype=torch.float32).to(device)
        parts = []
        with progress.task("images to latents", len(images), unit="images") as task, torch.inference_mode():
            for start in range(0, len(images), IMAGES_AT_ONCE):
                pixels_BCHW = read_pixels(images[start : start + IMAGES_AT_ONCE], side).to(device)
                views = [pixels_BCHW, pixels_BCHW.flip(-1)] if flip else [pixels_BCHW]
                parts.append(torch.stack([vae.encode(view).latent_dist.mode() for view in views]).cpu())
                task.advance(len(pixels_BCHW))
        return {"latents": torch.cat(parts, dim=1) * vae.config.scaling_factor}

    return _cached(cache, key.hexdigest(), compute)["latents"]


def encode_captions(
    captions: Sequence[str],
    base: Path,
    cache: Path,
    device: str,
    dtype: torch.dtype,
    progress: Progress,
    offload: Literal["auto", "always", "never"] = "auto",
) -> Captions:
    """Return the captions as T5 encodes them, on the CPU, in `dtype`; the encoder is dropped again.

    The text is prepared as the pipeline does: lower case, no outer spaces, cut at 300 tokens or the tokenizer's own
    limit. The padding is left out, which masks hide anyway.
    """
    folders = [weights_digest(base / part) for part in ("text_encoder", "tokenizer")]
    key = hashlib.sha256(f"captions {dtype} {' '.join(folders)}\n".encode())
    for caption in captions:
        key.update(f"{caption}\0".encode())

    def compute() -> dict[str, Tensor]:
        from transformers import AutoTokenizer, T5EncoderModel

        with quiet_libraries():
            tokenizer = from_pretrained(AutoTokenizer, base / "tokenizer")
            encoder = from_pretrained(T5EncoderModel, base / "text_encoder", dtype=dtype)
        encoder = place_text_encoder(encoder.eval(), device, offload)
        limit = min(PROMPT_TOKENS, tokenizer.model_max_length)
        # Alike in length, so that little is padding; put back in order at the end.
        order = sorted(range(len(captions)), key=lambda number: len(captions[number]))
        rows: dict[int, Tensor] = {}
        with progress.task("captions to encodings", len(captions), unit="captions") as task, torch.inference_mode():
            for start in range(0, len(order), CAPTIONS_AT_ONCE):
                chosen = order[start : start + CAPTIONS_AT_ONCE]
                texts = [captions[number].lower().strip() for number in chosen]
                tokens = tokenizer(texts, padding=True, max_length=limit, truncation=True, return_tensors="pt")
                mask_BL = tokens.attention_mask
                answer_BLC = encoder(tokens.input_ids.to(device), attention_mask=mask_BL.to(device))[0].cpu()
                rows |= {
                    number: answer_LC[mask_L.bool()]
                    for number, answer_LC, mask_L in zip(chosen, answer_BLC, mask_BL, strict=True)
                }
                task.advance(len(chosen))
        ordered = [rows[number] for number in range(len(captions))]
        return {"tokens": torch.cat(ordered), "lengths": torch.tensor([len(row_LC) for row_LC in ordered])}

    kept = _cached(cache, key.hexdigest(), compute)
    return Captions(kept["tokens"], kept["lengths"])


def place_text_encoder(encoder: Any, device: str, offload: Literal["auto", "always", "never"]) -> Any:
    """Put the text encoder on the device, or have its parts come there one by one where it would not fit."""
    if not device.startswith("cuda"):
        return encoder
    size = sum(parameter.numel() * parameter.element_size() for parameter in encoder.parameters())
    free, _ = torch.cuda.mem_get_info(device)
    if offload == "always" or (offload == "auto" and free < size + ROOM_BYTES):
        from accelerate import cpu_offload

        tell(f"T5 ({size / 1e9:.1f} GB) is moved to the GPU part by part")
        return cpu_offload(encoder, execution_device=torch.device(device))
    return encoder.to(device)


def encode_all(
    images: Sequence[TrainingImage],
    base: Path,
    cache: Path,
    *,
    side: int,
    flip: bool,
    device: str,
    dtype: torch.dtype,
    progress: Progress,
    offload: Literal["auto", "always", "never"] = "auto",
) -> Encodings:
    """Return latents and captions of the images, from `cache` where they were made before; networks are dropped."""
    distinct = list(dict.fromkeys(["", *(image.caption for image in images)]))
    number_of = {caption: number for number, caption in enumerate(distinct)}
    with released_memory(device):
        latents_VNCHW = encode_latents(images, base, cache, side, flip, device, progress)
    with released_memory(device):
        captions = encode_captions(distinct, base, cache, device, dtype, progress, offload)
    return Encodings(latents_VNCHW, captions, torch.tensor([number_of[image.caption] for image in images]))


@contextmanager
def released_memory(device: str) -> Any:
    """Give back at the block's end what its networks held on the GPU."""
    yield
    if device.startswith("cuda"):
        import gc

        gc.collect()
        torch.cuda.empty_cache()


def _cached(folder: Path, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors kept under this name; they are computed where they are not there or damaged.

    A cache that cannot be read or written costs the time of computing, and a line on stderr.
    """
    path = folder / f"{name[:32]}.safetensors"
    if path.exists():
        try:
            return load_sealed(path, name)
        except (OSError, ValueError) as error:
            tell(f"{path} is damaged ({error}); it is computed again")
    made = compute()
    try:
        open_cache(folder)
        save_sealed(path, made, name)
    except OSError as error:
        tell(f"{path} cannot be saved ({error}); the next training computes it again")
    return made
