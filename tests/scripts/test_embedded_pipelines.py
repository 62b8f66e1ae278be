"""Embedded pipelines: written in the official layout, loaded by the benchmark's wrappers, fed the ids they learnt."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from finetuning.objective import Noising
from models import pixart, sdxl
from models.base import Request, Runtime
from scripts.embedded.diffusion import LatentPool
from scripts.embedded.judging import judge, psnr_db
from scripts.embedded.sprites import CaptionTokens, RobotSprites
from scripts.embedded.train_pixart import build_pipeline as build_pixart
from scripts.embedded.train_pixart import empty_caption_ids, save_pixart
from scripts.embedded.train_sdxl import build_pipeline as build_sdxl
from scripts.embedded.train_sdxl import build_scheduler, encode_captions, save_sdxl
from scripts.embedded.train_vae import build_vae, read_emoji, save_vae

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder whose models have random weights."""
    folder = tmp_path_factory.mktemp("assets")
    torch.manual_seed(0)
    save_vae(build_vae(), folder / "vae")
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32)
    for name, build, save in (("sdxl", build_sdxl, save_sdxl), ("pixart", build_pixart, save_pixart)):
        for tokenizer in (ASSETS / name).glob("tokenizer*"):
            shutil.copytree(tokenizer, folder / name / tokenizer.name)
        save(build(ASSETS, vae), folder / name, folder)
    return folder


@pytest.mark.parametrize("family", [sdxl.FAMILY, pixart.FAMILY], ids=["sdxl", "pixart"])
def test_the_wrapper_loads_and_generates(written: Path, family: Any) -> None:
    runtime = Runtime("tiny", "cpu", "float32", 64, written, written)
    generator = family.load(family.options(**{**family.tiny_options, "steps": 2}), runtime)
    images = generator.generate([Request(0, "a blue robot with a box head", seed=1)])
    assert images.shape == (1, 3, 64, 64)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize("name", ["sdxl", "pixart"])
def test_the_folder_is_half_size_without_vae_and_with_the_shipped_tokenizers(written: Path, name: str) -> None:
    files = list((written / name).rglob("*.safetensors"))
    assert len(files) == {"sdxl": 3, "pixart": 2}[name]
    assert {tensor.dtype for file in files for tensor in load_file(file).values()} == {torch.float16}
    assert not (written / name / "vae").exists()
    for file in (ASSETS / name).glob("tokenizer*/*"):
        assert file.read_bytes() == (written / name / file.relative_to(ASSETS / name)).read_bytes()


def tokenize_with(tokenizer: Any, prepare: Callable[[str], str]) -> Callable[[Sequence[str]], Tensor]:
    def tokenize(captions: Sequence[str]) -> Tensor:
        ids: Tensor = tokenizer(
            [prepare(caption) for caption in captions],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids

    return tokenize


def test_training_ids_are_the_tokenizers_and_no_caption_is_cut() -> None:
    from transformers import CLIPTokenizer, T5Tokenizer

    sprites = RobotSprites(ASSETS, "cpu")
    attributes_BA = sprites.random_attributes(torch.Generator().manual_seed(3), 500)
    clip = CLIPTokenizer.from_pretrained(ASSETS / "sdxl" / "tokenizer")
    t5 = T5Tokenizer.from_pretrained(ASSETS / "pixart" / "tokenizer")
    for tokenizer, prepare in ((clip, str), (t5, str.lower)):
        tokenize = tokenize_with(tokenizer, prepare)
        ids = CaptionTokens(
            sprites, tokenize, tokenizer.pad_token_id, tokenizer.eos_token_id, start_id=tokenizer.bos_token_id
        )(attributes_BA)
        assert torch.equal(ids, tokenize(sprites.captions(attributes_BA)))
        assert (ids == tokenizer.eos_token_id).any(dim=1).all()
        assert tokenizer.decode(ids[0], skip_special_tokens=True).startswith("a")


def test_noising_ends_in_pure_noise_and_predicts_v() -> None:
    noising = Noising(build_scheduler(), "cpu")
    latents = torch.randn(1000, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    noised, timesteps_B, target = noising.draw(latents)
    assert timesteps_B.tolist() == list(range(1000))
    # v at the last step, where no signal is left, is the negative image; x_t there is the noise itself.
    torch.testing.assert_close(target[-1], -latents[-1], atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(noised.var(dim=(1, 2, 3)).mean(), torch.tensor(1.0), atol=0.02, rtol=0)


def test_the_pool_pairs_latents_with_their_robots() -> None:
    sprites = RobotSprites(ASSETS, "cpu")

    class Colours:
        """A VAE whose latent is the image's mean colour."""

        class config:  # noqa: N801
            scaling_factor = 2.0

        def encode(self, images_BCHW: Tensor) -> Any:
            mean = images_BCHW.mean(dim=(2, 3), keepdim=True).expand(-1, 3, 16, 16)

            class Latent:
                class latent_dist:  # noqa: N801
                    @staticmethod
                    def mode() -> Tensor:
                        return torch.cat([mean, mean[:, :1]], dim=1)

            return Latent

    pool = LatentPool(sprites, Colours(), batch=8, size=20)
    for _ in range(5):
        latents, attributes_BA = pool.draw()
        expected = 2 * sprites.compose(attributes_BA).mean(dim=(2, 3))
        torch.testing.assert_close(latents[:, :3, 0, 0], expected)
        assert not any(sprites.grammar.is_held_out(row) for row in attributes_BA.tolist())


def test_a_perfect_image_is_judged_perfect() -> None:
    sprites = RobotSprites(ASSETS, "cpu")
    images, attributes_BA = sprites.draw(torch.Generator().manual_seed(0), 8)

    class Knows:
        def predict(self, images_BCHW: Tensor) -> Tensor:
            return attributes_BA[: len(images_BCHW)]

    found = judge(images, images, attributes_BA, Knows())  # type: ignore[arg-type]
    assert found.all_right == 100
    assert psnr_db(images + 0.02, images) == pytest.approx(40, abs=1.5)


def test_the_emoji_of_a_split_are_read_as_images() -> None:
    assert read_emoji(ASSETS, "test", limit=3).shape == (3, 3, 64, 64)


@torch.no_grad()
def test_training_conditions_sdxl_as_its_pipeline_does(written: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    vae = AutoencoderKL.from_pretrained(written / "vae", dtype=torch.float32)
    pipeline = StableDiffusionXLPipeline.from_pretrained(written / "sdxl", vae=vae, dtype=torch.float32)
    text, empty, pooled, empty_pooled = pipeline.encode_prompt("an orange robot with a box head", device="cpu")
    trained_text, trained_pooled = encode_captions(
        pipeline.text_encoder,
        pipeline.text_encoder_2,
        tokenize_with(pipeline.tokenizer, str)(["an orange robot with a box head"]),
    )
    torch.testing.assert_close(trained_text, text)
    torch.testing.assert_close(trained_pooled, pooled)
    # Dropped captions are zeros in training.
    assert empty.abs().max() == 0
    assert empty_pooled.abs().max() == 0


@torch.no_grad()
def test_training_conditions_pixart_as_its_pipeline_does(written: Path) -> None:
    from diffusers import PixArtSigmaPipeline

    vae = AutoencoderKL.from_pretrained(written / "vae", dtype=torch.float32)
    pipeline = PixArtSigmaPipeline.from_pretrained(written / "pixart", vae=vae, dtype=torch.float32)
    text, mask, empty, empty_mask = pipeline.encode_prompt("a robot, a TV aerial", max_sequence_length=40, device="cpu")
    ids = tokenize_with(pipeline.tokenizer, str.lower)(["a robot, a TV aerial"])
    empty_ids = empty_caption_ids(pipeline.tokenizer)[None]
    for expected, expected_mask, trained in ((text, mask, ids), (empty, empty_mask, empty_ids)):
        trained_mask = (trained != pipeline.tokenizer.pad_token_id).long()
        assert torch.equal(trained_mask, expected_mask.long())
        torch.testing.assert_close(pipeline.text_encoder(trained, attention_mask=trained_mask)[0], expected)


def test_what_ships_is_at_most_40_mb() -> None:
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) <= 40_000_000
