"""The emoji LoRA that ships: it fits the embedded PixArt, and knows what it was trained on."""

from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel

from benchmark.data.sources.emoji import Emoji
from models import pixart
from models.base import Request, Runtime
from models.loras.files import read_training_data
from models.pixart_lora import fuse_lora

ASSETS = Path(__file__).resolve().parents[2] / "assets"
LORA = ASSETS / "emoji_lora"


def test_it_fits_the_embedded_transformer_and_changes_its_answer() -> None:
    transformer = PixArtTransformer2DModel.from_pretrained(ASSETS / "pixart" / "transformer", dtype=torch.float32)
    before = {name: weight.clone() for name, weight in transformer.state_dict().items()}
    fused, note = fuse_lora(transformer.eval(), LORA)
    assert note.startswith("fused into the weights: ")
    changed = [name for name, weight in fused.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(changed) == 76
    assert all(name.endswith(".weight") for name in changed)


def test_it_draws_on_white_as_emoji_are_where_its_base_does_not() -> None:
    runtime = Runtime("tiny", "cpu", "float32", 0, ASSETS, ASSETS)
    emoji = Emoji(ASSETS)
    held_out = [row for row in range(len(emoji)) if emoji.split(row) == "test"][:6]
    requests = [Request(row, emoji.caption(row), seed=row) for row in held_out]
    edges = {}
    for lora in ("", str(LORA)):
        generator = pixart.FAMILY.load(pixart.Options(steps=6, guidance=1.5, lora=lora), runtime)
        images = generator.generate(requests).float() / 255
        sides = torch.cat([images[..., :3].flatten(1), images[..., -3:].flatten(1)], dim=1)
        edges[lora] = sides.mean(dim=1).median()
    assert edges[str(LORA)] > 0.9
    assert edges[""] < 0.75


def test_its_record_holds_the_training_captions_and_no_others() -> None:
    data = read_training_data(LORA)
    assert data is not None
    emoji = Emoji(ASSETS)
    seen = [data.holds_caption(emoji.caption(row)) for row in range(len(emoji))]
    assert seen == [emoji.split(row) == "train" for row in range(len(emoji))]
    assert len(data.images) == sum(seen)
