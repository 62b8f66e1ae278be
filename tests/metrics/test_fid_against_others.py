"""The whole FID on folders, by each protocol, against the tools whose protocol it is.

The Inception has random weights in the official key layout, He-initialised, with the BatchNorm statistics of a batch:
with torch's own initialisation features spread by 4e-8 and any two tools would agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

from metrics import METRICS
from metrics.base import Comparison, FidProtocol, ImageSet, Score, Scoring
from metrics.extractors.inception import STAGES, FoldedInception, load_inception, resize_as_tensorflow
from metrics.frechet import fit_gaussian, frechet_distance
from metrics.images import as_tensor, read_rgb, resize_antialiased, stream_images
from metrics.kernel import kernel_distance
from scripts.measuring.measure_features import random_inception

IMAGES, REFERENCES = 60, 30


def _smooth(generator: np.random.Generator, blur: float) -> Image.Image:
    height, width = generator.integers(60, 110, 2)
    noise = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return noise.filter(ImageFilter.GaussianBlur(blur))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    found = []
    for seed, blur, count in ((1, 1.0, IMAGES), (2, 1.2, REFERENCES)):
        folder = tmp_path_factory.mktemp(f"images{seed}")
        generator = np.random.default_rng(seed)
        for index in range(count):
            _smooth(generator, blur).save(folder / f"{index:05d}.png")
        found.append(folder)
    return found[0], found[1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, folders: tuple[Path, Path]) -> Path:
    path: Path = tmp_path_factory.mktemp("inception") / "weights.pth"
    network = random_inception(path)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # an average over all batches
            module.reset_running_stats()
            module.train()
    images = [image for folder in folders for image in stream_images(sorted(folder.iterdir())[:12])]
    with torch.no_grad():
        network(torch.stack([resize_antialiased(image[None], 96)[0].to(torch.uint8) for image in images]))
    torch.save(network.eval().state_dict(), path)
    return path


def _set(folder: Path) -> ImageSet:
    return ImageSet(folder.name, tuple(sorted(folder.iterdir())))


def _scores(folders: tuple[Path, Path], weights: Path, cache: Path, protocol: FidProtocol) -> dict[str, Score]:
    scoring = Scoring("cpu", cache, cache, inception_weights=weights, fid_protocol=protocol)
    comparison = Comparison(_set(folders[0]), _set(folders[1]))
    return {name: METRICS[name](scoring).score(comparison)[0] for name in ("fid", "kid")}


def _traces(features: tuple[Tensor, Tensor]) -> float:
    return sum(float(rows_ND.double().var(dim=0).sum()) for rows_ND in features)


def test_the_folded_network_is_the_stock_one(folders: tuple[Path, Path], weights: Path) -> None:
    stock, folded = load_inception(weights), FoldedInception(load_inception(weights))
    images = [resize_antialiased(image[None], 299) for image in stream_images(_set(folders[0]).paths[:3])]
    images_BCHW = torch.cat(images).round().to(torch.uint8)
    inputs_BCHW = (resize_as_tensorflow(images_BCHW, 299) - 128) / 128
    with torch.inference_mode():
        theirs, ours = stock(images_BCHW)[0], folded(inputs_BCHW)
        exact = folded.double()(inputs_BCHW.double())
        stages = nn.Sequential(*(stock.get_submodule(name) for name in STAGES)).double()
        unfolded = stages(inputs_BCHW.double()).flatten(1)
    assert exact.std() > 0.01
    # The folding itself is exact; in float32 it rounds no worse than the stock network does.
    assert float((exact - unfolded).norm() / exact.norm()) < 1e-5
    assert float((ours - exact).norm()) < 1.5 * float((theirs - exact).norm())
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-5


def test_by_torch_fidelitys_protocol_it_is_torch_fidelitys_number(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    from torch_fidelity import calculate_metrics
    from torch_fidelity.metric_kid import kid_features_to_metric

    theirs = calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), fid=True, cuda=False, batch_size=1, verbose=False,
        feature_extractor_weights_path=str(weights), cache=False,
        feature_extractor_internal_dtype="float32",
    )  # fmt: skip
    scores = _scores(folders, weights, tmp_path, "torch-fidelity")
    from metrics.features import cached_features, open_extractor

    scoring = Scoring("cpu", tmp_path, tmp_path, inception_weights=weights, fid_protocol="torch-fidelity")
    features = [cached_features(_set(folder), open_extractor("inception", scoring), scoring) for folder in folders]
    unit = 1e-5 * _traces((features[0], features[1]))
    assert scores["fid"].value > 100 * unit
    assert scores["fid"].value == pytest.approx(theirs["frechet_inception_distance"], abs=unit)
    assert "torch-fidelity, fp32" in scores["fid"].identity
    # torch-fidelity's KID is of subsets: one as large as the sample is the whole U-statistic.
    whole = kid_features_to_metric(
        features[0][:REFERENCES].double(),
        features[1].double(),
        kid_subsets=1,
        kid_subset_size=REFERENCES,
        verbose=False,
    )
    ours = kernel_distance(features[0][:REFERENCES], features[1]).value
    assert ours == pytest.approx(whole["kernel_inception_distance_mean"], rel=1e-5)
    # Another batch size, and the same images one at a time, give the same features.
    few = _set(folders[0]).paths[:5]
    extractor = open_extractor("inception", scoring)
    together = extractor.extract(list(stream_images(few)))
    alone = torch.cat([extractor.extract([image]) for image in stream_images(few)])
    assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6 * float(alone.abs().max()))


def test_by_the_clean_protocol_it_is_clean_fids_resize_and_the_same_layers(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    from cleanfid.resize import make_resizer

    resize = make_resizer("PIL", False, "bicubic", (299, 299))
    network = FoldedInception(load_inception(weights))
    features = []
    for folder in folders:
        rows = []
        for path in sorted(folder.iterdir()):
            pixels_HWC = resize(np.asarray(read_rgb(path)))
            with torch.inference_mode():
                rows.append(network((torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None] - 128) / 128))
        features.append(torch.cat(rows))
    scores = _scores(folders, weights, tmp_path, "clean")
    unit = 1e-5 * _traces((features[0], features[1]))
    expected = frechet_distance(fit_gaussian(features[0]), fit_gaussian(features[1]))
    assert scores["fid"].value > 100 * unit
    assert scores["fid"].value == pytest.approx(expected, abs=unit)
    assert scores["kid"].value == pytest.approx(kernel_distance(features[0], features[1]).value, rel=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (512, 384), (299, 299), (97, 350)])
def test_the_resize_is_clean_fids(size: tuple[int, int]) -> None:
    from cleanfid.resize import make_resizer

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    theirs = make_resizer("PIL", False, "bicubic", (299, 299))(np.asarray(image))
    ours = resize_antialiased(as_tensor(image)[None], 299)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() < 0.02


def test_features_of_another_precision_are_never_taken_for_these(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path
) -> None:
    from metrics.features import cached_features, open_extractor

    some = ImageSet("x", _set(folders[0]).paths[:3])
    rows = {}
    for dtype in ("float32", "bfloat16"):
        scoring = Scoring("cpu", tmp_path, tmp_path, inception_weights=weights, feature_dtype=dtype)
        rows[dtype] = cached_features(some, open_extractor("inception", scoring), scoring)
    assert not torch.equal(rows["float32"], rows["bfloat16"])
    assert len(list((tmp_path / "features").iterdir())) == 2
