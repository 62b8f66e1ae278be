"""Trains the embedded VAR on robots of 100 classes, over the trained VQVAE's codes: assets/var.

    python -m scripts.embedded.train_var

Needs assets/var/vqvae (train_vqvae.py). Where assets/attributes is there, the generated robots are judged at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from metrics.extractors.attribute_network import load_attribute_network
from metrics.robots.grammar import PARTS
from models.base import Request, Runtime
from models.networks.var_transformer import VAR, VARShape
from models.networks.vqvae import VQVAE
from models.var import FAMILY, VAROptions, load_embedded
from models.var_files import save_embedded
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.train_vqvae import load_vqvae
from scripts.embedded.training import Loss, log

DEPTH, WIDTH, HEADS = 5, 192, 3
DROPPED_CLASSES = 0.1
# Judged beside the shipped setting, to see what guidance costs in variety.
OTHER_GUIDANCE = (0.0, 0.5, 1.0)


class VARTraining:
    """The training step: draw robots, make codes of them, predict the codes of all scales at once."""

    def __init__(self, var: VAR, vqvae: VQVAE, sprites: RobotSprites, batch: int, compiled: bool) -> None:
        self.vqvae = vqvae
        self.sprites = sprites
        self.batch = batch
        self.unconditional = var.shape.classes

        def cross_entropy(labels_B: Tensor, inputs_BLc: Tensor, codes_BL: Tensor) -> Tensor:
            logits_BLV = var.forward_teacher_forced(labels_B, inputs_BLc)
            return functional.cross_entropy(logits_BLV.flatten(0, 1), codes_BL.flatten())

        self.cross_entropy = torch.compile(cross_entropy, dynamic=False) if compiled else cross_entropy

    def loss(self) -> Loss:
        images_BCHW, attributes_BA = self.sprites.draw(None, self.batch, "train")
        labels_B = self.sprites.class_labels(attributes_BA)
        dropped_B = torch.rand(self.batch, device=labels_B.device) < DROPPED_CLASSES
        labels_B = torch.where(dropped_B, self.unconditional, labels_B)
        # The VQVAE is in bfloat16 already, and its quantiser wants float32.
        with torch.no_grad(), torch.autocast(labels_B.device.type, enabled=False):
            codes = self.vqvae.encode(images_BCHW.contiguous(memory_format=torch.channels_last))
            inputs_BLc = self.vqvae.quantize.teacher_inputs(codes)
        loss: Tensor = self.cross_entropy(labels_B, inputs_BLc, torch.cat(codes, dim=1))
        return loss


def judge(folder: Path, assets: Path, device: str, count: int, cfg: float) -> dict[str, float]:
    """Return what the attribute network sees in robots of all classes in turn, generated with this guidance.

    Shares of colour and head that are the class's own, and for each other part chi-squared per degree of freedom
    against equal shares (about 1 where the parts are spread as in the data).
    """
    network = load_attribute_network(assets, device)
    runtime = Runtime("tiny", device, "float32", 64, assets, assets, label_names=robot_classes(assets))
    generator = load_embedded(folder, replace(tiny_options(), cfg=cfg), runtime)
    requests = [Request(i, "", seed=i, class_label=i % len(generator.class_names)) for i in range(count)]
    seen = []
    for start in range(0, count, 64):
        images_BCHW = generator.generate(requests[start : start + 64])
        seen.append(network.predict(images_BCHW.float() / 127.5 - 1).cpu())
    seen_NA = torch.cat(seen)
    asked_N = torch.tensor([request.class_label for request in requests])
    heads = network.options[1]
    figures: dict[str, float] = {
        "images": count,
        "colour_right": (seen_NA[:, 0] == asked_N // heads).double().mean().item(),
        "head_right": (seen_NA[:, 1] == asked_N % heads).double().mean().item(),
    }
    for part, options, seen_N in zip(PARTS[2:], network.options[2:], seen_NA.T[2:], strict=True):
        counts = torch.bincount(seen_N, minlength=options).double()
        expected = count / options
        figures[f"{part}_chi_squared_per_dof"] = ((counts - expected) ** 2 / expected).sum().item() / (options - 1)
    return figures


def tiny_options() -> VAROptions:
    """Return the settings that the benchmark runs the embedded model with."""
    return VAROptions(**FAMILY.tiny_options)  # type: ignore[arg-type]


def robot_classes(assets: Path) -> tuple[str, ...]:
    from metrics.robots.grammar import load_grammar

    return load_grammar(assets).class_names


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=5.25, batch=256, compile_flag="--no-compile")
    parser.add_argument("--vqvae", type=Path, help="the trained VQVAE's folder (default: vqvae in the model's folder)")
    arguments = parser.parse_args(given)
    job = start_job(arguments, "var")
    device, folder = job.device, job.folder

    class_names = robot_classes(job.assets)
    vqvae = load_vqvae(arguments.vqvae or folder / "vqvae", device)
    if job.on_cuda:
        vqvae = vqvae.cast(torch.bfloat16).to(memory_format=torch.channels_last)
        if job.is_compiled:
            vqvae.encoder.compile(dynamic=False)
    shape = VARShape(
        depth=DEPTH,
        width=WIDTH,
        heads=HEADS,
        patch_nums=vqvae.shape.patch_nums,
        codebook_dim=vqvae.shape.convolutions.latent_channels,
        vocabulary=vqvae.shape.vocabulary,
        classes=len(class_names),
    )
    var = VAR(shape).to(device)
    training = VARTraining(var, vqvae, job.sprites, job.batch, compiled=job.is_compiled)
    record = job.train(
        "var",
        [var],
        training.loss,
        weight_decay=0.05,
        no_decay=lambda name: any(word in name for word in ("pos_", "class_emb", "lvl_embed", "scale_mul")),
    )

    save_embedded(folder, var, class_names)
    facts: dict[str, object] = {
        "What": f"VAR transformer of depth {DEPTH}, width {WIDTH}, {var.parameter_count:,} parameters, float16; "
        f"{len(class_names)} classes (colour and head)",
        "Data": "robots drawn from parts without end; held-out pairs of body and accessory never seen",
        "Recipe": f"batch {job.batch}, AdamW 1e-3, averaged weights, bf16 autocast; cross-entropy over all "
        f"scales, {100 * DROPPED_CLASSES:.0f} % of the classes dropped",
    }
    if job.is_judged:
        shipped = tiny_options().cfg
        by_cfg = {}
        for cfg in sorted({*OTHER_GUIDANCE, shipped}):
            by_cfg[f"cfg {cfg}"] = judge(folder, job.assets, device, job.count(512, tiny=8), cfg)
            log("var", f"cfg {cfg} " + " ".join(f"{key} {value:.4g}" for key, value in by_cfg[f"cfg {cfg}"].items()))
        (folder / "metrics.json").write_text(json.dumps(by_cfg, indent=1) + "\n", encoding="utf-8")
        figures = by_cfg[f"cfg {shipped}"]
        facts["Judged"] = (
            f"by the attribute network on {figures['images']} class requests, cfg {shipped}: colour right "
            f"{100 * figures['colour_right']:.1f} %, head right {100 * figures['head_right']:.1f} %; chi-squared per "
            "degree of freedom against equal shares: "
            + ", ".join(f"{part} {figures[f'{part}_chi_squared_per_dof']:.2f}" for part in PARTS[2:])
        )
    else:
        log("var", "not judged: assets/attributes is not there")
        facts["Judged"] = "not yet"
    job.write_card("Embedded VAR (64 px robots)", facts, record)


if __name__ == "__main__":
    main()
