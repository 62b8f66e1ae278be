"""Trains the embedded Infinity on captioned robots, over the trained tokenizer's bits: assets/infinity.

    python -m scripts.embedded.train_infinity

Needs assets/infinity/vae (train_bsq_vae.py) and the text encoder of assets/pixart, which stays as it is. Where
assets/attributes is there, the generated robots are judged at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from metrics.extractors.attribute_network import load_attribute_network
from models.base import Request, Runtime
from models.infinity import InfinityOptions, load_embedded
from models.infinity_files import save_embedded
from models.infinity_text import TextEncoder, load_tiny_text_encoder
from models.networks.bsq_vae import BSQVAE
from models.networks.infinity_transformer import Infinity, InfinityShape, Text
from models.networks.next_scale import Grid, Schedule
from scripts.embedded.bitwise import FlatScales
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.judging import Judgement, judge
from scripts.embedded.sprites import CaptionTokens, RobotSprites
from scripts.embedded.train_bsq_vae import load_tokenizer
from scripts.embedded.training import Loss, log

DEPTH, WIDTH, HEADS, HIDDEN, TEXT_TOKENS = 6, 160, 5, 480, 40
DROPPED_CAPTIONS = 0.1
MOST_FLIPPED = 0.2
JUDGED_CFG = (1.0, 1.5, 2.0, 3.0)
JUDGED_TAU = (1.0, 0.5)
JUDGE_BATCH = 128


def schedule_of(grids: Sequence[Grid]) -> Schedule:
    """Return the schedule of these grids; all scales span the coordinates of the last one."""
    return Schedule(tuple(grids), grids[-1])


class InfinityTraining:
    """The training step: draw captioned robots, make bits of them, predict the bits of all scales at once."""

    def __init__(
        self,
        infinity: Infinity,
        vae: BSQVAE,
        schedule: Schedule,
        encoder: TextEncoder,
        sprites: RobotSprites,
        batch: int,
        compiled: bool = False,
    ) -> None:
        self.infinity, self.vae, self.encoder, self.sprites, self.batch = infinity, vae, encoder, sprites, batch
        self.scales = FlatScales(schedule.grids, sprites.device)
        self.tokens = caption_tokens(sprites, encoder, infinity.shape.text_tokens)
        self.schedule, self.places = schedule, infinity.places(schedule)
        self.cross_entropy = torch.compile(self._cross_entropy, dynamic=False) if compiled else self._cross_entropy

    def loss(self) -> Loss:
        images_BCHW, attributes_BA = self.sprites.draw(None, self.batch, "train")
        dropped_B = torch.rand(self.batch, device=images_BCHW.device) < DROPPED_CAPTIONS
        # The tokenizer is in bfloat16 already; the signs, and the text as it will be encoded, want float32.
        with torch.no_grad(), torch.autocast(images_BCHW.device.type, enabled=False):
            inputs_BLd, bits_BLd = self.draw_bits(images_BCHW)
            features_BTt, mask_BT = self.encode_text(attributes_BA)
        loss, right = self.cross_entropy(features_BTt, mask_BT, dropped_B, inputs_BLd, bits_BLd)
        return loss, {"bits_right": right}

    def draw_bits(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transformer's inputs for these images, some of their bits flipped, and the bits to predict."""
        latents_BdHW = self.vae.encode_latents(images_BCHW.contiguous(memory_format=torch.channels_last)).float()
        walk = self.scales.walk(latents_BdHW.flatten(2), MOST_FLIPPED)
        return self.scales.inputs(walk.sums).contiguous(), torch.cat(walk.bits, dim=2).transpose(1, 2).contiguous()

    def encode_text(self, attributes_BA: Tensor) -> Text:
        """Return the features of the full captions of these robots."""
        ids_BT = self.tokens(attributes_BA)
        return self.encoder.features(ids_BT, ids_BT != self.encoder.tokenizer.pad_token_id)

    def logits(self, text: Text, inputs_BLd: Tensor) -> Tensor:
        """Return `logits_BLV` of all tokens at once."""
        return self.infinity.forward_teacher_forced(text, inputs_BLd, self.schedule, self.places)

    def _cross_entropy(
        self, features_BTt: Tensor, mask_BT: Tensor, dropped_B: Tensor, inputs_BLd: Tensor, bits_BLd: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of a bit, in nats, and the share of bits whose likelier value is the right one."""
        # The row of no prompt has as many tokens as the caption that it stands for.
        features_BTt = torch.where(dropped_B[:, None, None], self.infinity.cfg_uncond, features_BTt)
        logits_BLd2 = self.logits(Text(features_BTt, mask_BT), inputs_BLd).float().view(*bits_BLd.shape, 2)
        zero_BLd, one_BLd = logits_BLd2.unbind(-1)
        # The softmax over two values is the logistic function of their difference.
        loss = functional.binary_cross_entropy_with_logits(one_BLd - zero_BLd, bits_BLd.float())
        return loss, ((one_BLd > zero_BLd) == bits_BLd).float().mean()


def caption_tokens(sprites: RobotSprites, encoder: TextEncoder, tokens: int) -> CaptionTokens:
    """Return the maker of the ids that the encoder's tokenizer gives for full captions, padded to so many tokens."""
    tokenizer = encoder.tokenizer
    return CaptionTokens(
        sprites, lambda captions: encoder.tokenize(captions, tokens)[0], tokenizer.pad_token_id, tokenizer.eos_token_id
    )


def judge_settings(folder: Path, assets: Path, sprites: RobotSprites, count: int) -> dict[str, Judgement]:
    """Return what is right in robots of held-out captions, generated by the model in `folder`, setting by setting."""
    device = sprites.device
    network = load_attribute_network(assets, device)
    runtime = Runtime("tiny", device, "float32", 64, assets, assets)
    attributes_BA = sprites.random_attributes(torch.Generator(device).manual_seed(7), count, "held_out")
    exact_BCHW = sprites.compose(attributes_BA)
    requests = [Request(i, caption, seed=i) for i, caption in enumerate(sprites.captions(attributes_BA))]
    settings = {
        f"cfg {cfg} tau {tau}": InfinityOptions(cfg=cfg, tau=tau, top_p=0) for cfg in JUDGED_CFG for tau in JUDGED_TAU
    }
    # Every bit the likelier way round: what the transformer knows, without the draw.
    settings["cfg 1.0 top_k 1"] = InfinityOptions(cfg=1.0, tau=1.0, top_k=1, top_p=0)
    found = {}
    for name, options in settings.items():
        generator = load_embedded(folder, options, runtime)
        batches = [requests[start : start + JUDGE_BATCH] for start in range(0, count, JUDGE_BATCH)]
        images_BCHW = torch.cat([generator.generate(batch) for batch in batches]).float() / 127.5 - 1
        found[name] = judge(images_BCHW, exact_BCHW, attributes_BA, network)
        log("infinity", f"{name}: {found[name].text()}")
    return found


def figures_of(found: Judgement) -> dict[str, float]:
    """Return a judgement as metrics.json holds it."""
    parts = {f"{part}_right_percent": share for part, share in found.parts.items()}
    return {"images": found.images, "all_right_percent": found.all_right, "psnr_db": found.psnr_db, **parts}


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=4.75, batch=128, compile_flag="--no-compile")
    parser.add_argument("--vae", type=Path, help="the trained tokenizer's folder (default: vae in the model's folder)")
    arguments = parser.parse_args(given)
    job = start_job(arguments, "infinity")
    assets, device, folder, sprites = job.assets, job.device, job.folder, job.sprites

    encoder = load_tiny_text_encoder(assets, device)
    tokenizer_folder: Path = arguments.vae or folder / "vae"
    vae, grids = load_tokenizer(tokenizer_folder, device)
    shape = InfinityShape(
        depth=DEPTH,
        width=WIDTH,
        heads=HEADS,
        hidden=HIDDEN,
        text_width=encoder.width,
        text_tokens=TEXT_TOKENS,
        text_heads=HEADS,
        bits=vae.shape.latent_channels,
        levels=len(grids),
    )
    infinity = Infinity(shape).to(device)
    encoding_vae = vae
    if job.on_cuda:
        encoding_vae = load_tokenizer(tokenizer_folder, device)[0].cast(torch.bfloat16)
        encoding_vae.to(memory_format=torch.channels_last)
    if job.is_compiled:
        encoding_vae.encoder.compile(dynamic=False)
    training = InfinityTraining(
        infinity, encoding_vae, schedule_of(grids), encoder, sprites, job.batch, job.is_compiled
    )
    record = job.train(
        "infinity",
        [infinity],
        training.loss,
        weight_decay=0.05,
        no_decay=lambda name: any(
            word in name for word in ("pos_start", "cfg_uncond", "lvl_embed", "ada_gss", "sos.ca.mat_q", "scale_mul")
        ),
    )

    save_embedded(folder, infinity, vae, grids)
    facts: dict[str, object] = {
        "What": f"Infinity transformer of depth {DEPTH}, width {WIDTH}, {infinity.parameter_count:,} parameters, "
        f"float16, {shape.bits} bits a token; its tokenizer lies in vae, its text encoder in assets/pixart",
        "Data": "robots drawn on the device and their full captions, held-out pairs of body and accessory left out",
        "Recipe": f"batch {job.batch}, AdamW 1e-3, averaged weights, bf16 autocast; cross-entropy of each bit "
        f"over all scales, {100 * DROPPED_CAPTIONS:.0f} % of the captions dropped, up to {100 * MOST_FLIPPED:.0f} % of "
        "the bits of each scale flipped in the inputs (bitwise self-correction)",
        "Judged": "not yet",
    }
    title = "Embedded Infinity (64 px robots)"
    # Before the judging, so that what was trained has its card whatever happens there.
    job.write_card(title, facts, record)
    if not job.is_judged:
        log("infinity", "not judged: assets/attributes is not there")
        return
    found = judge_settings(folder, assets, sprites, job.count(512, tiny=4))
    metrics = {name: figures_of(judgement) for name, judgement in found.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    best = max(found, key=lambda name: (found[name].all_right, found[name].psnr_db))
    facts["Judged"] = f"best of {len(found)} settings, {best}: {found[best].text()}"
    job.write_card(title, facts, record)
    log("infinity", facts["Judged"])  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
