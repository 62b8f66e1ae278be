"""Pixels of pipelines and decoders as uint8: converted in one place, and refused where they are no image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

HALF_A_LEVEL = 0.5 / 255
_POSTPROCESSING = ("postprocess", "denormalize", "_denormalize_conditionally", "pt_to_numpy", "numpy_to_pil")


def to_uint8(images_BCHW: Tensor, name: str) -> Tensor:
    """Return images of 0..1 as uint8 0..255, rounded half to even.

    name: the pipeline, for the message.

    Raises:
        ValueError: a value is NaN, or outside 0..1 by more than half a level: wrapped or clamped it would be another
            image, which would be scored.
    """
    images_BCHW = images_BCHW.float()  # bfloat16 cannot hold the integers up to 255 after rounding exactly
    if images_BCHW.numel() == 0:
        raise ValueError(f"{name} returned no pixels, but a tensor of shape {tuple(images_BCHW.shape)}")
    least, most = torch.stack(torch.aminmax(images_BCHW)).tolist()  # one wait for the device
    if math.isnan(least) or math.isnan(most):
        raise not_a_number(name, int(images_BCHW.flatten(1).isnan().any(dim=1).nonzero()[0]))
    if least < -HALF_A_LEVEL or most > 1 + HALF_A_LEVEL:
        raise ValueError(
            f"{name} made pixels of {least:.4g}..{most:.4g}; expected 0..1: it cannot be compared, "
            "since its images would not be what the pipeline means"
        )
    return images_BCHW.clamp(0, 1).mul(255).round().to(torch.uint8)


def check_rgb(images: Tensor, name: str) -> None:
    """Raise ValueError where a tensor does not hold images of red, green and blue: `images_BCHW`."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"{name} returned a tensor of shape {tuple(images.shape)}; expected (images, 3, height, width)"
        )


def pil_to_uint8(images: object, name: str) -> Tensor:
    """Return the PIL images of a pipeline as `images_BCHW`, uint8 0..255, on the CPU.

    Raises:
        ValueError: it is something else than a list of images of one size.
    """
    import numpy as np
    from PIL.Image import Image

    if not isinstance(images, (list, tuple)) or not images or not all(isinstance(image, Image) for image in images):
        raise ValueError(f"{name} returned {_described(images)}; expected images: only text-to-image can be compared")
    if len(sizes := {image.size for image in images}) > 1:
        raise ValueError(f"{name} returned images of several sizes: {', '.join(map(str, sorted(sizes)))}")
    images_BHWC = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).contiguous()


def _described(images: object) -> str:
    if isinstance(images, Sequence) and images:
        return f"a {type(images).__name__} of {type(images[0]).__name__}"
    return "nothing" if images is None else f"a {type(images).__name__}"


def check_decoded(extremes_2B: Tensor, name: str) -> None:
    """Check the least and the greatest value that a decoder made of each image, before they were clamped.

    Raises:
        ValueError: one is NaN or infinite.
    """
    is_broken_B = ~extremes_2B.cpu().isfinite().all(dim=0)  # one wait for the device
    if broken := is_broken_B.nonzero().flatten().tolist():
        raise not_a_number(name, broken[0])


def not_a_number(name: str, image: int | None = None) -> ValueError:
    """Return the error for pixels that are NaN or infinite. image: the place of the first such one in its batch."""
    where = "" if image is None else f", first in image {image} of its batch"
    return ValueError(
        f"{name} made pixels that are no numbers (NaN or infinite){where}; "
        "set DTYPE=float32, where numbers do not overflow, or check the weights"
    )


def images_of(output: Any) -> object:
    """Return the images of what a pipeline gives back: its field of that name, else its first one."""
    for name in ("images", "image", "rgb"):
        if (images := getattr(output, name, None)) is not None:
            return images
    if isinstance(output, Mapping):
        return next(iter(output.values()), None)
    return output[0] if isinstance(output, tuple) and output else output if isinstance(output, list) else None


def keeps_range(pipeline: Any) -> bool:
    """Return whether a pipeline's tensors ("pt") are the pixels of its PIL images: diffusers' own processor makes both.

    Others return what their decoder made, of whatever range: -1..1, or as far as it overshoots.
    """
    import inspect

    from diffusers.image_processor import PixArtImageProcessor, VaeImageProcessor

    call = inspect.unwrap(type(pipeline).__call__)
    names = set(getattr(getattr(call, "__code__", None), "co_names", ()))
    processor = type(getattr(pipeline, "image_processor", None))
    is_own = processor in (VaeImageProcessor, PixArtImageProcessor) or (
        issubclass(processor, VaeImageProcessor)
        and all(getattr(processor, name) is getattr(VaeImageProcessor, name) for name in _POSTPROCESSING)
    )
    return is_own and {"image_processor", "postprocess"} <= names
