"""The next-scale arithmetic: resizing, guidance, filters, draws of codes and bits, noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.networks import next_scale
from models.networks.next_scale import bit_chances, draw, draw_bits, keep_likeliest
from models.networks.noise import Noise, noise_keys, uniform_noise
from models.networks.operations import PLAIN

FILTERS = [(0, 0.0), (12, 0.0), (0, 0.9), (20, 0.9)]


def exponential_noise(keys_B2: Tensor, tokens: int, vocabulary: int) -> Tensor:
    return uniform_noise(keys_B2, tokens, vocabulary).log().neg()


@pytest.mark.parametrize(
    ("scales", "table"),
    [(4, "0123"), (5, "01223"), (6, "001233"), (7, "0012233"), (8, "00112233"), (9, "001122233"), (10, "0011122333")],
)
def test_phi_tables_are_the_published_ones(scales: int, table: str) -> None:
    assert "".join(str(next_scale.phi_index(k, scales, 4)) for k in range(scales)) == table


@pytest.mark.parametrize("phis", [2, 3, 4, 5, 6])
def test_phi_ticks_agree_with_numpy(phis: int) -> None:
    edge = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    ticks = np.linspace(edge, 1 - edge, phis)
    for scales in range(2, 15):
        for k in range(scales):
            assert next_scale.phi_index(k, scales, phis) == int(np.argmin(np.abs(ticks - k / (scales - 1))))


@pytest.mark.parametrize(("source", "target"), [(16, 13), (16, 1), (8, 3), (16, 16)])
def test_resizing_is_torchs_area_and_bicubic(source: int, target: int) -> None:
    x_BCHW = torch.randn(2, 3, source, source)
    down = next_scale.resize(x_BCHW, next_scale.resize_matrix(source, target, "area"))
    torch.testing.assert_close(down, functional.interpolate(x_BCHW, size=(target, target), mode="area"))
    back = next_scale.resize(down, next_scale.resize_matrix(target, source, "bicubic"))
    torch.testing.assert_close(back, functional.interpolate(down, size=(source, source), mode="bicubic"))


def test_guidance_grows_from_none_to_full() -> None:
    assert [next_scale.guidance_strength(1.5, scale, 10) for scale in (0, 3, 9)] == [0.0, 0.5, 1.5]
    assert next_scale.guidance_strength(1.5, 0, 1) == 0.0
    logits_RLV = torch.randn(4, 3, 5)
    conditional, unconditional = logits_RLV.chunk(2)
    assert torch.equal(next_scale.guide(logits_RLV, 0.0), conditional)
    torch.testing.assert_close(next_scale.guide(logits_RLV, 1.5), unconditional + 2.5 * (conditional - unconditional))


def test_filters_keep_ties_and_the_likeliest() -> None:
    logits = torch.tensor([[[1.0, 2.0, 2.0, 0.0]]])
    assert keep_likeliest(logits, 1, 0.0).isfinite().tolist() == [[[False, True, True, False]]]
    assert keep_likeliest(logits, 0, 1e-6).isfinite().sum() == 2
    assert keep_likeliest(torch.tensor([[[1.0, 2.0, 2.5, 0.0]]]), 0, 1e-6).isfinite().sum() == 1
    assert keep_likeliest(logits, 0, 0.0).equal(logits)


def kept_by_sorting(logits_V: np.ndarray, top_k: int, top_p: float) -> set[int]:
    """Return what the published rule keeps: sort ascending, drop while the cumulative sum is at most 1 - top_p."""
    ascending = [int(i) for i in np.argsort(logits_V)]
    if top_k:
        ascending = ascending[-top_k:]
    if not top_p:
        return set(ascending)
    mass = np.exp(logits_V[ascending].astype(np.float64))
    cumulative = np.cumsum(mass / mass.sum())
    return {i for i, below in zip(ascending, cumulative, strict=True) if below > 1 - top_p} | {ascending[-1]}


@pytest.mark.parametrize("deviation", [0.5, 4.0])
@pytest.mark.parametrize(
    ("top_k", "top_p"),
    [(0, 0.0), (1, 0.0), (1, 0.9), (7, 0.0), (900, 0.96), (30, 0.5), (0, 0.96), (0, 0.3), (0, 1.0), (1024, 0.9)],
)
def test_filters_keep_the_set_of_the_published_rule(top_k: int, top_p: float, deviation: float) -> None:
    logits_BLV = torch.randn(4, 25, 1024, generator=torch.Generator().manual_seed(top_k)) * deviation
    kept_BLV = keep_likeliest(logits_BLV, top_k, top_p)
    assert torch.equal(kept_BLV[kept_BLV.isfinite()], logits_BLV[kept_BLV.isfinite()])
    for logits_V, kept_V in zip(logits_BLV.flatten(0, 1), kept_BLV.flatten(0, 1), strict=True):
        assert set(kept_V.isfinite().nonzero()[:, 0].tolist()) == kept_by_sorting(logits_V.numpy(), top_k, top_p)


@pytest.mark.parametrize(("top_k", "top_p"), FILTERS)
def test_a_million_draws_follow_the_truncated_distribution(top_k: int, top_p: float) -> None:
    logits_V = torch.linspace(0, 4, 32)[torch.randperm(32, generator=torch.Generator().manual_seed(0))]
    kept = sorted(kept_by_sorting(logits_V.numpy(), top_k, top_p))
    filtered_V = keep_likeliest(logits_V[None, None], top_k, top_p)[0, 0]
    share, shares = 100_000, 10
    keys_BS2 = noise_keys([top_k], shares, "cpu")
    counts_V = torch.zeros(32, dtype=torch.int64)
    for i in range(shares):
        codes_BL = draw(filtered_V.expand(1, share, 32), exponential_noise(keys_BS2[:, i], share, 32))
        counts_V += torch.bincount(codes_BL[0], minlength=32)
    assert counts_V.sum() == counts_V[kept].sum() == 1_000_000
    expected = logits_V[kept].double().softmax(0) * 1_000_000
    chi_squared = ((counts_V[kept] - expected).square() / expected).sum().item()
    freedom = len(kept) - 1
    assert chi_squared < freedom + 3.1 * math.sqrt(2 * freedom)


def test_draw_is_torchs_multinomial_given_its_noise() -> None:
    logits_BLV = torch.randn(3, 200, 300) * 3
    logits_BLV[:, :, ::7] = -math.inf
    exponentials_BLV = torch.empty_like(logits_BLV).exponential_(generator=torch.Generator().manual_seed(4))
    drawn = torch.multinomial(
        logits_BLV.softmax(-1).flatten(0, 1), 1, replacement=True, generator=torch.Generator().manual_seed(4)
    )
    assert torch.equal(draw(logits_BLV, exponentials_BLV), drawn.view(3, 200))


@pytest.mark.parametrize("sets", [1, 2])
def test_noise_of_a_batch_is_what_the_published_sampler_consumes(sets: int) -> None:
    tokens, vocabulary = [1, 4, 9, 25], 40
    noise = Noise(3, tokens, vocabulary, "cpu", sets)
    noise.fill_by_batch(11)
    generator = torch.Generator().manual_seed(11)
    for scale, count in enumerate(tokens):
        logits_BLV = torch.randn(3, count, vocabulary)
        drawn = torch.multinomial(logits_BLV.softmax(-1).view(-1, vocabulary), 1, True, generator=generator)
        assert torch.equal(draw(logits_BLV, noise.exponentials[scale]), drawn.view(3, count))
        if sets == 2:  # the Gumbel noise of more_smooth
            assert torch.equal(noise.sets[1][scale], torch.empty_like(logits_BLV).exponential_(generator=generator))


def test_noise_of_a_request_is_its_own_at_any_place_in_any_batch() -> None:
    batch, alone = Noise(3, [1, 4], 5, "cpu", sets=2), Noise(1, [1, 4], 5, "cpu")
    batch.choose_requests([8, 9, 10])
    alone.choose_requests([9])
    for noise in (batch, alone):
        noise.fill_by_request(PLAIN.fill_uniform)
    for one, other in zip(batch.exponentials, alone.exponentials, strict=True):
        assert torch.equal(one[1:2], other)
    every = torch.cat([one.flatten() for one_set in batch.sets for one in one_set])
    assert every.unique().numel() == every.numel() == 3 * 2 * (1 + 4) * 5


def test_noise_is_exponential_and_independent_between_rows() -> None:
    keys_BS2 = noise_keys([1, 2], 2, "cpu")
    noise_BN = exponential_noise(keys_BS2[:, 0], 400, 500).flatten(1)
    ordered = (-noise_BN).exp().sort(dim=1).values
    uniform = torch.linspace(0, 1, ordered.shape[1])
    assert (ordered - uniform).abs().max() < 1.63 / math.sqrt(ordered.shape[1])  # Kolmogorov-Smirnov, 1 %
    assert noise_BN.min() > 0
    for a, b in (
        (noise_BN[0], noise_BN[1]),
        (noise_BN[0, 1:], noise_BN[0, :-1]),
        (noise_BN[0, 500:], noise_BN[0, :-500]),
    ):
        assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1].item()) < 3 / math.sqrt(len(a))
    assert torch.equal(exponential_noise(keys_BS2[1:, 0], 400, 500).flatten(1)[0], noise_BN[1])


def pairs_and_noise(places: int, bits: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits_BLV = torch.randn(2, places, 2 * bits, generator=generator) * 2
    return logits_BLV, torch.empty(2, places * bits, 2).exponential_(generator=generator)


@pytest.mark.parametrize("top_k", [0, 1, 2, 900])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.7, 0.97, 1.0])
def test_bits_are_codes_drawn_from_their_pair(top_k: int, top_p: float) -> None:
    logits_BLV, exponentials_BNW = pairs_and_noise(500, 16)
    codes_BN = draw(keep_likeliest(logits_BLV.view(2, -1, 2), top_k, top_p), exponentials_BNW)
    bits_BLd = draw_bits(logits_BLV, top_k, top_p, exponentials_BNW)
    assert bits_BLd.dtype == torch.bool
    assert torch.equal(bits_BLd, codes_BN.view(2, 500, 16).bool())


@pytest.mark.parametrize("top_k", [0, 1, 2, 900])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.7, 0.97, 1.0])
def test_chances_of_bits_are_the_filtered_softmax_of_their_pair(top_k: int, top_p: float) -> None:
    pairs_BN2 = pairs_and_noise(500, 16)[0].view(2, -1, 2)
    torch.testing.assert_close(
        bit_chances(*pairs_BN2.unbind(-1), top_k, top_p), keep_likeliest(pairs_BN2, top_k, top_p).softmax(-1)[..., 1]
    )


def test_equal_bits_stay_equal_when_only_the_likelier_is_kept() -> None:
    assert bit_chances(torch.zeros(1), torch.zeros(1), 1, 0.97).item() == 0.5


@pytest.mark.parametrize(("chance", "drawn"), [(0.3, 0.3), (0.02, 0.0), (0.98, 1.0)])
def test_a_million_bits_have_the_chance_that_the_filter_left(chance: float, drawn: float) -> None:
    logits_BLV = torch.tensor([0.0, math.log(chance / (1 - chance))]).expand(1, 1_000_000, 2)
    exponentials_BNW = exponential_noise(noise_keys([5], 1, "cpu")[:, 0], 1_000_000, 2)
    ones = draw_bits(logits_BLV, 900, 0.97, exponentials_BNW).sum().item()
    assert abs(ones - drawn * 1e6) <= 3.3 * math.sqrt(1e6 * drawn * (1 - drawn))
