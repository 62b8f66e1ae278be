"""The networks of metrics come from where their libraries take them, under the digests that their names carry."""

from __future__ import annotations

from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torchvision.models import AlexNet_Weights

from metrics import needed


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
