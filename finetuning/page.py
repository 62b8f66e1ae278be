"""finetune.md and its images: what changed, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.console.plain_text import visible
from files import PROGRAM
from files.deletion import listed
from files.images import is_our_png
from files.reading import read_regular
from files.writing import write_atomically, write_text
from metrics.base import Score
from metrics.replicates import difference_interval

PAGE_NAME, SHEET_NAME, CURVE_NAME = "finetune.md", "finetune.png", "strength.png"
TITLE = "# Fine-tuning, before and after"
BASE, LORA, REFERENCE = "base", "LoRA", "reference"  # the columns of its sheet
_MARKUP = str.maketrans(
    {character: f"\\{character}" for character in "\\`*[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)


@dataclass(frozen=True)
class DomainFindings:
    """What was found on one domain of captions.

    count: how many captions. before, after: the scores of the base and of the LoRA, by key. unscored: why a metric has
    no value. curve: by the LoRA's strength, 0 first, the kernel distance on the first `curve_count` captions.
    floor, curve_floor: what as many training images score; there are none outside of the target. remarks: what the
    scores must be read with.
    """

    name: str
    count: int
    before: Mapping[str, Score]
    after: Mapping[str, Score]
    unscored: Mapping[str, str]
    curve: Mapping[float, Score]
    curve_count: int
    floor: Mapping[str, Score] = field(default_factory=dict)
    curve_floor: Score | None = None
    remarks: tuple[str, ...] = ()

    @property
    def gone(self) -> float | None:
        """The share of the way from the base's distance to the floor that the LoRA went; None where it is not known."""
        before, after, floor = (scores.get("fid") for scores in (self.before, self.after, self.floor))
        if before is None or after is None or floor is None:
            return None
        return way_to_floor(before.value, after.value, floor.value)

    def gone_at(self, strength: float) -> float | None:
        """The same share of the kernel distance at a strength of the curve."""
        if self.curve_floor is None:
            return None
        return way_to_floor(self.curve[0.0].value, self.curve[strength].value, self.curve_floor.value)


@dataclass(frozen=True)
class Findings:
    """All that the page says; both domains have the same strengths. facts stand in its first table."""

    target: DomainFindings
    drift: DomainFindings
    facts: Mapping[str, str]


def way_to_floor(before: float, after: float, floor: float) -> float | None:
    """Return the share of the way from `before` to `floor`, 1 at the floor; None where `before` is not above it."""
    return (before - after) / (before - floor) if before > floor else None


def check_reports(folder: Path) -> None:
    """Raise ValueError where another program's files stand at the names of the page and its images."""
    paths = [folder / name for name in (PAGE_NAME, SHEET_NAME, CURVE_NAME)]
    foreign = [path.name for path in paths if (path.exists() or path.is_symlink()) and not _is_ours(path)]
    if foreign:
        raise ValueError(
            f"{folder} holds {listed(foreign)} that this program did not write: choose another --output_dir"
        )


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return is_our_png(path) if path.suffix == ".png" else read_regular(path).startswith(f"{TITLE}\n".encode())


def plain(text: str) -> str:
    """Return text from elsewhere as Markdown that shows it as it is, on one line, with hidden characters escaped."""
    return visible(text).translate(_MARKUP)


def shown(score: Score | None, value: float | None = None) -> str:
    """Return a score's value with its interval, or a dash."""
    if score is None:
        return "-"
    if value is not None:
        return f"{value:.{score.decimals}f}"
    text = f"{score.value:.{score.decimals}f}"
    if score.interval is not None:
        text += f" ({score.interval[0]:.{score.decimals}f} to {score.interval[1]:.{score.decimals}f})"
    return text


def change(before: Score, after: Score) -> str:
    """Return after minus before with its paired 95 % interval, and whether it is more than noise."""
    text = f"{after.value - before.value:+.{after.decimals}f}"
    interval = difference_interval(after, before)
    if interval is None:
        return f"{text} (interval not known)"
    low, high = interval
    verdict = "within noise" if low <= 0 <= high else "better" if (high < 0) == (after.better == "lower") else "worse"
    return f"{text} ({low:+.{after.decimals}f} to {high:+.{after.decimals}f}), {verdict}"


def _table(found: DomainFindings) -> list[str]:
    lines = ["| | before | after | change, paired | floor |", "|---|---|---|---|---|"]
    for key, score in found.after.items():
        old = found.before.get(key)
        if old is None:
            continue
        real = found.floor.get(key)
        if real is not None:
            bound = shown(real, real.value)
        elif key in ("match", "memorisation", "fidelity") and score.floor is not None:
            bound = f"{shown(score, score.floor)} ({plain(score.floor_meaning)})"
        else:
            bound = "-"
        lines.append(f"| {plain(score.label)} | {shown(old)} | {shown(score)} | {change(old, score)} | {bound} |")
    return [*lines, "", *(f"- {plain(remark)}" for remark in found.remarks), *([""] if found.remarks else [])]


def write_page(findings: Findings, path: Path) -> None:
    """Write the page; the images that it shows lie beside it."""
    target, drift = findings.target, findings.drift
    gone, fid = target.gone, target.after.get("fid")
    head = "no distance could be computed" if gone is None or fid is None else (
        f"**{fid.short} went {100 * gone:.0f} % of the way to the floor** on {target.count} held-out captions"
    )  # fmt: skip
    old, new = target.before.get("kid"), target.after.get("kid")
    if old is not None and new is not None:
        head += f"; {new.short} changed by {change(old, new)}"
    lines = [TITLE, "", f"{head}.", ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {plain(name)} | {plain(value)} |" for name, value in findings.facts.items()),
        "",
    ]
    lines += [
        f"## The target: {plain(target.name)}", "",
        f"{target.count} captions that were not trained on, the same seeds before and after. Values have 95 % "
        "intervals; the change is paired. The floor is what as many training images score against the held-out ones: "
        "real images of other captions.", "",
        *_table(target),
    ]  # fmt: skip
    memorised = target.after.get("memorisation")
    if memorised is not None:
        lines += [
            f"Memorisation guard: {memorised.value:.1f} % of the images are nearer to a training image than 99 % "
            "of the held-out real ones are; 1 % would be chance.", "",
        ]  # fmt: skip
    lines += [
        "![base, LoRA and reference](finetune.png)", "",
        f"## Drift: {plain(drift.name)}", "",
        f"The same on {drift.count} captions outside the target, with the real images of that domain.", "",
        *_table(drift),
        *_strengths(target, drift),
    ]  # fmt: skip
    unscored = {**target.unscored, **drift.unscored}
    lines += ["## Without a value", "", *(f"- `{name}`: {plain(reason)}" for name, reason in unscored.items()), ""]
    identities = dict.fromkeys(
        f"- {plain(score.label)}: {plain(score.identity)}; N = {score.n_generated}"
        + (f" against {score.n_reference}" if score.n_reference else "")
        for found in (target, drift)
        for score in found.after.values()
    )
    lines += ["## Computed with", "", *identities, ""]
    write_text(path, "\n".join(lines))


def _strengths(target: DomainFindings, drift: DomainFindings) -> list[str]:
    assert target.curve_floor is not None, "the target has training images"
    counts = (
        f"the first {target.curve_count} captions of each domain" if target.curve_count == drift.curve_count else
        f"the first {target.curve_count} captions of the target and {drift.curve_count} of the drift domain"
    )  # fmt: skip
    lines = [
        "## Strength", "",
        f"{target.curve_floor.short} on {counts}: a sweep over PIXART_LORA_SCALE. It is unbiased at any count; a "
        "Fréchet distance would depend on the count.", "",
        "| strength | to the target | of the way to the floor | to the drift domain |", "|---|---|---|---|",
    ]  # fmt: skip
    for strength, distance in target.curve.items():
        share = target.gone_at(strength)
        told = "-" if share is None else f"{100 * share:.0f} %"
        distances = [shown(score, score.value) for score in (distance, drift.curve[strength])]
        lines.append(f"| {strength:g} | {distances[0]} | {told} | {distances[1]} |")
    return [*lines, "", "![target gain against drift](strength.png)", ""]


def draw_curve(findings: Findings, path: Path) -> None:
    """Write strength.png: the way gone towards the target's floor against the distance to the drift domain."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    target, drift = findings.target, findings.drift
    shares = [100 * (target.gone_at(strength) or 0.0) for strength in target.curve]
    distances = [drift.curve[strength].value for strength in target.curve]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes.plot(distances, shares, "o-", color="#1f4e79")
    for strength, distance, share in zip(target.curve, distances, shares, strict=True):
        axes.annotate(f"{strength:g}", (distance, share), textcoords="offset points", xytext=(7, -12))
    # A name is no formula, whatever dollar signs it holds.
    axes.set_xlabel(f"kernel distance to {visible(drift.name)} (drift: lower = better)", parse_math=False)
    axes.set_ylabel(f"% of the way to {visible(target.name)}'s floor (higher = better)", parse_math=False)
    axes.set_title("Strength of the LoRA")
    axes.grid(alpha=0.3)
    with write_atomically(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": PROGRAM})
    pyplot.close(figure)
