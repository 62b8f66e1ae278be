"""The page before and after: names from elsewhere are shown as they are, and no other program's file is replaced."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from benchmark.console.plain_text import visible
from finetuning.experiment import Domain, Scored
from finetuning.page import CurvePoint, Findings, check_reports, draw_curve, plain, write_page
from metrics.base import ImageSet, Score

HOSTILE = "a\x1b[31m|b\u202e<script>alert(1)</script>\n# [x](javascript:y) `c` *d* $\\frac$ =cmd|'/c'!A0"


def findings(name: str) -> Findings:
    score = Score(
        key="kid",
        label=f"KID {name}",
        short="KID",
        value=1.0,
        better="lower",
        n_generated=1,
        n_reference=1,
        identity=name,
    )
    images = ImageSet("real", (Path("a.png"),), ("a caption",))
    scored = Scored({"kid": score}, {"match": name})
    return Findings(
        target=Domain(name, images), drift=Domain(name, images), before=scored, after=scored, floor=scored,
        drift_before=scored, drift_after=scored, curve=[CurvePoint(0.0, 2.0, 3.0), CurvePoint(1.0, 1.0, 4.0)],
        curve_floor=score, curve_count=1, facts={"LoRA": name},
    )  # fmt: skip


def test_names_are_shown_as_they_are_and_act_on_nothing(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet.md", tmp_path / "loud.md"
    write_page(findings("name"), quiet)
    write_page(findings(HOSTILE), loud)
    text = loud.read_text(encoding="utf-8")
    assert visible(text, keep="\n") == text
    assert "<script" not in text
    assert "[x]" not in text
    assert r"a\\x1b\[31m\|b\\u202e&lt;script&gt;" in text
    lines, others = quiet.read_text(encoding="utf-8").splitlines(), text.splitlines()
    assert len(lines) == len(others), "a newline in a name makes no line"
    cells = [line.replace(r"\|", "").count("|") for line in others]
    assert cells == [line.count("|") for line in lines], "a bar in a name makes no column"


def test_random_names_stay_on_their_line() -> None:
    draw = random.Random(0)
    for _ in range(200):
        name = "".join(chr(draw.choice((draw.randrange(0x20), draw.randrange(0x3000), 0x7C, 0x3C))) for _ in range(20))
        shown = plain(name)
        assert visible(shown) == shown
        assert "<" not in shown
        assert shown.replace("\\\\", "").replace(r"\|", "").count("|") == 0


def test_a_name_is_no_formula_to_the_curve(tmp_path: Path) -> None:
    draw_curve(findings(HOSTILE), tmp_path / "strength.png")
    with Image.open(tmp_path / "strength.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize("name", ["finetune.md", "finetune.png", "strength.png"])
def test_another_programs_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_page(findings("x"), tmp_path / "finetune.md")
    draw_curve(findings("x"), tmp_path / "strength.png")
    check_reports(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).write_text("# mine")
    with pytest.raises(ValueError, match=f"holds {name} that this program did not write") as caught:
        check_reports(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"holds {name} that this program did not write"):
        check_reports(tmp_path)
