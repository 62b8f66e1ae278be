"""Infinity's trainings: the walk over bits is the sampler's, wrong bits are corrected, losses fall, all is saved."""

import json
from pathlib import Path

import pytest
import torch

from models.base import Request, Runtime
from models.infinity import FAMILY, load_embedded
from models.infinity_text import TextEncoder, load_tiny_text_encoder
from models.networks.bsq_vae import BSQVAE, BitwiseScales
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity, InfinityShape
from scripts.embedded import train_bsq_vae, train_infinity
from scripts.embedded.bitwise import FlatScales
from scripts.embedded.job import ASSETS
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.train_bsq_vae import BSQVAETraining, entropy_in_bits, quantise
from scripts.embedded.train_infinity import InfinityTraining, schedule_of
from scripts.embedded.training import Budget, train

GRIDS = ((1, 1), (2, 2), (3, 5), (8, 8), (16, 16))
TINY_GRIDS = ((1, 1), (4, 4), (16, 16))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def sprites() -> RobotSprites:
    return RobotSprites(ASSETS, "cpu")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_tiny_text_encoder(ASSETS, "cpu")


def tiny_vae() -> BSQVAE:
    torch.manual_seed(0)
    return BSQVAE(ConvolutionShape((32, 32, 32), 1, 8, attention=False, middle_attention=False))


def tiny_training(sprites: RobotSprites, encoder: TextEncoder) -> InfinityTraining:
    vae = tiny_vae().requires_grad_(False)
    shape = InfinityShape(2, 32, 2, 64, encoder.width, 40, 2, bits=8, levels=len(TINY_GRIDS))
    return InfinityTraining(Infinity(shape), vae, schedule_of(TINY_GRIDS), encoder, sprites, batch=4)


def test_a_walk_without_flips_finds_what_the_sampler_and_the_tokenizer_know() -> None:
    latents_BdHW = torch.randn(3, 8, 16, 16, generator=seeded())
    flat, scales = FlatScales(GRIDS, "cpu"), BitwiseScales(GRIDS)
    walk = flat.walk(latents_BdHW.flatten(2))
    bits = scales.encode(latents_BdHW)
    for found_Bdn, expected_BLd in zip(walk.bits, bits, strict=True):
        assert torch.equal(found_Bdn.transpose(1, 2), expected_BLd)
    torch.testing.assert_close(walk.sums[-1], scales.sums(bits)[-1].flatten(2))
    torch.testing.assert_close(flat.inputs(walk.sums), scales.teacher_inputs(bits))


def test_flips_are_in_the_estimates_and_never_in_what_a_scale_is_asked_for() -> None:
    latents_BdN = torch.randn(64, 8, 256, generator=seeded())
    flat = FlatScales(GRIDS, "cpu")
    torch.manual_seed(0)
    plain, flipped = flat.walk(latents_BdN), flat.walk(latents_BdN, most_flipped=0.2)
    assert torch.equal(flipped.bits[0], plain.bits[0])
    for residual_Bdn, bits_Bdn in zip(flipped.residuals, flipped.bits, strict=True):
        assert torch.equal(residual_Bdn > 0, bits_Bdn)
    # The last scale adds whole signs: a tenth of them, on average over images, stands the wrong way round.
    added_BdN = flipped.sums[-1] - flipped.sums[-2]
    wrong = ((added_BdN > 0) != flipped.bits[-1]).float().mean(dim=(1, 2))
    assert 0.07 < wrong.mean() < 0.13
    assert wrong.max() <= 0.25
    assert wrong.min() < 0.03


def test_later_scales_correct_flipped_bits() -> None:
    # Latents that four scales of bits reach, so that what is left tells how well the estimate is.
    latents_BdN = 0.2 * torch.randn(32, 8, 256, generator=seeded())
    flat = FlatScales([(16, 16)] * 2 + [(16, 16)], "cpu")
    magnitude = 8**-0.5
    first_BdN = latents_BdN > 0
    wrong_BdN = ~first_BdN
    # Told the wrong sign at first, the next scale is asked for the opposite of what it would be asked for otherwise.
    left_BdN = latents_BdN - (wrong_BdN.float() * 2 - 1) * magnitude
    assert torch.equal(left_BdN > 0, first_BdN)
    torch.manual_seed(0)
    flipped = flat.walk(latents_BdN, most_flipped=0.2)
    after_first, after_last = ((latents_BdN - flipped.sums[k]).abs() for k in (0, 1))
    wrong_at_first = after_first > 1.01 * magnitude + 0.2
    assert wrong_at_first.any()
    assert after_last[wrong_at_first].mean() < 0.8 * after_first[wrong_at_first].mean()


def test_gradients_pass_straight_through_the_bits_and_commitment_pulls_to_them() -> None:
    latents_BdHW = torch.randn(2, 8, 16, 16, generator=seeded()).requires_grad_()
    estimate_BdHW, commitment, _ = quantise(FlatScales(GRIDS, "cpu"), latents_BdHW)
    scales = BitwiseScales(GRIDS)
    torch.testing.assert_close(estimate_BdHW, scales.sums(scales.encode(latents_BdHW.detach()))[-1])
    weights = torch.randn(estimate_BdHW.shape, generator=seeded(1))
    (through,) = torch.autograd.grad((estimate_BdHW * weights).sum(), latents_BdHW)
    torch.testing.assert_close(through, weights)
    (pull,) = torch.autograd.grad(commitment, latents_BdHW)
    torch.testing.assert_close(pull, 2 * (latents_BdHW - estimate_BdHW).detach() / latents_BdHW.numel())


def test_imbalance_is_nothing_for_even_bits_and_all_for_constant_ones() -> None:
    flat = FlatScales([(1, 1), (16, 16)], "cpu")
    even_BdHW = (
        torch.randn(64, 8, 16, 16, generator=seeded()) + torch.tensor([1.0, -1.0]).repeat(32)[:, None, None, None]
    )
    assert quantise(flat, even_BdHW)[2] < 0.05
    assert quantise(flat, torch.full((4, 8, 16, 16), 9.0))[2] > 0.9
    torch.testing.assert_close(entropy_in_bits(torch.tensor([0.5, 0.0, 0.25])), torch.tensor([1.0, 0.0, 0.811278]))


def test_the_tokenizers_loss_falls_and_the_decoder_then_sees_the_bits(sprites: RobotSprites) -> None:
    training = BSQVAETraining(tiny_vae(), TINY_GRIDS, sprites, batch=4)
    with torch.no_grad():
        before, _ = training.loss()
    train("vae", [training.vae], training.loss, Budget(1, steps=12), "cpu", milestones={0.5: training.begin_quantising})
    assert training.quantised
    with torch.no_grad():
        after, terms = training.loss()
    assert after < 0.8 * before
    assert set(terms) == {"l1", "mse", "commitment", "imbalance"}


def test_the_training_step_is_the_teacher_forced_transformer(sprites: RobotSprites, encoder: TextEncoder) -> None:
    training = tiny_training(sprites, encoder)
    images_BCHW, attributes_BA = sprites.draw(seeded(), 2)
    text = training.encode_text(attributes_BA)
    inputs_BLd, _ = training.draw_bits(images_BCHW)
    expected_BLV = training.infinity.forward_teacher_forced(text, inputs_BLd, schedule_of(TINY_GRIDS))
    torch.testing.assert_close(training.logits(text, inputs_BLd), expected_BLV)


def test_training_reads_captions_as_the_wrapper_encodes_them(sprites: RobotSprites, encoder: TextEncoder) -> None:
    attributes_BA = sprites.random_attributes(seeded(), 8)
    trained = tiny_training(sprites, encoder).encode_text(attributes_BA)
    encoded = encoder.encode(sprites.captions(attributes_BA), 40)
    torch.testing.assert_close(trained.features_RTt, encoded.features_RTt)
    assert torch.equal(trained.mask_RT, encoded.mask_RT)


def test_a_dropped_caption_is_the_samplers_row_of_no_prompt(sprites: RobotSprites, encoder: TextEncoder) -> None:
    training = tiny_training(sprites, encoder)
    images_BCHW, attributes_BA = sprites.draw(seeded(), 4)
    text = training.encode_text(attributes_BA)
    inputs_BLd, bits_BLd = training.draw_bits(images_BCHW)
    loss, _ = training.cross_entropy(*text, torch.ones(4, dtype=torch.bool), inputs_BLd, bits_BLd)
    both = training.infinity.with_unconditional(text)
    unconditional = type(text)(both.features_RTt[4:], both.mask_RT[4:])
    logits_BLd2 = training.logits(unconditional, inputs_BLd).view(*bits_BLd.shape, 2)
    expected = torch.nn.functional.cross_entropy(logits_BLd2.flatten(0, 2), bits_BLd.flatten().long())
    torch.testing.assert_close(loss, expected)


def test_the_step_is_one_graph_without_breaks(sprites: RobotSprites, encoder: TextEncoder) -> None:
    training = tiny_training(sprites, encoder)
    images_BCHW, attributes_BA = sprites.draw(seeded(), 4)
    step = (*training.encode_text(attributes_BA), torch.zeros(4, dtype=torch.bool), *training.draw_bits(images_BCHW))
    compiled = torch.compile(training.cross_entropy, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(*step)[0], training.cross_entropy(*step)[0])


def test_infinitys_loss_falls_below_that_of_a_coin(sprites: RobotSprites, encoder: TextEncoder) -> None:
    torch.manual_seed(0)
    training = tiny_training(sprites, encoder)
    frozen = {key: value.clone() for key, value in encoder.network.state_dict().items()}
    train("infinity", [training.infinity], training.loss, Budget(1, steps=80), "cpu", learning_rate=1e-2, ema_decay=0.9)
    with torch.no_grad():
        losses = torch.stack([training.loss()[0] for _ in range(4)])
    # ln 2 is that of guessing.
    assert losses.mean() < 0.65
    assert all(torch.equal(value, frozen[key]) for key, value in encoder.network.state_dict().items())


def test_the_tiny_runs_write_a_folder_that_loads_and_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_infinity, "JUDGED_CFG", (1.5,))
    common = ["--tiny", "--device", "cpu", "--assets", str(ASSETS)]
    train_bsq_vae.main([*common, "--output", str(tmp_path / "vae")])
    train_infinity.main([*common, "--output", str(tmp_path)])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"grids": [[side, side] for side in (1, 2, 3, 4, 6, 8, 12, 16)], "text_tokens": 40}
    assert "all right" in (tmp_path / "MODEL_CARD.md").read_text()
    assert len(json.loads((tmp_path / "metrics.json").read_text())) == 3
    options = FAMILY.options(**FAMILY.tiny_options)
    generator = load_embedded(tmp_path, options, Runtime("tiny", "cpu", "float32", 64, ASSETS, tmp_path))
    assert generator.parameters < 5_500_000
    images_BCHW = generator.generate([Request(0, "a blue robot with a box head", 1), Request(1, "a pink robot", 2)])
    assert images_BCHW.shape == (2, 3, 64, 64)
    assert images_BCHW.dtype == torch.uint8
