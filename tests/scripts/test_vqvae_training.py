"""The codebook's care while the embedded VQVAE is trained."""

from __future__ import annotations

import pytest
import torch

from models.networks.convolutions import ConvolutionShape
from models.networks.vqvae import VQVAE, VQVAEShape
from scripts.embedded.job import ASSETS
from scripts.embedded.sprites import RobotSprites
from scripts.embedded.train_vqvae import VQVAETraining, residual_vectors, sample_rows


@pytest.fixture
def training() -> VQVAETraining:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEShape(ConvolutionShape((32, 32, 32), 1, 8), 64, (1, 2, 4, 16)))
    training = VQVAETraining(vqvae, RobotSprites(ASSETS, "cpu"), batch=4)
    training.loss()
    return training


def quantisation_error(training: VQVAETraining) -> float:
    with torch.no_grad():
        estimate_BCHW, _, _ = training.vqvae.quantize(training.latents_BCHW)
        return float((estimate_BCHW - training.latents_BCHW).square().mean())


def test_codebook_from_residuals_is_far_nearer_than_a_random_one(training: VQVAETraining) -> None:
    before = quantisation_error(training)
    training.begin_quantising()
    assert quantisation_error(training) < 0.25 * before


def test_unused_entries_are_set_to_residuals_and_used_ones_stay(training: VQVAETraining) -> None:
    training.begin_quantising()
    table_VC = training.vqvae.quantize.embedding.weight
    with torch.no_grad():
        table_VC[7] = 1000.0
    training.loss()
    assert training.hits_V[7] == 0
    used = training.hits_V >= 0.01 * training.hits_V.mean()
    before_VC = table_VC.detach().clone()
    training.restart_dead_codes()
    assert torch.equal(table_VC[used], before_VC[used])
    assert table_VC[7].abs().max() < 1000
    assert training.hits_V.sum() == 0


def test_restarts_end(training: VQVAETraining) -> None:
    training.begin_quantising()
    training.end_restarts()
    with torch.no_grad():
        training.vqvae.quantize.embedding.weight[7] = 1000.0
    training.restart_dead_codes()
    assert training.vqvae.quantize.embedding.weight[7].min() == 1000


def test_rows_are_sampled_alike_from_every_scale(training: VQVAETraining) -> None:
    groups = residual_vectors(training.vqvae.quantize, training.latents_BCHW)
    assert [len(group) for group in groups] == [4, 16, 64, 1024]
    rows_NC = sample_rows([torch.zeros(3, 1), torch.ones(1000, 1)], 100)
    assert rows_NC.sum() == 50
