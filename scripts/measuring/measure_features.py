"""Times the metrics' own work: features per second, the Fréchet distance, memory, a second run.

    python -m scripts.measuring.measure_features    # CPU: against torch-fidelity, torchmetrics, clean-fid
    python -m scripts.measuring.measure_features --device cuda --images 4096 --side 512
    python -m scripts.measuring.measure_features --what frechet,memory

Images are smooth noise; the Inception has random weights in the official layout, since speed does not depend on them.
Each ratio is against others measured in the same process.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from files.images import read_rgb
from metrics import METRICS
from metrics.base import Comparison, FeatureDType, ImageSet, Scoring
from metrics.degenerate import find_degenerate
from metrics.entries import digests_of
from metrics.extractors.inception import SIDE, InceptionFeatures
from metrics.extractors.precision import full_float32, memory_format
from metrics.features import Extractor, cached_features, open_extractor
from metrics.frechet import fit_gaussian, frechet_distance
from metrics.images import resize_antialiased, stack_by_size, stream_images
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

ON_CPU = Clock("cpu")
DTYPES: tuple[FeatureDType, ...] = ("float32", "tf32", "bfloat16")


def random_inception(path: Path) -> nn.Module:
    """Return torch-fidelity's Inception, He-initialised, and write its weights to `path` in the official key layout."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keep the initial weights: there is no file yet."""

    torch.save({}, path)
    torch.manual_seed(0)
    network: nn.Module = Unloaded("inception-v3-compat", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), path)
    return network


def write_image(folder: Path, side: int, index: int) -> None:
    """Write one PNG of smooth noise, about as large as a photograph's."""
    generator = np.random.default_rng(index)
    coarse = Image.fromarray(generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    fine = generator.integers(-3, 4, (side, side, 3))
    pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int) + fine
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index:05d}.png", compress_level=1)


def write_images(folder: Path, count: int, side: int) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(write_image, folder, side), range(count), chunksize=16))
    return tuple(sorted(folder.iterdir()))


def ours(paths: tuple[Path, ...], weights: Path, folder: Path, device: str, dtype: FeatureDType) -> float:
    """Return seconds of a folder through our pipeline, its network loaded and warm, nothing kept from before."""
    scoring = Scoring(device, folder, folder / "cache", inception_weights=weights, feature_dtype=dtype)
    extractor = open_extractor("inception", scoring)
    extractor.extract(list(stream_images(paths[: scoring.images_at_once])))
    shutil.rmtree(scoring.cache, ignore_errors=True)
    _, seconds = Clock(device).time(lambda: cached_features(ImageSet("x", paths), extractor, scoring))
    shutil.rmtree(scoring.cache, ignore_errors=True)
    return seconds


def by_torch_fidelity(paths: tuple[Path, ...], weights: Path) -> float:
    from torch_fidelity import calculate_metrics

    return ON_CPU.time(
        lambda: calculate_metrics(
            input1=str(paths[0].parent), isc=False, fid=True, input2=str(paths[0].parent), cuda=False, verbose=False,
            feature_extractor_weights_path=str(weights), cache=False, feature_extractor_internal_dtype="float32",
            save_cpu_ram=False, batch_size=32,
        )
    )[1] / 2  # fmt: skip


def by_torchmetrics(paths: tuple[Path, ...], weights: Path) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=str(weights))

    def run() -> None:
        for start in range(0, len(paths), 32):
            images = [np.asarray(read_rgb(path)) for path in paths[start : start + 32]]
            metric.update(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), real=True)

    return ON_CPU.time(run)[1]


def by_clean_fid(paths: tuple[Path, ...], weights: Path) -> float:
    """Return seconds by clean-fid's loader and resize (two processes) and the stock network without its own resize."""
    from cleanfid.fid import ResizeDataset, build_resizer

    from metrics.extractors.inception import STAGES, load_inception

    stock = load_inception(weights)
    network = nn.Sequential(*(stock.get_submodule(name) for name in STAGES))
    dataset = ResizeDataset([str(path) for path in paths], "clean")
    dataset.fn_resize = build_resizer("clean")
    loader = torch.utils.data.DataLoader(dataset, batch_size=32, num_workers=2)

    def run() -> None:
        with torch.inference_mode():
            for images_BCHW in loader:
                network((images_BCHW - 128) / 128)

    return ON_CPU.time(run)[1]


def measure_pipelines(paths: tuple[Path, ...], weights: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Return images/s of a folder by us and by the others, taking turns."""
    rates: dict[str, list[float]] = {}
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(paths, weights, folder, "cpu", "float32"),
        "torch-fidelity": lambda: by_torch_fidelity(paths, weights),
        "torchmetrics": lambda: by_torchmetrics(paths, weights),
        "clean-fid's loader and resize": lambda: by_clean_fid(paths, weights),
    }
    for _ in range(repeats):
        for name, measured in ways.items():
            rates.setdefault(name, []).append(len(paths) / measured())
            print(f"{name}: {rates[name][-1]:.2f} images/s", flush=True)
    return {name: {"median_per_s": statistics.median(values), "all": values} for name, values in rates.items()}


def measure_gpu(paths: tuple[Path, ...], weights: Path, folder: Path, device: str) -> dict[str, Any]:
    """Return features/s of the network on images that are there, of the whole pipeline, and of decoding alone.

    Hashing the files, which a process does once, is timed before. The steps of a batch, in ms, are each waited for:
    alone, and while other images are decoded.
    """
    clock, first = Clock(device), paths[:256]
    _, decode_s = clock.time(lambda: [None for _ in stream_images(paths, 256)])
    _, digest_s = clock.time(lambda: digests_of(paths))
    found: dict[str, Any] = {"decode_per_s": len(paths) / decode_s, "digest_per_s": len(paths) / digest_s}
    print(f"alone, images/s: {found}", flush=True)
    for dtype in DTYPES:
        extractor = InceptionFeatures(weights, device, dtype=dtype)
        decoded = list(stream_images(first))
        extractor.extract(decoded)
        network = extractor._network
        assert network is not None
        kept = next(network.parameters()).dtype
        batch_BCHW = torch.randn(len(first), 3, SIDE, SIDE, device=device).to(
            kept, memory_format=memory_format(device, dtype)
        )
        found[dtype] = {"network_per_s": network_rate(network, batch_BCHW, dtype, clock)}
        found[dtype]["steps_ms"] = batch_steps(extractor, decoded, device, clock)
        with decoding(paths):
            found[dtype]["steps_while_decoding_ms"] = batch_steps(extractor, decoded, device, clock)
        found[dtype]["pipeline_per_s"] = len(paths) / ours(paths, weights, folder, device, dtype)
        print(f"{dtype}: {found[dtype]}", flush=True)
    return found


@contextmanager
def decoding(paths: tuple[Path, ...]) -> Iterator[None]:
    """Decode images, one after the other and all over again, in threads of their own until the block ends."""
    ended = threading.Event()

    def decode() -> None:
        while not ended.is_set():
            for _ in stream_images(paths, 256):
                if ended.is_set():
                    return

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(decode)
        try:
            yield
        finally:
            ended.set()
        work.result()


def batch_steps(
    extractor: Extractor, decoded: list[Tensor], device: str, clock: Clock, repeats: int = 5
) -> dict[str, float]:
    """Return the ms of stacking decoded images of one size, copying them to the device, resizing them, and of all."""
    found: dict[str, list[float]] = {}

    def step(name: str, work: Callable[[], Tensor]) -> Tensor:
        made, seconds = clock.time(work)
        found.setdefault(name, []).append(seconds * 1e3)
        return made

    for _ in range(repeats):
        with torch.inference_mode():
            stacked = step("stack", lambda: next(stack_by_size(decoded))[1])
            copied = step("copy", partial(stacked.to, device))
            step("resize", partial(resize_antialiased, copied, SIDE))
        step("all, with the network", lambda: extractor.extract(decoded))
    return {name: statistics.median(values) for name, values in found.items()}


def network_rate(network: nn.Module, batch_BCHW: Tensor, dtype: FeatureDType, clock: Clock, calls: int = 20) -> float:
    with torch.inference_mode(), full_float32(allow_tf32=dtype == "tf32"):
        for _ in range(3):
            network(batch_BCHW)
        return calls * len(batch_BCHW) / clock.time(lambda: [network(batch_BCHW) for _ in range(calls)])[1]


def measure_frechet(device: str, width: int = 2048) -> dict[str, Any]:
    """Return seconds of a distance of 1,000 samples to the kept statistics of 10,000, beside the others'.

    width: features of a sample.
    """
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    few, many = (torch.randn(count, width, generator=generator) @ mixing for count in (1000, 10_000))
    kept, clock = fit_gaussian(many, device), Clock(device)
    found: dict[str, Any] = {}

    def measure() -> None:
        found["value"] = frechet_distance(fit_gaussian(few, device), kept)

    found["ours_s"] = statistics.median(clock.time(measure)[1] for _ in range(5))
    if device == "cpu":
        from torch_fidelity.metric_fid import fid_statistics_to_metric
        from torchmetrics.image.fid import _compute_fid

        few64, many64 = few.double(), many.double()
        mu_few, sigma_few, mu_many, sigma_many = few64.mean(0), few64.T.cov(), many64.mean(0), many64.T.cov()
        distance, found["torchmetrics_s"] = clock.time(lambda: _compute_fid(mu_few, sigma_few, mu_many, sigma_many))
        found["torchmetrics"] = float(distance)
        one, other = (
            {"mu": mu.numpy(), "sigma": sigma.numpy()} for mu, sigma in ((mu_few, sigma_few), (mu_many, sigma_many))
        )
        values, found["torch_fidelity_s"] = clock.time(lambda: fid_statistics_to_metric(one, other, verbose=False))
        found |= values
    print(found, flush=True)
    return found


def measure_second_run(paths: tuple[Path, ...], weights: Path, folder: Path) -> dict[str, Any]:
    """Return seconds of FID, KID and PRDC of a quarter of the images against the rest, at first and again.

    The second time is what a new process finds: nothing in memory, all features in the cache.
    """
    scoring = Scoring("cpu", folder, folder / "again", inception_weights=weights)
    count = len(paths) // 4
    comparison = Comparison(ImageSet("generated", paths[:count]), ImageSet("reference", paths[count:]))
    found: dict[str, Any] = {"generated": count, "reference": len(paths) - count}
    for name in ("first_s", "second_s"):
        open_extractor.cache_clear()
        _, found[name] = ON_CPU.time(
            lambda: [METRICS[metric](scoring).score(comparison) for metric in ("fid", "kid", "prdc")]
        )
    return found | {"share": found["second_s"] / found["first_s"]}


def measure_memory(images: int) -> dict[str, float]:
    """Return the growth of this process, GB, while `images` images go through cache, FID and the look for copies.

    Once with few references' statistics, once with as many references as there are images; of the replicates one on
    each side. The network is left out: its features are drawn at random.
    """
    from metrics.entries import read_entry, write_entry
    from metrics.features import extract_features
    from metrics.frechet import replicates_of

    class Drawn:
        key = name = identity = distance_label = distance_short = kernel_label = kernel_short = "drawn"

        def extract(self, batch: Any) -> Tensor:
            return torch.randn(len(batch), 2048)

    found: dict[str, float] = {"images": images}
    with tempfile.TemporaryDirectory() as folder:
        path = write_images(Path(folder) / "images", 1, 64)[0]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def growth_gb() -> float:
            return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9

        write_entry(Path(folder) / "features" / "x", {"features": extract_features([path] * images, Drawn(), 32)})
        mine_ND = (read_entry(Path(folder) / "features" / "x", lambda _: None) or {})["features"]
        mine = fit_gaussian(mine_ND)
        replicates_of(mine_ND, mine, lambda gaussian: frechet_distance(mine, gaussian))
        scoring = Scoring("cpu", Path(folder), Path(folder))
        find_degenerate(ImageSet("images", (path,) * images), ImageSet("none", ()), scoring)
        found["growth_gb"] = growth_gb()
        real_ND = (read_entry(Path(folder) / "features" / "x", lambda _: None) or {})["features"]
        real = fit_gaussian(real_ND)
        frechet_distance(real, fit_gaussian(real_ND[torch.randperm(images)[: images // 2]]))
        frechet_distance(real, mine)
        found["growth_with_as_many_references_gb"] = growth_gb()
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    parser = open_parser(__file__, __doc__, repeats=3, repeated="turns of the pipelines", device="cpu")
    parser.add_argument(
        "--what", default="", help="of pipelines,gpu,frechet,again,memory; default: what suits the device"
    )
    parser.add_argument("--images", type=int, default=128, help="[%(default)s]")
    parser.add_argument("--side", type=int, default=256, help="pixels [%(default)s]")
    parser.add_argument("--memory-images", type=int, default=50_000, help="[%(default)s]")
    arguments = parser.parse_args(given)
    count, side, memory_images = arguments.images, arguments.side, arguments.memory_images
    if arguments.tiny:
        count, side, memory_images = min(count, 24), min(side, 64), min(memory_images, 200)
    about = describe_run(__file__, arguments.device)
    device = choose_machine(arguments.device, "auto").device
    on_cpu = device == "cpu"
    what = (arguments.what or ("memory,pipelines,frechet,again" if on_cpu else "gpu,frechet")).split(",")
    report: dict[str, Any] = {"images": count, "side_px": side}
    if "memory" in what:  # first: the largest size a process ever had is what is measured
        report["memory"] = measure_memory(memory_images)
        print(report["memory"], flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "inception.pth"
        paths = write_images(folder / "images", count, side)
        if {"pipelines", "gpu", "again"} & set(what):
            random_inception(weights)
        if "pipelines" in what:
            report["pipelines"] = measure_pipelines(paths, weights, folder, arguments.repeats)
        if "gpu" in what:
            report["gpu"] = measure_gpu(paths, weights, folder, device)
        if "frechet" in what:
            report["frechet"] = measure_frechet(device, 64 if arguments.tiny else 2048)
        if "again" in what:
            report["again"] = measure_second_run(paths, weights, folder)
            print(report["again"], flush=True)
    write_report(arguments.output, about, report)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
