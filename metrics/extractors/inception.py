"""The FID Inception: torch-fidelity's network with the weights of 2015-12-05, the features that FID is defined on."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from files.downloads import torch_checkpoints
from files.opening import load_checkpoint
from files.reading import file_digest
from metrics.base import FeatureDType, FidProtocol, MetricUnavailable, Scoring
from metrics.extractors.precision import NAMES, place, run_by_size
from metrics.images import resize_antialiased
from metrics.needed import INCEPTION_DIGEST, INCEPTION_NAME, find_inception

_PUBLISHED_DIGEST = INCEPTION_DIGEST[:8]
SIDE = 299
# The network's stages in their order, by torch-fidelity's names.
STAGES = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


def open_inception(scoring: Scoring) -> InceptionFeatures:
    """Return the extractor. Raises MetricUnavailable where its weights are not found."""
    weights = find_inception(scoring.inception_weights)
    if weights is None:
        downloads = torch_checkpoints()
        raise MetricUnavailable(
            f"no FID Inception weights: put {INCEPTION_NAME} into {downloads} or name it in INCEPTION_WEIGHTS"
        )
    return InceptionFeatures(weights, scoring.device, scoring.fid_protocol, scoring.feature_dtype)


class InceptionFeatures:
    """2048 pooled features of the FID Inception; the network is loaded when it is first needed.

    protocol: `clean` resizes to 299 px as clean-fid does, antialiased bicubic in float32; `torch-fidelity` as
    TensorFlow 1 did, bilinear without antialiasing. Then (x - 128) / 128.
    Source: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule"; Szegedy et al. 2015; Parmar et al. 2022,
    "On Aliased Resizing and Surprising Subtleties in GAN Evaluation".
    """

    key = "inception"
    name = "inception-2015-12-05"
    distance_label = "FID Score (lower = better)"
    distance_short = "FID"
    kernel_label = "KID Score (lower = better)"
    kernel_short = "KID"

    def __init__(
        self, weights: Path, device: str, protocol: FidProtocol = "clean", dtype: FeatureDType = "float32"
    ) -> None:
        self._weights = weights
        self._device = device
        self._protocol = protocol
        self._dtype: FeatureDType = dtype
        self._network: nn.Module | None = None
        digest = file_digest(weights)[:8]
        # A file of another digest may hold the same weights saved anew, so it is told and not refused.
        origin = "" if digest == _PUBLISHED_DIGEST else f" (not the published file {_PUBLISHED_DIGEST})"
        self.identity = f"{self.name}, {protocol}, {NAMES[dtype]}, weights {digest}{origin}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes."""
        if self._network is None:
            self._network = place(FoldedInception(load_inception(self._weights)), self._device, self._dtype)
        resize = resize_antialiased if self._protocol == "clean" else resize_as_tensorflow
        return run_by_size(self._network, images, self._device, self._dtype, lambda x: (resize(x, SIDE) - 128) / 128)


def resize_as_tensorflow(images_BCHW: Tensor, side: int) -> Tensor:
    """Return uint8 images as float32 0..255 at `side` x `side`: TensorFlow 1's bilinear resize, corners at 0."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    resized_BCHW: Tensor = interpolate_bilinear_2d_like_tensorflow1x(
        images_BCHW.to(torch.float32), size=(side, side), align_corners=False
    )
    return resized_BCHW


class FoldedInception(nn.Module):
    """The stages of torch-fidelity's network from images of -1..1 on, each BatchNorm folded into its convolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        stages = nn.Sequential(*(copy.deepcopy(network.get_submodule(name)) for name in STAGES))
        self.stages = fold_batch_norms(stages.double()).float()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return `features_BD`, D = 2048."""
        features_BD11: Tensor = self.stages(images_BCHW)
        return features_BD11.flatten(1)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Replace each pair `conv`, `bn` inside of `module` by one convolution and its activation, and return it."""
    convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
    if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        return nn.Sequential(fuse_conv_bn_eval(convolution, norm), nn.ReLU(inplace=True))
    for name, child in module.named_children():
        setattr(module, name, fold_batch_norms(child))
    return module


def load_inception(weights: Path) -> nn.Module:
    """Return torch-fidelity's FID Inception in evaluation mode with the weights in `weights`.

    Raises:
        ValueError: the file is no plain state dict, or not this network's.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    remedy = f"needed is the state dict that torch-fidelity publishes as {INCEPTION_NAME}"
    try:
        # torch-fidelity unpickles whatever the file holds, so it is first read where only tensors are allowed.
        state = load_checkpoint(weights)
    except ValueError as error:
        raise ValueError(f"INCEPTION_WEIGHTS: {error}; {remedy}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"INCEPTION_WEIGHTS: {weights} holds no tensors by name; {remedy}")
    tensors = io.BytesIO()
    torch.save(state, tensors)
    tensors.seek(0)
    try:
        network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], tensors)
    except RuntimeError as error:
        first_complaint = str(error).strip().splitlines()[-1].strip()[:160]
        raise ValueError(f"INCEPTION_WEIGHTS: {weights} is another network's ({first_complaint}); {remedy}") from error
    return network.eval().requires_grad_(False)
