"""The networks of metrics come from where their libraries take them, under the digests that their names carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchvision.models import AlexNet_Weights

from files.downloads import UrlFile
from metrics import needed
from metrics.base import Scoring
from metrics.scoring import fetch_networks


def test_addresses_are_the_libraries_own() -> None:
    assert needed.INCEPTION_URL == URL_INCEPTION_V3
    assert AlexNet_Weights.IMAGENET1K_V1.url == needed.ALEXNET_URL


def test_digests_begin_as_the_names_end() -> None:
    for name, digest in (
        *((name, needed.INCEPTION_DIGEST) for name in needed.INCEPTION_NAMES),
        (needed.ALEXNET_NAME, needed.ALEXNET_DIGEST),
    ):
        assert name.removesuffix(".pth").rpartition("-")[2] == digest[:8]
        assert len(digest) == 64


def test_a_program_that_scores_alone_is_told_once_which_metrics_lack_their_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    told: list[str] = []
    fetch_networks(["lpips", "ssim", "psnr"], Scoring("cpu", tmp_path, tmp_path), announce=told.append)
    (line,) = told
    assert line.startswith("LPIPS: n/a, alexnet-owt-7be5be79.pth is not here, and OFFLINE=1 downloads nothing")
    monkeypatch.setattr(needed, "has_stand_in", lambda: True)
    fetch_networks(["fid", "kid"], Scoring("cpu", tmp_path, tmp_path), announce=told.append)
    assert told[1].startswith("FID Score, KID Score: the FID Inception is missing (weights-inception")
    assert told[1].endswith("another network stands in, under its own name")
    named = Scoring("cpu", tmp_path, tmp_path, inception_weights=tmp_path / "mine.pth")
    fetch_networks(["fid"], named, announce=told.append)
    assert len(told) == 2


def test_what_is_fetched_is_what_is_found_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (need,) = needed.inception(Scoring("cpu", tmp_path, tmp_path))
    assert isinstance(need, UrlFile)
    assert needed.find_inception(None) is None
    need.target.parent.mkdir(parents=True)
    need.target.write_bytes(b"")
    assert needed.find_inception(None) == need.target
    assert needed.inception(Scoring("cpu", tmp_path, tmp_path)) == ()
    need.target.rename(need.target.with_name(needed.INCEPTION_NAMES[1]))
    assert needed.inception(Scoring("cpu", tmp_path, tmp_path)) == (), "as pytorch-fid names it"
