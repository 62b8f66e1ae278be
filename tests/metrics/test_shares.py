"""Features that several processes extract: the same rows and scores, each image once, and what ends or fails."""

from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_assets import write_assets
from threadless import Threadless, Wait, Work, attempt
from torch import Tensor

from files import reading
from metrics import METRICS, entries, features
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.entries import ShareOfDigests, digest_together
from metrics.features import cached_features, open_extractor
from metrics.scoring import open_metrics, score_all
from metrics.together import ends_of_shares

BATCH = 4


class OtherProcess:
    """One helper that is a process of its own."""

    count = 1

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def ask(self, works: Sequence[Work]) -> Wait:
        results = [self._pool.submit(attempt, pickle.dumps(work)) for work in works]
        return lambda idle: tuple(result.result() for result in results)  # noqa: ARG005


class Blue:
    """An extractor that says how often it was opened and which images it has seen, by their blue corner."""

    key = name = identity = "blue"
    distance_label = distance_short = kernel_label = kernel_short = "none"
    opened = 0
    seen: list[int] = []  # noqa: RUF012 (of all instances, reset by the fixture)

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        corners = [int(image_CHW[2, 0, 0]) for image_CHW in images]
        type(self).seen += corners
        return torch.tensor(corners, dtype=torch.float32)[:, None].repeat(1, 3)


def open_blue(scoring: Scoring) -> Blue:  # noqa: ARG001 (it is a constructor of EXTRACTORS)
    Blue.opened += 1
    return Blue()


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    """Return a scoring whose assets hold an attribute network of random weights, beside the extractor "blue"."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setitem(features.EXTRACTORS, "blue", open_blue)
    monkeypatch.setattr(Blue, "opened", 0)
    monkeypatch.setattr(Blue, "seen", [])
    features._tell_once.cache_clear()
    assets = write_assets(tmp_path / "assets")
    return Scoring(device="cpu", assets=assets, cache=tmp_path / "cache", batch_size=BATCH)


def draw(folder: Path, count: int, seed: int = 0, caption: str = "") -> ImageSet:
    """Draw images of noise whose blue corner is their number."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        pixels[0, 0, 2] = index
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    return ImageSet(folder.name, tuple(sorted(folder.iterdir())), (caption,) * count if caption else ())


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 9, 31, 32, 33, 100])
def test_shares_are_whole_batches_of_even_size_for_at_most_all_processes(count: int, processes: int) -> None:
    ends = ends_of_shares(count, BATCH, processes)
    sizes = [end - first for first, end in zip([0, *ends], ends, strict=False)]
    assert sum(sizes) == count
    assert 1 <= len(sizes) <= processes
    assert all(size % BATCH == 0 for size in sizes[:-1])
    assert max(sizes) - min(sizes) <= BATCH
    assert len(sizes) == 1 or min(sizes) >= BATCH
    assert len(sizes) == processes or count < processes * BATCH


def test_rows_are_in_order_each_image_is_seen_once_and_one_entry_is_kept(tmp_path: Path, scoring: Scoring) -> None:
    images, helpers = draw(tmp_path / "x", 33), Threadless(3)
    helped = replace(scoring, helpers=helpers)
    rows_ND = cached_features(images, open_extractor("blue", helped), helped)
    assert rows_ND[:, 0].tolist() == list(range(33))
    assert sorted(Blue.seen) == list(range(33))
    assert [len(work.names) for work in helpers.asked] == [8, 8, 9]
    (entry,) = (scoring.cache / "features").iterdir()
    assert entry.suffix == ".features"
    assert torch.equal(cached_features(images, open_extractor("blue", scoring), scoring), rows_ND)
    assert len(Blue.seen) == 33


def test_another_process_gives_the_rows_and_scores_of_one_process_bit_for_bit(tmp_path: Path, scoring: Scoring) -> None:
    caption = "a blue robot with a round head"
    comparison = Comparison(draw(tmp_path / "made", 57, 1, caption), draw(tmp_path / "real", 50, 2, caption))
    alone = [METRICS[name](scoring).score(comparison) for name in ("fid", "kid", "fidelity")]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        helped = replace(scoring, cache=tmp_path / "other cache", helpers=OtherProcess(pool))
        together = [METRICS[name](helped).score(comparison) for name in ("fid", "kid", "fidelity")]
    assert together == alone
    kept = [{path.name: path.read_bytes() for path in (one / "features").iterdir()} for one in
            (scoring.cache, tmp_path / "other cache")]  # fmt: skip
    assert kept[0] == kept[1]


def test_a_helper_opens_its_extractor_once_for_all_sets(tmp_path: Path, scoring: Scoring) -> None:
    helped = replace(scoring, helpers=Threadless(1))
    extractor = Blue()
    for name in ("x", "y"):
        cached_features(draw(tmp_path / name, 8, seed=len(name) + ord(name)), extractor, helped)
    assert Blue.opened == 1


def test_too_few_images_are_extracted_without_help(tmp_path: Path, scoring: Scoring) -> None:
    helpers = Threadless(3)
    cached_features(draw(tmp_path / "x", 2 * BATCH - 1), Blue(), replace(scoring, helpers=helpers))
    assert not helpers.asked
    assert len(Blue.seen) == 2 * BATCH - 1


@pytest.mark.parametrize("failure", ["identity", "unavailable", "cache"])
def test_what_a_helper_cannot_give_is_extracted_here_and_told_in_one_line(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: str
) -> None:
    class Other(Blue):
        identity = "another blue"

    def unavailable(_: Scoring) -> Blue:
        raise MetricUnavailable("no weights there")

    helpers = Threadless(1)
    expected = {
        "identity": "the extractor is another blue there, and blue here",
        "unavailable": "no weights there",
        "cache": f"there is no entry of it in {scoring.cache}",
    }[failure]
    if failure == "cache":  # as where a helper's path leads to another file system
        monkeypatch.setattr("metrics.features.write_entry", lambda entry, tensors: None)  # noqa: ARG005
    else:
        opening = {"identity": lambda _: Other(), "unavailable": unavailable}[failure]
        monkeypatch.setitem(features.EXTRACTORS, "blue", opening)
    images = draw(tmp_path / "x", 9)
    rows_ND = cached_features(images, Blue(), replace(scoring, helpers=helpers))
    assert rows_ND[:, 0].tolist() == list(range(9))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "share" in line]
    assert line == f"x, share 2 of 2 is extracted here, since another process could not ({expected})"


def read_by(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of the files that are read for their digest from now on; this process knows no digest yet."""
    read: list[Path] = []
    original = reading._read_digest

    def noted(path: Path, size: int) -> str:
        read.append(path)
        return original(path, size)

    monkeypatch.setattr(reading, "_digests", {})
    monkeypatch.setattr(reading, "_read_digest", noted)
    return read


def test_helpers_read_their_share_of_the_files_and_nothing_is_left_of_it(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw(tmp_path / "x", 33)
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images.paths]
    read = read_by(monkeypatch)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        digest_together(images, replace(scoring, helpers=OtherProcess(pool)))
    assert sorted(read) == list(images.paths[:16])
    assert list(map(reading.file_digest, images.paths)) == expected
    assert len(read) == 16
    assert not list((scoring.cache / "features").iterdir())


def test_files_whose_digests_are_known_are_not_asked_for_again(tmp_path: Path, scoring: Scoring) -> None:
    images, helpers = draw(tmp_path / "x", 33), Threadless(2)
    helped = replace(scoring, helpers=helpers)
    digest_together(images, helped)
    digest_together(images, helped)
    assert [len(work.names) for work in helpers.digesting] == [12, 9]


def test_digests_that_a_killed_run_left_are_deleted(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, helpers = draw(tmp_path / "x", 33), Threadless(3)
    digest_together(images, replace(scoring, helpers=helpers))
    for work in helpers.digesting:  # of more processes than there are now
        work("cpu")
    assert len(list((scoring.cache / "features").iterdir())) == 3
    read_by(monkeypatch)
    digest_together(images, replace(scoring, helpers=Threadless(1)))
    assert not list((scoring.cache / "features").iterdir())


@pytest.mark.parametrize("change", ["later", "gone", "damaged", "unread", "few"])
def test_what_a_helper_did_not_read_as_it_is_now_is_read_here(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    class Meddled(OtherProcess):
        def ask(self, works: Sequence[Work]) -> Wait:
            (work,) = works
            assert isinstance(work, ShareOfDigests)
            wait = super().ask([replace(work, names=work.names[1:]) if change == "few" else work])

            def waited(idle: Callable[[], None]) -> tuple[str, ...]:
                failures = wait(idle)
                if change == "damaged":
                    work.entry.write_bytes(work.entry.read_bytes()[:-1] + b"?")
                elif change == "unread":
                    work.entry.unlink()
                return failures

            return waited

    images = draw(tmp_path / "x", 12)
    read = read_by(monkeypatch)
    changing = images.paths[-1]
    if change in ("later", "gone"):
        original = entries._remember

        def remember(share: ImageSet, entry: Path) -> None:
            if change == "gone":
                changing.unlink()
            else:
                changing.write_bytes(changing.read_bytes() + b"more")
            original(share, entry)

        monkeypatch.setattr(entries, "_remember", remember)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        digest_together(images, replace(scoring, helpers=Meddled(pool)))
    known = [path for path in images.paths if reading.knows_digest(path)]
    assert len(known) == {"later": 11, "gone": 11, "damaged": 4, "unread": 4, "few": 4}[change]
    if change == "gone":
        with pytest.raises(FileNotFoundError, match=r"00011\.png"):
            reading.file_digest(changing)
        return
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images.paths]
    read.clear()
    assert list(map(reading.file_digest, images.paths)) == expected
    assert len(read) == 12 - len(known)
    assert ("is damaged" in capsys.readouterr().err) == (change in ("damaged", "few"))


def test_an_image_that_cannot_be_read_is_named_whoever_reads_it_and_helpers_are_waited_for(
    tmp_path: Path, scoring: Scoring
) -> None:
    for place in (1, 7):
        images, helpers = draw(tmp_path / f"x{place}", 8), Threadless(1)
        images.paths[place].write_bytes(b"")
        with pytest.raises(OSError, match=f"0000{place}.png"):
            cached_features(images, Blue(), replace(scoring, helpers=helpers))
        assert helpers.waited == len(helpers.asked) + len(helpers.digesting) == 2


def test_shares_that_a_killed_run_left_are_used_and_deleted(tmp_path: Path, scoring: Scoring) -> None:
    images, helpers = draw(tmp_path / "x", 12), Threadless(2)
    cached_features(images, Blue(), replace(scoring, helpers=helpers, cache=tmp_path / "elsewhere"))
    for work in helpers.asked:  # of another number of processes: one share fits, the other does not
        replace(work, scoring=replace(work.scoring, cache=scoring.cache))("cpu")
    assert len(list((scoring.cache / "features").iterdir())) == 2
    Blue.seen.clear()
    rows_ND = cached_features(images, Blue(), replace(scoring, helpers=Threadless(2)))
    assert rows_ND[:, 0].tolist() == list(range(12))
    assert sorted(Blue.seen) == [0, 1, 2, 3]
    (entry,) = (scoring.cache / "features").iterdir()
    assert entry.suffix == ".features"


def test_a_stop_ends_the_waiting_for_helpers(tmp_path: Path, scoring: Scoring) -> None:
    class Slow(Threadless):
        asked_to_stop = False

        def ask(self, works: Sequence[Work]) -> Wait:  # noqa: ARG002
            def wait(idle: Callable[[], None]) -> tuple[str, ...]:
                for _ in range(3):
                    idle()
                self.asked_to_stop = True
                idle()
                raise AssertionError("it was not interrupted")

            return wait

    helpers, counted = Slow(1), list[int]()
    scoring = replace(scoring, helpers=helpers, progress=lambda name, total: nullcontext(counted.append))  # noqa: ARG005
    images = draw(tmp_path / "x", 40, caption="a blue robot with a round head")
    opened = open_metrics(["fid", "kid"], scoring, lambda: helpers.asked_to_stop)
    found = score_all(opened, Comparison(images, images), stopped=lambda: helpers.asked_to_stop)
    assert found.unscored == {"fid": "interrupted", "kid": "interrupted"}
    assert counted[-3:] == [19, 19, 19]  # of 20: the share is not done before the others are


@pytest.mark.parametrize("is_late", [False, True])
def test_helpers_that_cannot_be_reached_cost_no_score(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str], is_late: bool
) -> None:
    class Lost(Threadless):
        def ask(self, works: Sequence[Work]) -> Wait:  # noqa: ARG002
            if not is_late:
                raise OSError("the store does not answer")

            def wait(idle: Callable[[], None]) -> tuple[str, ...]:  # noqa: ARG001
                raise OSError("the store does not answer")

            return wait

    images = draw(tmp_path / "x", 12)
    rows_ND = cached_features(images, Blue(), replace(scoring, helpers=Lost(2)))
    assert rows_ND[:, 0].tolist() == list(range(12))
    told = capsys.readouterr().err
    assert told.count("could not (the store does not answer)") == 2


def test_extractors_know_their_names_in_the_registry() -> None:
    from metrics.extractors.appearance import Appearance, Contrast
    from metrics.extractors.clip import CLIPFeatures
    from metrics.extractors.dinov2 import DINOv2Features
    from metrics.extractors.efficientnet import EfficientNetFeatures
    from metrics.extractors.inception import InceptionFeatures
    from metrics.extractors.robots import RobotFeatures

    networks = (InceptionFeatures, RobotFeatures, EfficientNetFeatures, DINOv2Features, CLIPFeatures)
    classes = (*networks, Appearance, Contrast)
    assert [one.key for one in classes] == list(features.EXTRACTORS)


def test_a_share_of_many_images_is_small_to_send(scoring: Scoring) -> None:
    paths = tuple(Path(f"/runs/output/VAR-d16/images/{index:08d}.png") for index in range(10_000))
    work = features._work_of(ImageSet("x", paths), Blue(), scoring, "share")
    assert len(pickle.dumps(work)) < 20 * len(paths)
    assert work.folder / work.names[-1] == paths[-1]
