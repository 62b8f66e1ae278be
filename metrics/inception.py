"""The FID Inception: torch-fidelity's network with the weights of 2015-12-05, the features that FID is defined on."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metrics.images import file_digest, stack_by_size
from metrics.precision import full_float32

WEIGHTS_NAME = "weights-inception-2015-12-05-6726825d.pth"
# pytorch-fid publishes the same converted weights under its own name.
_KNOWN_NAMES = (WEIGHTS_NAME, "pt_inception-2015-12-05-6726825d.pth")
_PUBLISHED_DIGEST = "6726825d"


def find_inception_weights(named: Path | None) -> Path | None:
    """Return the file that INCEPTION_WEIGHTS names, else what torch-fidelity once downloaded, else None.

    Raises:
        OSError: the named file is not there.
    """
    if named is not None:
        if not named.is_file():
            raise OSError(f"INCEPTION_WEIGHTS: no file {named}; name a copy of {WEIGHTS_NAME} or unset the variable")
        return named
    downloads = Path(torch.hub.get_dir()) / "checkpoints"
    return next((downloads / name for name in _KNOWN_NAMES if (downloads / name).is_file()), None)


class InceptionFeatures:
    """2048 pooled features of the FID Inception, float32; the network is loaded when it is first needed.

    Images go in at their own size: the network's first step is TensorFlow 1's bilinear resize to 299, as in
    torch-fidelity. Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule"; Szegedy et al. 2015.
    """

    name = "inception-2015-12-05"
    distance_label = "FID Score (lower = better)"
    distance_short = "FID"
    kernel_label = "KID Score (lower = better)"
    kernel_short = "KID"

    def __init__(self, weights: Path, device: str) -> None:
        self._weights = weights
        self._device = device
        self._network: torch.nn.Module | None = None
        digest = file_digest(weights)[:8]
        # A file of another digest may hold the same weights saved anew, so it is told and not refused.
        origin = "" if digest == _PUBLISHED_DIGEST else f" (not the published file {_PUBLISHED_DIGEST})"
        self.identity = f"{self.name}, torch-fidelity resize, fp32, weights {digest}{origin}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes."""
        if self._network is None:
            self._network = load_inception(self._weights).to(self._device)
        features_ND = torch.empty(len(images), 2048)
        with torch.inference_mode(), full_float32():
            for places, images_BCHW in stack_by_size(images):
                features_ND[places] = self._network(images_BCHW.to(self._device))[0].cpu()
        return features_ND


def load_inception(weights: Path) -> torch.nn.Module:
    """Return torch-fidelity's FID Inception in evaluation mode with the weights in `weights`.

    Raises:
        ValueError: the file is no plain state dict, or not this network's.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    remedy = f"needed is the state dict that torch-fidelity publishes as {WEIGHTS_NAME}"
    try:
        # torch-fidelity unpickles whatever the file holds, so it is first read where only tensors are allowed.
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"INCEPTION_WEIGHTS: {weights} is no file of tensors; {remedy}") from error
    if not isinstance(state, dict):
        raise ValueError(f"INCEPTION_WEIGHTS: {weights} holds a {type(state).__name__}; {remedy}")
    tensors = io.BytesIO()
    torch.save(state, tensors)
    tensors.seek(0)
    try:
        network: torch.nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], tensors)
    except RuntimeError as error:
        first_complaint = str(error).strip().splitlines()[-1].strip()[:160]
        raise ValueError(f"INCEPTION_WEIGHTS: {weights} is another network's ({first_complaint}); {remedy}") from error
    return network.eval()
