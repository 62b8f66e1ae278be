"""The loop over metrics: each shows its rows, and one that fails costs its own row alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import metrics
from metrics.base import Comparison, ImageSet, Metric, MetricUnavailable, Score, Scoring
from metrics.scoring import Scored, open_metrics, score_all


def row(key: str, value: float = 1.0, label: str = "") -> Score:
    return Score(key, label or key.upper(), key, value, "higher", 1, 1, "counted")


@dataclass
class Gives:
    """A metric that gives these rows, or raises."""

    key: str
    made: list[Score] | BaseException

    def score(self, comparison: Comparison) -> list[Score]:  # noqa: ARG002 (every comparison is the same to it)
        if isinstance(self.made, BaseException):
            raise self.made
        return self.made


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    images = ImageSet("x", (tmp_path / "a.png",))
    return Comparison(images, images)


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, comparison: Comparison, tmp_path: Path) -> Callable[..., Scored]:
    """Return what registers metrics, each in one line, and scores with all of them."""

    def call(**made: list[Score] | BaseException) -> Scored:
        for key, given in made.items():
            monkeypatch.setitem(metrics.METRICS, key, lambda _, key=key, given=given: Gives(key, given))
        return score_all(open_metrics(list(made), Scoring("cpu", tmp_path, tmp_path)), comparison)

    return call


def test_a_metric_of_one_file_and_one_line_shows_its_row(
    tmp_path: Path, comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file_size_metric.py").write_text(
        "from metrics.base import Score\n"
        "class FileSize:\n"
        "    key = 'size'\n"
        "    def __init__(self, scoring): pass\n"
        "    def score(self, comparison):\n"
        "        size = comparison.generated.paths[0].stat().st_size\n"
        "        return [Score('size', 'File size', 'Size', size, 'lower', 1, 0, 'bytes')]\n"
    )
    (tmp_path / "a.png").write_bytes(b"12345")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(metrics.METRICS, "size", metrics.Constructor("file_size_metric", "FileSize"))
    scored = score_all(open_metrics(["size"], Scoring("cpu", tmp_path, tmp_path)), comparison)
    assert [(each.label, each.value) for each in scored.scores] == [("File size", 5)]
    assert scored.unscored == {}


@pytest.mark.parametrize(
    ("failure", "reason", "is_error"),
    [
        (MetricUnavailable("no\nweights"), "no weights", False),
        (OSError("a.png cannot be read"), "a.png cannot be read", True),
        (ValueError("two\n kinds"), "two kinds", True),
        (RuntimeError("of torch"), "RuntimeError: of torch", True),
        (AssertionError(), "AssertionError: AssertionError", True),
    ],
)
def test_a_metric_that_fails_costs_its_row_alone(
    score: Callable[..., Scored], failure: Exception, reason: str, is_error: bool
) -> None:
    scored = score(first=[row("first")], broken=failure, last=[row("last")])
    assert [each.key for each in scored.scores] == ["first", "last"]
    assert scored.unscored == {"broken": reason}
    assert scored.errors == (("broken",) if is_error else ())


def test_a_bug_shows_its_traceback_and_what_a_user_can_repair_shows_none(
    score: Callable[..., Scored], capsys: pytest.CaptureFixture[str]
) -> None:
    score(broken=OSError("no file"), other=MetricUnavailable("none"))
    assert capsys.readouterr().err == ""
    score(broken=KeyError("mu"))
    assert "Traceback" in capsys.readouterr().err


def test_a_metric_that_cannot_be_opened_is_a_row_without_value(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def construct(_: Scoring) -> Metric:
        raise OSError("its weights\nare gone")

    monkeypatch.setitem(metrics.METRICS, "broken", construct)
    monkeypatch.setitem(metrics.METRICS, "good", lambda _: Gives("good", [row("good")]))
    scored = score_all(open_metrics(["broken", "good"], Scoring("cpu", tmp_path, tmp_path)), comparison)
    assert scored.unscored == {"broken": "its weights are gone"}
    assert [each.key for each in scored.scores] == ["good"]


def test_a_row_that_is_there_already_is_not_shown_twice(score: Callable[..., Scored]) -> None:
    scored = score(one=[row("one", 1, "FD")], two=[row("two", 2, "FD"), row("two", 3, "KD")])
    assert [(each.label, each.value) for each in scored.scores] == [("FD", 1), ("KD", 3)]
    assert scored.unscored == {}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), SystemExit()])
def test_what_ends_the_process_is_not_a_metrics_failure(score: Callable[..., Scored], failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        score(broken=failure)


def test_a_stop_leaves_the_metrics_after_it_out(comparison: Comparison) -> None:
    stop = SimpleNamespace(asked=False)

    def told() -> None:
        stop.asked = True

    opened = {name: Gives(name, [row(name)]) for name in ("first", "second", "third")}
    scored = score_all(opened, comparison, stopped=lambda: stop.asked, done=told)
    assert [each.key for each in scored.scores] == ["first"]
    assert scored.unscored == {"second": "interrupted", "third": "interrupted"}
    assert scored.errors == ()


def test_a_stop_ends_the_metric_that_counts_its_images(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def progress(name: str, total: int) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG001
        return nullcontext(counted.append)

    class Slow:
        key = "slow"

        def __init__(self, scoring: Scoring) -> None:
            self._scoring = scoring

        def score(self, comparison: Comparison) -> list[Score]:  # noqa: ARG002
            with self._scoring.progress("images", 4) as report:
                for done in range(1, 5):
                    report(done)
            return [row("slow")]

    def stopped() -> bool:
        return len(counted) == 2

    monkeypatch.setitem(metrics.METRICS, "slow", Slow)
    opened = open_metrics(["slow"], Scoring("cpu", tmp_path, tmp_path, progress=progress), stopped)
    assert score_all(opened, comparison, stopped=stopped).unscored == {"slow": "interrupted"}
    assert counted == [1, 2]
    counted.extend([0])  # no stop any more: the same metric scores
    assert [each.key for each in score_all(opened, comparison, stopped=stopped).scores] == ["slow"]


def test_every_metric_is_told_of_when_it_is_done(comparison: Comparison) -> None:
    done: list[None] = []
    opened = {"a": Gives("a", [row("a")]), "b": Gives("b", ValueError("broken"))}
    score_all(opened, comparison, done=lambda: done.append(None))
    assert len(done) == 2


@pytest.mark.parametrize("name", ["fid", "kid", "prdc", "match", "psnr", "memorisation", "fd-effnet", "cmmd"])
def test_without_references_a_distance_says_so(name: str, tmp_path: Path) -> None:
    generated = ImageSet("made", (tmp_path / "a.png", tmp_path / "b.png"), ("a", "b"))
    comparison = Comparison(generated, ImageSet("none", ()), training=generated)
    scored = score_all(open_metrics([name], Scoring("cpu", tmp_path, tmp_path)), comparison)
    assert scored.unscored == {name: "no reference images"}


@pytest.mark.parametrize("name", ["kid", "prdc", "match", "psnr", "memorisation"])
def test_statistics_serve_no_metric_that_needs_images(name: str, tmp_path: Path) -> None:
    generated = ImageSet("made", (tmp_path / "a.png", tmp_path / "b.png"), ("a", "b"))
    statistics = tmp_path / "real.npz"
    comparison = Comparison(generated, ImageSet("real.npz", ()), statistics=statistics, training=generated)
    scored = score_all(open_metrics([name], Scoring("cpu", tmp_path, tmp_path)), comparison)
    assert scored.unscored == {name: "the reference is statistics alone, without images"}
    assert scored.errors == ()
