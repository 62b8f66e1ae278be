"""Trains the embedded Infinity's bitwise tokenizer on robots: assets/infinity/vae.

    python -m scripts.embedded.train_bsq_vae

The first fifth of the time the decoder sees the latents themselves, which are pulled to what their bits stand for; then
it sees the bits alone, and gradients pass straight through the signs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.networks.bsq_vae import BSQVAE, BitwiseScales, read_bsq_vae_shape
from models.networks.convolutions import ConvolutionShape
from models.networks.next_scale import Grid
from models.weights import load_strictly, read_state, save_half
from scripts.embedded.bitwise import FlatScales
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.judging import psnr_db
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.training import Loss, log

BITS = 16
SHAPE = ConvolutionShape((64, 64, 64), blocks=1, latent_channels=BITS, attention=False, middle_attention=False)
GRIDS: tuple[Grid, ...] = tuple((side, side) for side in (1, 2, 3, 4, 6, 8, 12, 16))
COMMITMENT_WEIGHT = 0.5
IMBALANCE_WEIGHT = 0.05
# In units of what a bit stands for: where a residual counts as a sure bit.
SHARPNESS = 4.0


class BSQVAETraining:
    """The training step: draw robots, quantise their latents, rebuild them."""

    def __init__(self, vae: BSQVAE, grids: Sequence[Grid], sprites: RobotSprites, batch: int) -> None:
        self.vae = vae
        self.sprites = sprites
        self.batch = batch
        self.scales = FlatScales(grids, sprites.device)
        self.quantised = False

    def loss(self) -> Loss:
        images_BCHW, _ = self.sprites.draw(None, self.batch, "train")
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        latents_BdHW = self.vae.encode_latents(images_BCHW).float()
        # The signs want float32: autocast would round the residuals.
        with torch.autocast(latents_BdHW.device.type, enabled=False):
            estimate_BdHW, commitment, imbalance = quantise(self.scales, latents_BdHW)
        decoded_BdHW = estimate_BdHW if self.quantised else latents_BdHW
        # In one layout, or else the decoder would be compiled again where quantisation begins.
        decoded_BdHW = decoded_BdHW.contiguous(memory_format=torch.channels_last)
        reconstruction_BCHW = self.vae.decode_latents(decoded_BdHW).float()
        absolute = functional.l1_loss(reconstruction_BCHW, images_BCHW)
        squared = functional.mse_loss(reconstruction_BCHW, images_BCHW)
        terms = {"l1": absolute, "mse": squared, "commitment": commitment, "imbalance": imbalance}
        # The squared error is what PSNR counts; the absolute one keeps edges sharp.
        loss = absolute + 5 * squared + COMMITMENT_WEIGHT * commitment + IMBALANCE_WEIGHT * imbalance
        return loss, terms

    def begin_quantising(self) -> None:
        self.quantised = True
        log("bsq_vae", "quantisation begins")


def quantise(scales: FlatScales, latents_BdHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the estimate that the bits stand for, straight through to the latents; the commitment; the imbalance.

    Commitment: the latents' mean squared distance from the estimate, which alone ties their size to that of the bits.
    Imbalance: how much of a bit is lost, on average over scales and channels, since it is not 0 and 1 half of the time
    each; the signs are softened for it.
    """
    walk = scales.walk(latents_BdHW.flatten(2))
    estimate_BdHW = walk.sums[-1].view(latents_BdHW.shape)
    sharpness = SHARPNESS * latents_BdHW.shape[1] ** 0.5
    shares_Sd = torch.stack([(sharpness * residual).sigmoid().mean(dim=(0, 2)) for residual in walk.residuals])
    return (
        estimate_BdHW + (latents_BdHW - latents_BdHW.detach()),
        functional.mse_loss(latents_BdHW, estimate_BdHW),
        1 - entropy_in_bits(shares_Sd.clamp(1e-4, 1 - 1e-4)).mean(),
    )


def entropy_in_bits(shares: Tensor) -> Tensor:
    """Return the entropy of coins that show 1 in these shares of all tosses."""
    nats: Tensor = torch.special.entr(shares) + torch.special.entr(1 - shares)
    return nats / math.log(2)


def load_tokenizer(folder: Path, device: str) -> tuple[BSQVAE, tuple[Grid, ...]]:
    """Return the tokenizer that this script wrote, float32, in evaluation mode, and its grids."""
    grids = tuple((h, w) for h, w in json.loads((folder / "config.json").read_text(encoding="utf-8"))["grids"])
    state = read_state(folder / "vae.safetensors")
    vae = BSQVAE(read_bsq_vae_shape(state))
    load_strictly(vae, state, str(folder))
    return vae.to(device).eval().requires_grad_(False), grids


@torch.no_grad()
def round_trip(vae: BSQVAE, scales: BitwiseScales, images_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the images rebuilt from their bits, and the bits of every scale, `bits_BLd`."""
    bits = scales.encode(vae.encode_latents(images_BCHW).float())
    return vae.decode_latents(scales.sums(bits)[-1]).float(), bits


@torch.no_grad()
def measure(vae: BSQVAE, grids: Sequence[Grid], sprites: RobotSprites, count: int) -> dict[str, float]:
    """Return the round trip's figures on held-out robots: mean PSNR in dB, with and without quantisation, use of bits.

    Of a bit (a channel of a scale): its entropy over images and places, and how often it has its rarer value.
    """
    scales = BitwiseScales(tuple(grids))
    generator = torch.Generator(sprites.device).manual_seed(1)
    exact, quantised, plain, ones = [], [], [], []
    for start in range(0, count, 64):
        images_BCHW, _ = sprites.draw(generator, min(64, count - start), "held_out")
        rebuilt_BCHW, bits = round_trip(vae, scales, images_BCHW)
        ones.append(torch.stack([bits_BLd.float().mean(dim=1).sum(dim=0) for bits_BLd in bits]))
        exact.append(images_BCHW)
        quantised.append(rebuilt_BCHW)
        plain.append(vae.decode_latents(vae.encode_latents(images_BCHW)))
    shares_Sd = torch.stack(ones).sum(dim=0) / count
    return {
        "psnr_db": psnr_db(torch.cat(quantised), torch.cat(exact)),
        "psnr_unquantised_db": psnr_db(torch.cat(plain), torch.cat(exact)),
        "entropy_of_a_bit": entropy_in_bits(shares_Sd).mean().item(),
        "rarest_value_share": torch.minimum(shares_Sd, 1 - shares_Sd).min().item(),
        "images": count,
    }


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=3.75, batch=128, compile_flag="--no-compile")
    job = start_job(parser.parse_args(given), "infinity/vae")
    device, folder = job.device, job.folder

    vae = BSQVAE(SHAPE).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if job.is_compiled:
        vae.encoder.compile(dynamic=False)
        vae.decoder.compile(dynamic=False)
    training = BSQVAETraining(vae, GRIDS, job.sprites, job.batch)
    record = job.train(
        "bsq_vae", [vae], training.loss, learning_rate=1.5e-3, milestones={0.2: training.begin_quantising}
    )

    save_half(vae, folder / "vae.safetensors")
    (folder / "config.json").write_text(json.dumps({"grids": GRIDS}) + "\n", encoding="utf-8")
    figures = measure(*load_tokenizer(folder, device), job.sprites, job.count(512, tiny=8))
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    log("bsq_vae", " ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    job.write_card(
        "Embedded BSQ-VAE of Infinity (64 px robots)",
        {
            "What": f"bitwise multi-scale residual autoencoder, {BITS} bits a place, "
            f"{sum(p.numel() for p in vae.parameters()):,} parameters, float16",
            "Data": "robots drawn from parts without end; held-out pairs of body and accessory never seen",
            "Recipe": f"batch {job.batch}, AdamW 1.5e-3, averaged weights, bf16 autocast; L1 + 5 MSE + "
            f"{COMMITMENT_WEIGHT} commitment + {IMBALANCE_WEIGHT} imbalance of bits; a fifth unquantised, then "
            "straight through the signs",
            "Round trip": f"{figures['psnr_db']:.2f} dB PSNR on {figures['images']} held-out robots "
            f"({figures['psnr_unquantised_db']:.2f} dB without quantisation); a bit's entropy "
            f"{figures['entropy_of_a_bit']:.3f}, its rarer value at least {100 * figures['rarest_value_share']:.1f} %",
        },
        record,
    )


if __name__ == "__main__":
    main()
