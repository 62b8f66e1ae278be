"""Trains the VAE that the embedded SDXL and PixArt share, on robots and emoji.

python -m scripts.embedded.train_vae --losses runs/losses
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from benchmark.data.sources.emoji import Emoji
from files.opening import from_pretrained
from metrics.extractors.attribute_network import AttributeNetwork, load_attribute_network, read_attribute_network
from scripts.embedded.diffusion import halve
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.judging import judge, psnr_db
from scripts.embedded.training import log

EMOJI_SHARE = 0.25
FEATURE_WEIGHT = 0.1
KL_WEIGHT = 5e-4
LATENT_NOISE = 0.05


def build_vae() -> AutoencoderKL:
    """Return the VAE's architecture: factor 4, 4 latent channels, 64 px."""
    return AutoencoderKL(
        sample_size=64,
        latent_channels=4,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=16,
        force_upcast=False,
    )


def read_emoji(assets: Path, split: str, limit: int | None = None) -> Tensor:
    """Return `images_NCHW`, uint8, of all emoji of a split."""
    emoji = Emoji(assets)
    rows = [row for row in range(len(emoji)) if emoji.split(row) == split][:limit]
    return torch.from_numpy(np.stack([np.array(emoji.image(row)) for row in rows])).permute(0, 3, 1, 2).contiguous()


def feature_distance(network: AttributeNetwork, images_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Return the mean squared distance of normalised activations over the first four stages."""
    count = len(images_BCHW)
    total = images_BCHW.new_zeros(())
    for stage in network.stage_outputs(torch.cat([images_BCHW, target_BCHW]))[:4]:
        unit = functional.normalize(stage.float(), dim=1)
        total = total + (unit[:count] - unit[count:]).square().sum(1).mean()
    return total


def save_vae(vae: AutoencoderKL, folder: Path) -> None:
    """Write the folder in diffusers' layout, float16."""
    halve(vae).save_pretrained(folder)


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, images_BCHW: Tensor, batch: int = 256) -> Tensor:
    """Return what the VAE makes of images (through the latent's mean)."""
    return torch.cat(
        [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in torch.split(images_BCHW, batch)]
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=4.0, batch=256)
    parser.add_argument("--losses", type=Path, required=True, help="folder of the attribute network for losses")
    arguments = parser.parse_args(given)
    job = start_job(arguments, "vae")
    device, batch, sprites = job.device, job.batch, job.sprites

    most_emoji = 16 if arguments.tiny else None
    emoji_NCHW = read_emoji(job.assets, "train", most_emoji).to(device)
    losses_network = read_attribute_network(arguments.losses, device)
    vae = build_vae().to(device, memory_format=torch.channels_last)
    emoji_batch = int(batch * EMOJI_SHARE)

    def draw() -> Tensor:
        robots_BCHW, _ = sprites.draw(None, batch - emoji_batch)
        chosen = torch.randint(len(emoji_NCHW), (emoji_batch,), device=device)
        return torch.cat([robots_BCHW, emoji_NCHW[chosen].float() / 127.5 - 1])

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        images_BCHW = draw()
        latent = vae.encode(images_BCHW).latent_dist
        z = latent.mean + latent.std * torch.randn_like(latent.mean)
        decoded_BCHW = vae.decode(z + LATENT_NOISE * torch.randn_like(z)).sample.float()
        mean, logvar = latent.mean.float(), latent.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        error = decoded_BCHW - images_BCHW
        mse = error.square().mean()
        features = feature_distance(losses_network, decoded_BCHW, images_BCHW)
        total = error.abs().mean() + mse + FEATURE_WEIGHT * features + KL_WEIGHT * kl
        return total, {"mse": mse, "features": features, "kl": kl}

    record = job.train("vae", [vae], loss, learning_rate=1.5e-3)

    held_out = torch.Generator(device).manual_seed(1)
    robots_BCHW, attributes_BA = sprites.draw(held_out, job.count(2048, tiny=16), "held_out")
    with torch.inference_mode():
        latents = [vae.encode(part).latent_dist.mode() for part in torch.split(robots_BCHW, 256)]
    vae.register_to_config(scaling_factor=round(1 / torch.cat(latents).std().item(), 4))
    save_vae(vae, job.folder)

    shipped = from_pretrained(AutoencoderKL, job.folder, dtype=torch.float32).to(device)
    emoji_test = read_emoji(job.assets, "test", most_emoji).to(device).float() / 127.5 - 1
    emoji_db = psnr_db(round_trip(shipped, emoji_test), emoji_test)
    rebuilt_BCHW = round_trip(shipped, robots_BCHW)
    facts: dict[str, object] = {
        "What": f"AutoencoderKL, 64 px, factor 4, 4 latent channels, scaling factor {vae.config.scaling_factor}",
        "Parameters": f"{sum(parameter.numel() for parameter in vae.parameters()):,}, float16 on disk",
        "Data": "three quarters robots drawn on the device (held-out pairs left out), a quarter emoji (train concepts)",
        "Recipe": f"L1 + MSE + {FEATURE_WEIGHT} x attribute features + {KL_WEIGHT} KL, noise {LATENT_NOISE} on the "
        f"latent, AdamW 1.5e-3, batch {batch}, average of weights .999",
        "Round trip, unseen emoji": f"{emoji_db:.2f} dB",
    }
    psnr = psnr_db(rebuilt_BCHW, robots_BCHW)
    log("vae", f"round trip: robots {psnr:.2f} dB, emoji {emoji_db:.2f} dB; scaling {vae.config.scaling_factor}")
    if job.is_judged:
        found = judge(rebuilt_BCHW, robots_BCHW, attributes_BA, load_attribute_network(job.assets, device))
        facts["Round trip, held-out robots"] = found.text()
        log("vae", f"round trip: {found.text()}")
    job.write_card("Embedded VAE", facts, record)


if __name__ == "__main__":
    main()
