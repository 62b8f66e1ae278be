"""finetune.md and its images: what changed, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.console.plain_text import visible
from files import PROGRAM
from files.deletion import listed
from files.images import is_our_png
from files.reading import read_regular
from files.writing import write_atomically, write_text
from finetuning.experiment import Domain, Scored, way_to_floor
from metrics.base import Score
from metrics.replicates import difference_interval

PAGE_NAME, SHEET_NAME, CURVE_NAME = "finetune.md", "finetune.png", "strength.png"
TITLE = "# Fine-tuning, before and after"
_MARKUP = str.maketrans(
    {character: f"\\{character}" for character in "\\`*[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
)


@dataclass(frozen=True)
class CurvePoint:
    """One strength of the LoRA: KID to the target's held-out images, and to the drift domain's."""

    strength: float
    target: float
    drift: float


@dataclass(frozen=True)
class Findings:
    """All that the page says. `floor` is what training images score; facts stand in its first table."""

    target: Domain
    drift: Domain
    before: Scored
    after: Scored
    floor: Scored
    drift_before: Scored
    drift_after: Scored
    curve: Sequence[CurvePoint]
    curve_floor: Score
    curve_count: int
    facts: Mapping[str, str]

    @property
    def gone(self) -> float | None:
        """The share of the way from the base's distance to the floor that the LoRA went."""
        scores = (self.before.scores.get("fid"), self.after.scores.get("fid"), self.floor.scores.get("fid"))
        before, after, floor = scores
        if before is None or after is None or floor is None:
            return None
        return way_to_floor(before.value, after.value, floor.value)


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


def _table(before: Scored, after: Scored, floor: Mapping[str, Score]) -> list[str]:
    lines = ["| | before | after | change, paired | floor |", "|---|---|---|---|---|"]
    for key, score in after.scores.items():
        old = before.scores.get(key)
        if old is None:
            continue
        real = floor.get(key)
        if real is not None:
            bound = shown(real, real.value)
        elif key in ("match", "memorisation", "fidelity") and score.floor is not None:
            bound = f"{shown(score, score.floor)} ({plain(score.floor_meaning)})"
        else:
            bound = "-"
        lines.append(f"| {plain(score.label)} | {shown(old)} | {shown(score)} | {change(old, score)} | {bound} |")
    return lines


def write_page(findings: Findings, path: Path) -> None:
    """Write the page; the images that it shows lie beside it."""
    target, drift = findings.target, findings.drift
    gone = findings.gone
    fid = findings.after.scores.get("fid")
    head = "no distance could be computed" if gone is None or fid is None else (
        f"**{fid.short} went {100 * gone:.0f} % of the way to the floor** on {len(target.real)} held-out captions"
    )  # fmt: skip
    old, new = findings.before.scores.get("kid"), findings.after.scores.get("kid")
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
        f"{len(target.real)} captions that were not trained on, the same seeds before and after. Values have 95 % "
        "intervals; the change is paired. The floor is what as many training images score against the held-out ones: "
        "real images of other captions.", "",
        *_table(findings.before, findings.after, findings.floor.scores), "",
    ]  # fmt: skip
    memorised = findings.after.scores.get("memorisation")
    if memorised is not None:
        lines += [
            f"Memorisation guard: {memorised.value:.1f} % of the images are nearer to a training image than 99 % "
            "of the held-out real ones are; 1 % would be chance.", "",
        ]  # fmt: skip
    lines += [
        "![base, LoRA and reference](finetune.png)", "",
        f"## Drift: {plain(drift.name)}", "",
        f"The same on {len(drift.real)} captions outside the target, with the real images of that domain.", "",
        *_table(findings.drift_before, findings.drift_after, {}), "",
        "## Strength", "",
        f"{findings.curve_floor.short} on the first {findings.curve_count} captions of each domain. It is unbiased at "
        "any count; a Fréchet distance would depend on the count.", "",
        "| strength | to the target | of the way to the floor | to the drift domain |", "|---|---|---|---|",
    ]  # fmt: skip
    base = findings.curve[0]
    for point in findings.curve:
        share = way_to_floor(base.target, point.target, findings.curve_floor.value)
        told = "-" if share is None else f"{100 * share:.0f} %"
        target_distance, drift_distance = (shown(findings.curve_floor, value) for value in (point.target, point.drift))
        lines.append(f"| {point.strength:g} | {target_distance} | {told} | {drift_distance} |")
    lines += ["", "![target gain against drift](strength.png)", ""]
    unscored = findings.after.unscored | findings.drift_after.unscored
    lines += ["## Without a value", "", *(f"- `{name}`: {plain(reason)}" for name, reason in unscored.items()), ""]
    identities = dict.fromkeys(
        f"- {plain(score.label)}: {plain(score.identity)}; N = {score.n_generated}"
        + (f" against {score.n_reference}" if score.n_reference else "")
        for scored in (findings.after, findings.drift_after)
        for score in scored.scores.values()
    )
    lines += ["## Computed with", "", *identities, ""]
    write_text(path, "\n".join(lines))


def draw_curve(findings: Findings, path: Path) -> None:
    """Write strength.png: the way gone towards the target's floor against the distance to the drift domain."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    base = findings.curve[0]
    shares = [100 * (way_to_floor(base.target, p.target, findings.curve_floor.value) or 0.0) for p in findings.curve]
    drifts = [point.drift for point in findings.curve]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes.plot(drifts, shares, "o-", color="#1f4e79")
    for point, share in zip(findings.curve, shares, strict=True):
        axes.annotate(f"{point.strength:g}", (point.drift, share), textcoords="offset points", xytext=(7, -12))
    # A name is no formula, whatever dollar signs it holds.
    drift, target = visible(findings.drift.name), visible(findings.target.name)
    axes.set_xlabel(f"kernel distance to {drift} (drift: lower = better)", parse_math=False)
    axes.set_ylabel(f"% of the way to {target}'s floor (higher = better)", parse_math=False)
    axes.set_title("Strength of the LoRA")
    axes.grid(alpha=0.3)
    with write_atomically(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": PROGRAM})
    pyplot.close(figure)
