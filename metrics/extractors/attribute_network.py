"""The attribute network: reads a robot's seven parts from its image, and gives features for distances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from files.opening import load_tensors
from metrics.robots.grammar import PARTS

IMAGE_SIZE = 64


class AttributeNetwork(nn.Module):
    """A small convolutional network with one head for each part.

    widths: channels at 64, 32, 16, 8 and 4 px. features: size of the penultimate layer.
    feature_rms: root mean square of the features of training robots. Distances divide by it: what scale a network's
    features happen to have means nothing, and a cubic kernel of large ones is noise.
    """

    feature_rms: float = 1.0

    def __init__(self, widths: Sequence[int], features: int, options: Sequence[int]) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "features": features, "options": list(options)}
        channels = (3, *widths)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[i], channels[i + 1], 3, stride=1 if i == 0 else 2, padding=1),
                nn.GroupNorm(8, channels[i + 1]),
                nn.SiLU(),
            )
            for i in range(len(widths))
        )
        side = IMAGE_SIZE >> (len(widths) - 1)
        self.to_features = nn.Linear(widths[-1] * side * side, features)
        self.heads = nn.Linear(features, sum(options))
        self.options = tuple(options)

    def stage_outputs(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return each stage's activations, for losses. Images are -1..1, 64 px."""
        outputs = []
        for stage in self.stages:
            images_BCHW = stage(images_BCHW)
            outputs.append(images_BCHW)
        return outputs

    def features_ND(self, images_BCHW: Tensor) -> Tensor:
        """Return the penultimate features of images in -1..1 at 64 px."""
        return functional.silu(self.to_features(self.stage_outputs(images_BCHW)[-1].flatten(1)))

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each part, in the order of PARTS."""
        logits_BK: Tensor = self.heads(self.features_ND(images_BCHW))
        return torch.split(logits_BK, list(self.options), dim=1)

    def predict(self, images_BCHW: Tensor) -> Tensor:
        """Return `attributes_BA`, int64: the likeliest option of each part, in the order of PARTS."""
        return torch.stack([logits_BK.argmax(dim=1) for logits_BK in self(images_BCHW)], dim=1)


def save_attribute_network(network: AttributeNetwork, folder: Path) -> None:
    """Write config.json and float16 model.safetensors."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {**network.config, "feature_rms": network.feature_rms, "parts": PARTS}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    state = {name: tensor.detach().half().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def read_attribute_network(folder: Path, device: str) -> AttributeNetwork:
    """Read a network written by `save_attribute_network`, as float32, in evaluation mode, without gradients."""
    config = json.loads((folder / "config.json").read_text())
    network = AttributeNetwork(config["widths"], config["features"], config["options"])
    network.feature_rms = config["feature_rms"]
    network.load_state_dict(
        {name: tensor.float() for name, tensor in load_tensors(folder / "model.safetensors").items()}
    )
    return network.to(device).eval().requires_grad_(False)


def load_attribute_network(assets: Path, device: str) -> AttributeNetwork:
    """Return the shipped network of assets/attributes, against which no shipped model was trained."""
    return read_attribute_network(assets / "attributes", device)
