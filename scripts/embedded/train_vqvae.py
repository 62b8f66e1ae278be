"""Trains the embedded VAR's VQVAE on robots: assets/var/vqvae.

    python -m scripts.embedded.train_vqvae

The first fifth of the time trains the autoencoder alone; then the codebook is set from residuals and quantisation
begins. Entries that nothing uses are set anew from residuals until 70 % of the time.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.convolutions import ConvolutionShape
from models.networks.vqvae import VQVAE, MultiScaleQuantizer, VQVAEShape, read_vqvae_shape
from models.weights import load_strictly, read_state, save_half
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.judging import psnr_db
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.training import Loss, log

SHAPE = VQVAEShape(
    ConvolutionShape(widths=(64, 64, 96), blocks=1, latent_channels=16),
    vocabulary=1024,
    patch_nums=(1, 2, 3, 4, 6, 8, 12, 16),
)
STEPS_PER_RESTART = 200
LLOYD_ITERATIONS = 8
# Entries used less than this share of the mean are set anew.
DEAD_SHARE = 0.01


class VQVAETraining:
    """What the training step and the codebook's care share: the model, its use of codes, its last latents."""

    def __init__(self, vqvae: VQVAE, sprites: RobotSprites, batch: int) -> None:
        self.vqvae = vqvae
        self.sprites = sprites
        self.batch = batch
        self.quantised = False
        self.restarting = False
        # Phi starts as the identity, so that a residual that is coded well leaves nothing.
        for phi in vqvae.quantize.quant_resi.qresi_ls:
            nn.init.dirac_(phi.weight)  # type: ignore[arg-type]
            nn.init.zeros_(phi.bias)  # type: ignore[arg-type]
        shape, device = vqvae.shape, sprites.device
        side = shape.patch_nums[-1]
        self.hits_V = torch.zeros(shape.vocabulary, device=device)
        self.latents_BCHW = torch.zeros(batch, shape.convolutions.latent_channels, side, side, device=device)

    def loss(self) -> Loss:
        images_BCHW, _ = self.sprites.draw(None, self.batch, "train")
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        latents_BCHW = self.vqvae.encode_latents(images_BCHW).float()
        self.latents_BCHW.copy_(latents_BCHW.detach())
        terms: dict[str, Tensor] = {}
        quantisation = latents_BCHW.new_zeros(())
        if self.quantised:
            latents_BCHW, quantisation, codes = self.vqvae.quantize(latents_BCHW)
            codes_N = torch.cat([codes_BL.flatten() for codes_BL in codes])
            self.hits_V.scatter_add_(0, codes_N, torch.ones_like(codes_N, dtype=torch.float32))
            terms["quantisation"] = quantisation
        reconstruction_BCHW = self.vqvae.decode_latents(latents_BCHW).float()
        absolute = functional.l1_loss(reconstruction_BCHW, images_BCHW)
        squared = functional.mse_loss(reconstruction_BCHW, images_BCHW)
        terms |= {"l1": absolute, "mse": squared}
        # The squared error is what PSNR counts; the absolute one keeps edges sharp.
        return absolute + 5 * squared + quantisation, terms

    @torch.no_grad()
    def begin_quantising(self) -> None:
        """Set the codebook from the residuals of the last latents by a few rounds of Lloyd's algorithm."""
        quantizer = self.vqvae.quantize
        table_VC = quantizer.embedding.weight
        table_VC.copy_(sample_rows(residual_vectors(quantizer, self.latents_BCHW), len(table_VC)))
        for _ in range(LLOYD_ITERATIONS):
            vectors_NC = sample_rows(residual_vectors(quantizer, self.latents_BCHW), 64 * len(table_VC))
            codes_N = quantizer.nearest(vectors_NC)
            counts_V = torch.zeros_like(table_VC[:, 0]).index_add_(0, codes_N, torch.ones_like(vectors_NC[:, 0]))
            sums_VC = torch.zeros_like(table_VC).index_add_(0, codes_N, vectors_NC)
            means_VC = sums_VC / counts_V[:, None].clamp(min=1)
            table_VC.copy_(torch.where(counts_V[:, None] > 0, means_VC, sample_rows([vectors_NC], len(table_VC))))
        self.quantised = self.restarting = True
        log("vqvae", "quantisation begins")

    @torch.no_grad()
    def restart_dead_codes(self) -> None:
        """Set entries that were hardly used since the last call to residuals of the last latents."""
        if self.restarting:
            table_VC = self.vqvae.quantize.embedding.weight
            dead_V = self.hits_V < DEAD_SHARE * self.hits_V.mean()
            fresh_VC = sample_rows(residual_vectors(self.vqvae.quantize, self.latents_BCHW), len(table_VC))
            table_VC.copy_(torch.where(dead_V[:, None], fresh_VC, table_VC))
        self.hits_V.zero_()

    def end_restarts(self) -> None:
        self.restarting = False


def residual_vectors(quantizer: MultiScaleQuantizer, latents_BCHW: Tensor) -> list[Tensor]:
    """Return for each scale the vectors that the codebook is asked for, `vectors_NC`."""
    residual_BCHW = latents_BCHW
    vectors = []
    for scale in range(len(quantizer.patch_nums)):
        vectors_BLC = quantizer.input_of(scale, residual_BCHW)
        vectors.append(vectors_BLC.flatten(0, 1))
        residual_BCHW = residual_BCHW - quantizer.decode_scale(scale, quantizer.nearest(vectors_BLC))
    return vectors


def sample_rows(groups: list[Tensor], count: int) -> Tensor:
    """Return `rows_NC`: `count` rows drawn with replacement, as many from each group."""
    share = -(-count // len(groups))
    rows = [group[torch.randint(len(group), (share,), device=group.device)] for group in groups]
    rows_NC = torch.cat(rows)
    return rows_NC[torch.randperm(len(rows_NC), device=rows_NC.device)[:count]]


def load_vqvae(folder: Path, device: str) -> VQVAE:
    """Return the VQVAE that this script wrote, float32, in evaluation mode."""
    patch_nums = json.loads((folder / "config.json").read_text(encoding="utf-8"))["patch_nums"]
    state = read_state(folder / "vqvae.safetensors")
    vqvae = VQVAE(read_vqvae_shape(state, patch_nums))
    load_strictly(vqvae, state, str(folder), vqvae.derivable_keys)
    return vqvae.to(device).eval().requires_grad_(False)


@torch.no_grad()
def measure(vqvae: VQVAE, sprites: RobotSprites, count: int) -> dict[str, float]:
    """Return the round trip's figures on held-out robots: mean PSNR in dB, with and without quantisation, code use."""
    generator = torch.Generator(sprites.device).manual_seed(1)
    exact, quantised, plain = [], [], []
    hits_V = torch.zeros(vqvae.shape.vocabulary, device=sprites.device)
    for start in range(0, count, 64):
        images_BCHW, _ = sprites.draw(generator, min(64, count - start), "held_out")
        codes = vqvae.encode(images_BCHW)
        codes_N = torch.cat([codes_BL.flatten() for codes_BL in codes])
        hits_V.index_add_(0, codes_N, torch.ones_like(codes_N, dtype=torch.float32))
        exact.append(images_BCHW)
        quantised.append(vqvae.decode(codes))
        plain.append(vqvae.decode_latents(vqvae.encode_latents(images_BCHW)))
    share_V = hits_V / hits_V.sum()
    return {
        "psnr_db": psnr_db(torch.cat(quantised), torch.cat(exact)),
        "psnr_unquantised_db": psnr_db(torch.cat(plain), torch.cat(exact)),
        "codes_used": int((hits_V > 0).sum()),
        "perplexity": torch.special.entr(share_V).sum().exp().item(),
        "images": count,
    }


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=4.25, batch=128, compile_flag="--no-compile")
    job = start_job(parser.parse_args(given), "var/vqvae")
    device, folder = job.device, job.folder

    vqvae = VQVAE(SHAPE).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if job.is_compiled:
        vqvae.encoder.compile(dynamic=False)
        vqvae.decoder.compile(dynamic=False)
    training = VQVAETraining(vqvae, job.sprites, job.batch)
    record = job.train(
        "vqvae",
        [vqvae],
        training.loss,
        learning_rate=1.5e-3,
        no_decay=lambda name: "embedding" in name,
        milestones={0.2: training.begin_quantising, 0.7: training.end_restarts},
        periodic=(job.count(STEPS_PER_RESTART, tiny=1), training.restart_dead_codes),
    )

    save_half(vqvae, folder / "vqvae.safetensors")
    shape = dataclasses.asdict(SHAPE)
    (folder / "config.json").write_text(json.dumps(shape, indent=1) + "\n", encoding="utf-8")
    figures = measure(load_vqvae(folder, device), job.sprites, job.count(512, tiny=8))
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    log("vqvae", " ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    job.write_card(
        "Embedded VQVAE of VAR (64 px robots)",
        {
            "What": f"multi-scale residual VQVAE, {sum(p.numel() for p in vqvae.parameters()):,} parameters, float16",
            "Data": "robots drawn from parts without end; held-out pairs of body and accessory never seen",
            "Recipe": f"batch {job.batch}, AdamW 1.5e-3, averaged weights, bf16 autocast; L1 + 5 MSE "
            "+ quantisation loss (1/4 codebook, 1/4 commitment); a fifth unquantised, codebook from residuals, dead "
            "entries set anew",
            "Round trip": f"{figures['psnr_db']:.2f} dB PSNR on {figures['images']} held-out robots "
            f"({figures['psnr_unquantised_db']:.2f} dB without quantisation); {figures['codes_used']} of "
            f"{SHAPE.vocabulary} codes used, perplexity {figures['perplexity']:.0f}",
        },
        record,
    )


if __name__ == "__main__":
    main()
