"""Trains the two attribute networks: one for the losses of other trainings, and the judge, which is shipped.

    python -m scripts.embedded.train_attributes judge
    python -m scripts.embedded.train_attributes losses --output runs/losses

Two, because a network whose features stand in a loss is no independent judge of what was trained with it: they have
other seeds and other widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from metrics.extractors.attribute_network import AttributeNetwork, read_attribute_network, save_attribute_network
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.judging import judge
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.training import log

SHAPES = {"judge": ((24, 48, 64, 96, 112), 128), "losses": ((32, 48, 80, 96, 128), 96)}
SEEDS = {"judge": 0, "losses": 1000}


def blur_some(images_BCHW: Tensor) -> Tensor:
    """Soften and add noise to each image by a random amount: what is judged is rarely as clean as what is drawn."""
    amounts = torch.rand(2, len(images_BCHW), 1, 1, 1, device=images_BCHW.device)
    soft = functional.avg_pool2d(functional.pad(images_BCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images_BCHW = images_BCHW + (amounts[0] - 0.5).clamp(min=0) * 1.6 * (soft - images_BCHW)
    return images_BCHW + (amounts[1] - 0.5).clamp(min=0) * 0.3 * torch.randn_like(images_BCHW)


def measure_feature_rms(network: AttributeNetwork, sprites: RobotSprites, count: int = 4096) -> float:
    """Return the root mean square of the features of training robots."""
    generator = torch.Generator(sprites.device).manual_seed(2)
    with torch.inference_mode():
        squares = [
            network.features_ND(sprites.draw(generator, 256)[0]).double().square().mean() for _ in range(count // 256)
        ]
    return round(torch.stack(squares).mean().sqrt().item(), 4)


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=0.8, batch=256)
    parser.add_argument("role", choices=("judge", "losses"))
    arguments = parser.parse_args(given)
    role: str = arguments.role
    if role == "losses" and arguments.output is None:
        parser.error("the network for losses is not shipped: say where it goes with --output")
    job = start_job(arguments, "attributes", seed_offset=SEEDS[role])
    sprites = job.sprites

    widths, features = SHAPES[role]
    network = AttributeNetwork(widths, features, sprites.grammar.sizes).to(job.device)

    def loss() -> Tensor:
        images_BCHW, attributes_BA = sprites.draw(None, job.batch)
        logits = network(blur_some(images_BCHW))
        losses = [functional.cross_entropy(logits[part], attributes_BA[:, part]) for part in range(len(logits))]
        return torch.stack(losses).sum()

    record = job.train(role, [network], loss, learning_rate=2e-3)
    network.feature_rms = measure_feature_rms(network, sprites)
    save_attribute_network(network, job.folder)
    shipped = read_attribute_network(job.folder, job.device)
    held_out = torch.Generator(job.device).manual_seed(1)
    images_BCHW, attributes_BA = sprites.draw(held_out, job.count(4096, tiny=64), "held_out")
    found = judge(images_BCHW, images_BCHW, attributes_BA, shipped)
    log(role, found.parts_text())
    facts = {
        "What": f"reads a robot's seven parts; widths {widths}, {features} features",
        "Parameters": f"{sum(parameter.numel() for parameter in network.parameters()):,}, float16 on disk",
        "Data": "robots drawn on the device (held-out pairs left out), softened and noised at random",
        "Recipe": f"sum of seven cross entropies, AdamW 2e-3, batch {job.batch}, average of weights .999",
        "Real held-out robots": found.parts_text(),
    }
    job.write_card(f"Attribute network ({role})", facts, record)


if __name__ == "__main__":
    main()
