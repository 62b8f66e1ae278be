"""Trains the two attribute networks: one for the losses of other trainings, and the judge, which is shipped.

    python -m scripts.embedded.train_attributes judge
    python -m scripts.embedded.train_attributes losses --out runs/losses

Two, because a network whose features stand in a loss is no independent judge of what was trained with it: they have
other seeds and other widths.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn import functional

from metrics.extractors.attribute_network import AttributeNetwork, read_attribute_network, save_attribute_network
from scripts.embedded.judging import judge
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.training import (
    add_training_arguments,
    budget_from,
    command_line,
    log,
    prepare_device,
    train,
    write_card,
)

SHAPES = {"judge": ((24, 48, 64, 96, 112), 128), "losses": ((32, 48, 80, 96, 128), 96)}
SEEDS = {"judge": 0, "losses": 1000}


def blur_some(images_BCHW: Tensor) -> Tensor:
    """Soften and add noise to each image by a random amount: what is judged is rarely as clean as what is drawn."""
    amounts = torch.rand(2, len(images_BCHW), 1, 1, 1, device=images_BCHW.device)
    soft = functional.avg_pool2d(functional.pad(images_BCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images_BCHW = images_BCHW + (amounts[0] - 0.5).clamp(min=0) * 1.6 * (soft - images_BCHW)
    return images_BCHW + (amounts[1] - 0.5).clamp(min=0) * 0.3 * torch.randn_like(images_BCHW)


def measure_feature_rms(network: AttributeNetwork, sprites: RobotSprites, pictures: int = 4096) -> float:
    """Return the root mean square of the features of training robots."""
    generator = torch.Generator(sprites.device).manual_seed(2)
    with torch.inference_mode():
        squares = [
            network.features_ND(sprites.draw(generator, 256)[0]).double().square().mean()
            for _ in range(pictures // 256)
        ]
    return round(torch.stack(squares).mean().sqrt().item(), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("judge", "losses"))
    add_training_arguments(parser, minutes=0.8, batch=256)
    arguments = parser.parse_args()
    budget = budget_from(arguments)
    prepare_device(arguments.device, arguments.seed + SEEDS[arguments.role])
    out = arguments.out or arguments.assets / "attributes"
    if arguments.role == "losses" and arguments.out is None:
        parser.error("the network for losses is not shipped: say where it goes with --out")

    sprites = RobotSprites(arguments.assets, arguments.device)
    widths, features = SHAPES[arguments.role]
    network = AttributeNetwork(widths, features, sprites.grammar.sizes).to(arguments.device)

    def loss() -> Tensor:
        images_BCHW, attributes_BA = sprites.draw(None, arguments.batch)
        logits = network(blur_some(images_BCHW))
        losses = [functional.cross_entropy(logits[part], attributes_BA[:, part]) for part in range(len(logits))]
        return torch.stack(losses).sum()

    record = train(arguments.role, [network], loss, budget, arguments.device, learning_rate=2e-3)
    network.feature_rms = measure_feature_rms(network, sprites)
    save_attribute_network(network, out)
    shipped = read_attribute_network(out, arguments.device)
    held_out = torch.Generator(arguments.device).manual_seed(1)
    images_BCHW, attributes_BA = sprites.draw(held_out, 64 if arguments.tiny_run else 4096, "held_out")
    found = judge(images_BCHW, images_BCHW, attributes_BA, shipped)
    log(arguments.role, found.parts_text())
    facts = {
        "What": f"reads a robot's seven parts; widths {widths}, {features} features",
        "Parameters": f"{sum(parameter.numel() for parameter in network.parameters()):,}, float16 on disk",
        "Data": "robots drawn on the device (held-out pairs left out), softened and noised at random",
        "Recipe": f"sum of seven cross entropies, AdamW 2e-3, batch {arguments.batch}, average of weights .999",
        "Real held-out robots": found.parts_text(),
    }
    write_card(out, f"Attribute network ({arguments.role})", facts, record, command_line())


if __name__ == "__main__":
    main()
