"""What only a GPU can show of VAR and Infinity: graphs of fused kernels draw what the plain path draws."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from embedded_models import ASSETS, load, make_requests
from torch import Tensor

from metrics.extractors.attribute_network import load_attribute_network
from models.base import Request
from models.networks.cuda_graphs import CAPACITY
from models.next_scale_programs import VARProgram

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICE = "cuda"
PICTURES = 2048
PERMUTATIONS = 999


@pytest.fixture(autouse=True)
def _full_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def test_the_fast_path_draws_the_plain_images_in_float32(tmp_path: Path) -> None:
    plain, fast = load("var", DEVICE, tmp_path), load("var", DEVICE, tmp_path, mode="compiled")
    for start, end in ((0, 8), (8, 16), (16, 17)):
        asked = plain.prepare(make_requests(end)[start:])
        difference = (plain.generate(asked).int() - fast.generate(asked).int()).abs()
        assert difference.max() <= 1


@torch.inference_mode()
def test_the_fast_path_draws_the_plain_bits_in_float32(tmp_path: Path) -> None:
    """Each of 130,000 draws is between two values, so that now and then one is a tie but for rounding."""
    generators: list[Any] = [load("infinity", DEVICE, tmp_path, mode=mode) for mode in ("eager", "compiled")]
    asked = generators[0].prepare(make_requests(16))
    pictures = [generator.generate(asked).int() for generator in generators]
    plain, fast = (last_program(generator) for generator in generators)
    steps = list(plain.steps())
    own: list[Tensor] = []

    def keep_and_force(scale: int, logits_RLV: Tensor) -> Tensor:
        own.append(fast.choose(scale, logits_RLV))
        forced: Tensor = steps[scale].bits_BLd
        return forced

    list(fast.steps(keep_and_force))
    same_N = torch.ones(len(asked), dtype=torch.bool, device=DEVICE)
    clear = 0.0
    for scale, (step, mine_BLd) in enumerate(zip(steps, own, strict=True)):
        nudge_V = 1e-3 * (torch.arange(step.logits_RLV.shape[-1], device=DEVICE) % 2)
        either = [plain.choose(scale, step.logits_RLV + sign * nudge_V) for sign in (-1, 1)]
        decided_BLd, wrong_BLd = either[0] == either[1], mine_BLd != step.bits_BLd
        assert not (wrong_BLd & decided_BLd).any()
        same_N &= ~wrong_BLd.flatten(1).any(dim=1)
        clear += float(decided_BLd.float().mean()) / len(steps)
    assert clear > 0.99
    print(f"{int(same_N.sum())} of {len(asked)} images without a bit that rounding decided")
    assert same_N.sum() >= len(asked) - 3
    assert ((pictures[0] - pictures[1]).abs().flatten(1).amax(dim=1)[same_N] <= 1).all()


def last_program(generator: Any) -> Any:
    """Return the program that ran last, as it was filled."""
    return list(generator.programs._entries.values())[-1].program


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", ["var", "infinity"])
def test_images_do_not_depend_on_the_batch_in_float32(name: str, mode: Any, tmp_path: Path) -> None:
    generator = load(name, "cuda", tmp_path, mode=mode)
    asked = generator.prepare(make_requests(8))
    together = generator.generate(asked)
    one_by_one = torch.cat([generator.generate([request]) for request in asked])
    assert (together.int() - one_by_one.int()).abs().max() <= 1


def test_old_graphs_go_and_all_memory_comes_back(tmp_path: Path) -> None:
    def allocated_after_use() -> int:
        generator: Any = load("var", "cuda", tmp_path, mode="compiled")
        asked = generator.prepare(make_requests(CAPACITY + 2))
        for batch in range(1, CAPACITY + 3):
            generator.generate(asked[:batch])
        assert len(generator.programs) == CAPACITY
        first = generator.generate(asked[:1])
        assert torch.equal(first, generator.generate(asked[:1]))
        del generator, first
        gc.collect()
        return torch.cuda.memory_allocated()

    # What libraries keep for themselves is there after the first use.
    first_time = allocated_after_use()
    assert allocated_after_use() <= first_time + 2**20


def codes_and_images(mode: Any, first_seed: int, tmp_path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return `codes_NL`, `pictures_NCHW` and the classes asked for, in the mode's usual dtype."""
    dtype = "bfloat16" if mode == "compiled" else "float32"
    generator: Any = load("var", "cuda", tmp_path, mode=mode, dtype=dtype)
    classes = len(generator.class_names)
    batch, codes, pictures = 256, [], []
    program = VARProgram(generator.var, generator.vqvae, generator.sampling, batch)
    for start in range(0, PICTURES, batch):
        labels = [(start + i) % classes for i in range(batch)]
        seeds = [first_seed + start + i for i in range(batch)]
        requests = [Request(0, "", seed, label) for seed, label in zip(seeds, labels, strict=True)]
        pictures.append(generator.generate(requests))
        with torch.inference_mode():
            program.fill(labels, seeds)
            steps = list(program.steps())
        codes.append(torch.cat([step.codes_BL for step in steps], dim=1))
    asked_N = torch.arange(PICTURES, device="cuda") % classes
    return torch.cat(codes), torch.cat(pictures), asked_N


def test_the_fast_path_draws_from_the_same_distribution(tmp_path: Path) -> None:
    plain_NL, plain_images, asked_N = codes_and_images("eager", 10_000, tmp_path)
    fast_NL, fast_images, _ = codes_and_images("compiled", 20_000, tmp_path)

    network = load_attribute_network(ASSETS, "cuda")
    heads = network.options[1]
    shares = []
    for pictures in (plain_images, fast_images):
        parts = [network.predict(part.float() / 127.5 - 1) for part in pictures.split(256)]
        seen_NA = torch.cat(parts)
        right_N = (seen_NA[:, 0] == asked_N // heads) & (seen_NA[:, 1] == asked_N % heads)
        shares.append(right_N.double().mean().item())
    pooled = (shares[0] + shares[1]) / 2
    half_width = 1.96 * (2 * max(pooled * (1 - pooled), 1 / PICTURES) / PICTURES) ** 0.5
    assert abs(shares[0] - shares[1]) <= half_width, f"prompt fidelity {shares}"

    # Images are exchanged, not codes: the codes of one image depend on each other.
    vocabulary = int(max(plain_NL.max(), fast_NL.max())) + 1
    both_NL = torch.cat((plain_NL, fast_NL))
    counts_NV = torch.zeros(len(both_NL), vocabulary, device="cuda")
    counts_NV.scatter_add_(1, both_NL, torch.ones_like(both_NL, dtype=torch.float32))
    weight_V = 1 / counts_NV.sum(dim=0).clamp(min=1)

    def distance(order_N: Tensor) -> float:
        difference_V = counts_NV[order_N[:PICTURES]].sum(dim=0) - counts_NV[order_N[PICTURES:]].sum(dim=0)
        return float((difference_V.square() * weight_V).sum())

    found = distance(torch.arange(len(both_NL), device="cuda"))
    generator = torch.Generator("cuda").manual_seed(0)
    exchanged = [
        distance(torch.randperm(len(both_NL), device="cuda", generator=generator)) for _ in range(PERMUTATIONS)
    ]
    chance = (1 + sum(other >= found for other in exchanged)) / (1 + PERMUTATIONS)
    print(f"prompt fidelity plain, fast: {shares}; code histograms: permutation p = {chance:.3f}")
    assert chance > 0.01, f"code histograms differ, p = {chance:.4f}"


def test_kernels_that_are_prepared_do_not_run() -> None:
    from models.networks.fused import FUSED
    from models.networks.launching import compiling
    from models.networks.noise import noise_keys

    uniform_BLV = torch.full((1, 3, 200), -1.0, device="cuda")
    keys_B2 = noise_keys([1], 1, "cuda")[:, 0]
    with compiling():
        FUSED.fill_uniform(uniform_BLV, keys_B2)
    assert (uniform_BLV == -1).all()
    FUSED.fill_uniform(uniform_BLV, keys_B2)
    assert ((uniform_BLV > 0) & (uniform_BLV < 1)).all()


def test_nan_of_a_decoder_is_refused_outside_of_the_graph(tmp_path: Path) -> None:
    """The conversion to bytes is captured, so that it cannot refuse by itself."""
    generator: Any = load("var", DEVICE, tmp_path, mode="compiled")
    asked = generator.prepare(make_requests(4))
    before = generator.generate(asked)
    generator.check()
    bias = generator.vqvae.decoder.conv_out.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(float("nan"))
    generator.generate(asked)
    with pytest.raises(ValueError, match=r"made pixels that are no numbers .* first in image 0 of its batch"):
        generator.check()
    with torch.no_grad():
        bias.copy_(kept)
    assert torch.equal(generator.generate(asked), before)
