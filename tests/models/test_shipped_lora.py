"""The emoji LoRA that ships: it fits the embedded PixArt, and knows what it was trained on."""

from pathlib import Path

import torch
from diffusers import PixArtTransformer2DModel

from benchmark.datasets.emoji import Emoji
from models.adapters import read_training_data
from models.pixart_lora import fuse_adapter

ASSETS = Path(__file__).resolve().parents[2] / "assets"
LORA = ASSETS / "emoji_lora"


def test_it_fits_the_embedded_transformer_and_changes_its_answer() -> None:
    transformer = PixArtTransformer2DModel.from_pretrained(ASSETS / "pixart" / "transformer", dtype=torch.float32)
    before = {name: weight.clone() for name, weight in transformer.state_dict().items()}
    fused, note = fuse_adapter(transformer.eval(), LORA)
    assert note.startswith("fused; answers as unfused")
    changed = [name for name, weight in fused.state_dict().items() if not torch.equal(weight, before[name])]
    assert len(changed) == 76
    assert all(name.endswith(".weight") for name in changed)


def test_its_record_holds_the_training_captions_and_no_others() -> None:
    data = read_training_data(LORA)
    assert data is not None
    emoji = Emoji(ASSETS)
    seen = [data.holds_caption(emoji.caption(row)) for row in range(len(emoji))]
    assert seen == [emoji.split(row) == "train" for row in range(len(emoji))]
    assert len(data.pictures) == sum(seen)
