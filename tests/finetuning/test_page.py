"""The page before and after: names from elsewhere are shown as they are, and no other program's file is replaced."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from benchmark.console.plain_text import visible
from finetuning.page import DomainFindings, Findings, check_reports, draw_curve, plain, write_page
from metrics.base import Score

HOSTILE = "a\x1b[31m|b\u202e<script>alert(1)</script>\n# [x](javascript:y) `c` *d* $\\frac$ =cmd|'/c'!A0"


def score_of(name: str, value: float = 1.0) -> Score:
    return Score(
        key="kid", label=f"KID {name}", short="KID", value=value, better="lower", n_generated=1, n_reference=1,
        identity=name, decimals=2,
    )  # fmt: skip


def findings(name: str, curve_count: int = 1) -> Findings:
    score = score_of(name)
    target = DomainFindings(
        name=name, count=3, before={"kid": score}, after={"kid": score}, unscored={"match": name},
        curve={0.0: score_of(name, 5.0), 0.5: score_of(name, 3.0), 1.0: score_of(name, 2.0)}, curve_count=2,
        floor={"kid": score}, curve_floor=score, remarks=(name,),
    )  # fmt: skip
    drift = DomainFindings(
        name=name, count=2, before={"kid": score}, after={"kid": score}, unscored={},
        curve={0.0: score_of(name, 6.0), 0.5: score_of(name, 7.0), 1.0: score_of(name, 8.0)}, curve_count=curve_count,
    )  # fmt: skip
    return Findings(target, drift, facts={"LoRA": name})


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


def test_each_strength_has_its_distances_and_its_share_of_the_way(tmp_path: Path) -> None:
    write_page(findings("name", curve_count=2), tmp_path / "finetune.md")
    text = (tmp_path / "finetune.md").read_text(encoding="utf-8")
    assert "| 0 | 5.00 | 0 % | 6.00 |\n| 0.5 | 3.00 | 50 % | 7.00 |\n| 1 | 2.00 | 75 % | 8.00 |\n" in text
    assert "KID on the first 2 captions of each domain" in text


def test_a_domain_with_fewer_captions_is_not_said_to_have_as_many(tmp_path: Path) -> None:
    write_page(findings("name", curve_count=1), tmp_path / "finetune.md")
    text = (tmp_path / "finetune.md").read_text(encoding="utf-8")
    assert "KID on the first 2 captions of the target and 1 of the drift domain" in text
    assert "3 captions that were not trained on" in text
    assert "The same on 2 captions outside the target" in text


def test_what_scores_must_be_read_with_stands_below_them(tmp_path: Path) -> None:
    write_page(findings("2 rows are left out"), tmp_path / "finetune.md")
    assert tmp_path.joinpath("finetune.md").read_text(encoding="utf-8").count("\n- 2 rows are left out\n") == 1


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
