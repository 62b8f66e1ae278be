"""The environment check on environments that are made up: what is said, which command fixes it, and what pip may do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement

from finetuning.environment import (
    Finding,
    Graphics,
    find_broken,
    find_graphics_faults,
    find_import_errors,
    find_out_of_range,
    read_ranges,
)
from finetuning.installation import fixing_command, install
from scripts.pixart_scripts.common import check_environment

RANGES = {name: Requirement(f"{name}{bound}") for name, bound in {
    "torch": ">=2.11", "peft": ">=0.17", "transformers": ">=5.0", "accelerate": ">=1.10", "diffusers": ">=0.42",
}.items()}  # fmt: skip
GOOD = {
    "torch": "2.14.1+cu130", "peft": "0.21.2", "transformers": "5.24.0", "accelerate": "1.15.0", "diffusers": "0.42.1",
    "huggingface-hub": "2.4.0", "torchvision": "0.29.1", "protobuf": "7.36.2",
}  # fmt: skip


def installed(**changes: str | None) -> dict[str, str]:
    return {name: version for name, version in {**GOOD, **changes}.items() if version is not None}


def out_of_range(**changes: str | None) -> list[Finding]:
    return find_out_of_range(installed(**changes), RANGES)


def test_packages_in_range_have_no_conflict() -> None:
    assert out_of_range() == []


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    (finding,) = out_of_range(accelerate=None)
    assert finding.text == "accelerate is not installed; requirements.txt needs accelerate>=1.10"
    assert fixing_command([finding], "py")[-1] == "accelerate>=1.10"


def test_an_old_peft_is_outside_of_the_ranges() -> None:
    (finding,) = out_of_range(peft="0.10.0")
    assert finding.text == "peft 0.10.0; requirements.txt needs peft>=0.17"
    assert finding.conflict


def broken(*lines: str, status: int = 1, error: str = "") -> list[Finding]:
    return find_broken(RANGES, lambda command: subprocess.CompletedProcess(command, status, "\n".join(lines), error))


def test_what_pip_check_says_of_the_projects_packages_is_a_conflict_with_its_remedy() -> None:
    findings = broken(
        "transformers 5.24.0 has requirement huggingface-hub<3.0,>=1.31.0, but you have huggingface-hub 3.1.",
        "diffusers 0.42.1 requires importlib-metadata, which is not installed.",
    )
    assert findings[0].text.startswith("pip check: transformers 5.24.0 has requirement huggingface-hub<3.0,>=1.31.0, ")
    assert all(finding.conflict for finding in findings)
    assert set(fixing_command(findings)[-2].removeprefix("huggingface-hub").split(",")) == {"<3.0", ">=1.31.0"}
    assert fixing_command(findings)[-1] == "importlib-metadata"


def test_what_pip_check_says_of_other_packages_is_a_note() -> None:
    (note,) = broken("notebook 7.0 has requirement jupyter-server<3,>=2.4, but you have jupyter-server 3.0.")
    assert not note.conflict
    assert fixing_command([note]) == []
    (other,) = broken("notebook 7.0 requires peft>=1, which is not installed.")
    assert other.conflict, "peft is one of the project's"


def test_a_pip_that_finds_nothing_or_is_not_there_is_no_conflict() -> None:
    assert broken("No broken requirements found.", status=0) == []
    (note,) = broken(error="/usr/bin/python: No module named pip\n")
    assert not note.conflict
    assert note.text == "pip check did not run (/usr/bin/python: No module named pip)"


def test_the_installed_pips_own_words_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "peft_example-1.dist-info"
    folder.mkdir()
    needs = "Requires-Dist: nowhere-to-be-found>=2\nRequires-Dist: packaging<1\n"
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: peft-example\nVersion: 1\n{needs}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    findings = [
        finding for finding in find_broken({"peft-example": Requirement("x")}) if "peft-example" in finding.text
    ]
    assert {str(finding.remedy) for finding in findings if finding.conflict} == {"nowhere-to-be-found", "packaging<1"}


class Modules:
    """Imports that are made up: every name is there, but for the modules that break."""

    def __init__(self, **broken: Exception) -> None:
        self.broken = broken

    def __call__(self, name: str) -> Any:
        if name in self.broken:
            raise self.broken[name]
        return SimpleNamespace(
            Tensor=0, transforms=0, Accelerator=0, T5EncoderModel=0, get_peft_model=0, PixArtTransformer2DModel=0,
            SummaryWriter=0, Figure=0,
        )  # fmt: skip


def test_of_several_failing_imports_the_first_has_the_remedy() -> None:
    broken = Modules(
        torchvision=RuntimeError("operator torchvision::nms\n does not exist"),
        diffusers=ImportError("operator torchvision::nms does not exist"),
    )
    first, second = find_import_errors(installed(), RANGES, broken)
    assert first.text == "from torchvision import transforms: RuntimeError: operator torchvision::nms does not exist"
    assert second.text.startswith("from diffusers import PixArtTransformer2DModel: ImportError: ")
    assert fixing_command([first, second])[-1] == "torchvision"


def test_a_peft_too_old_for_transformers_shows_when_it_is_imported() -> None:
    (finding,) = find_import_errors(
        installed(), RANGES, Modules(peft=ImportError("cannot import name 'HybridCache' from 'transformers'"))
    )
    assert "'HybridCache'" in finding.text
    assert fixing_command([finding]) == [
        sys.executable, "-m", "pip", "install", "--upgrade", "--upgrade-strategy", "only-if-needed", "peft>=0.17",
    ]  # fmt: skip


def test_what_is_not_installed_is_not_imported_too() -> None:
    assert find_import_errors(installed(peft=None), RANGES, Modules(peft=ModuleNotFoundError("No module"))) == []


CARD = ("NVIDIA H100 80GB HBM3, 580.159.04",)


@pytest.mark.parametrize(
    ("graphics", "conflict", "text"),
    [
        (Graphics((), (), None), False, "no GPU"),
        (Graphics(CARD, (), "13.0", hidden=True), False, "CUDA_VISIBLE_DEVICES hides it"),
        (Graphics(CARD, (), "13.0"), True, "for CUDA 13.0 does not see it: update the driver"),
        (Graphics(CARD, (), None), True, "is built without CUDA"),
    ],
)
def test_a_gpu_that_torch_does_not_see_is_a_conflict_and_none_a_note(
    graphics: Graphics, conflict: bool, text: str
) -> None:
    (finding,) = find_graphics_faults(graphics, installed())
    assert finding.conflict is conflict
    assert text in finding.text
    assert fixing_command([finding]) == []


def test_a_gpu_that_is_seen_is_fine() -> None:
    assert find_graphics_faults(Graphics(CARD, ("NVIDIA H100",), "13.0"), installed()) == []


def test_another_build_of_torch_is_installed_by_hand_only() -> None:
    (finding,) = find_graphics_faults(Graphics(CARD, (), None), installed(torch="2.14.1+cpu"))
    assert "--force-reinstall --no-deps torch==2.14.1 torchvision==0.29.1 && " in finding.by_hand


def test_ranges_are_read_without_options_and_comments(tmp_path: Any) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("# direct\npeft>=0.17  # LoRA\n-e .\n\nHuggingface_Hub>=1\n")
    assert {name: str(found.specifier) for name, found in read_ranges(path).items()} == {
        "peft": ">=0.17", "huggingface-hub": ">=1",
    }  # fmt: skip


class FakePip:
    """A pip that would install what it is told here; it keeps the commands that it was given."""

    def __init__(self, plan: Mapping[str, str], status: int = 0) -> None:
        self.commands: list[Sequence[str]] = []
        self.plan, self.status = plan, status

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        report = {"install": [{"metadata": {"name": name, "version": to}} for name, to in self.plan.items()]}
        error = "noise\nERROR: No matching distribution found for peft>=0.17\nmore" if self.status else ""
        return subprocess.CompletedProcess(command, self.status, json.dumps(report), error)


def test_pip_installs_what_its_dry_run_planned() -> None:
    pip = FakePip({"peft": "0.21.2", "Werkzeug": "3.1.9"})
    assert install(["pip", "peft>=0.17"], installed(peft="0.10.0"), pip) == {"peft": "0.21.2", "werkzeug": "3.1.9"}
    dry, real = pip.commands
    assert "--dry-run" in dry
    assert list(real) == ["pip", "peft>=0.17", "peft==0.21.2", "werkzeug==3.1.9"]


def test_a_downgrade_is_refused_and_nothing_run() -> None:
    pip = FakePip({"peft": "0.21.2", "torch": "2.14.1"})
    with pytest.raises(ValueError, match=r"would downgrade torch 2\.14\.1\+cu130 -> 2\.14\.1, .*nothing was changed"):
        install(["pip"], installed(), pip)
    assert len(pip.commands) == 1


def test_pips_own_error_is_one_line() -> None:
    with pytest.raises(OSError, match=r"^pip failed \(ERROR: No matching distribution found for peft>=0.17\); nothing"):
        install(["pip"], installed(), FakePip({}, status=1))


OLD = Finding("peft 0.10.0; requirements.txt needs peft>=0.17", remedy=Requirement("peft>=0.17"))


def check(findings: Sequence[Finding], pip: FakePip, wanted: str = "") -> int:
    return check_environment.main(
        {"INSTALL": wanted}, versions=installed(), find=lambda *_: findings, pip=pip, again=lambda: 7
    )


def test_without_install_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    pip = FakePip({"peft": "0.22"})
    assert check([OLD, Finding("no GPU", conflict=False)], pip) == 1
    assert pip.commands == []
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [f"conflict: {OLD.text}", "note: no GPU"]
    assert told[2].startswith("fix it with: ")
    assert told[2].endswith(" -m pip install --upgrade --upgrade-strategy only-if-needed 'peft>=0.17'")


def test_install_fixes_it_and_checks_again(capsys: pytest.CaptureFixture[str]) -> None:
    pip = FakePip({"peft": "0.22"})
    assert check([OLD], pip, "1") == 7
    assert len(pip.commands) == 2
    assert "installed peft 0.22\n" in capsys.readouterr().out


def test_install_that_would_downgrade_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert check([OLD], FakePip({"torch": "2.0"}), "1") == 1
    assert "would downgrade torch" in capsys.readouterr().err


def test_install_never_replaces_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    pip = FakePip({})
    assert check([Finding("built without CUDA", by_hand="pip install --force-reinstall torch")], pip, "1") == 1
    assert pip.commands == []
    assert "run yourself, it replaces an installed build: pip install" in capsys.readouterr().out


def test_notes_alone_are_no_failure_and_other_words_than_0_and_1_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert check([Finding("no GPU", conflict=False)], FakePip({})) == 0
    assert "environment fits: torch 2.14.1+cu130, " in capsys.readouterr().out
    assert check([], FakePip({}), "yes") == 2
    assert "INSTALL=yes" in capsys.readouterr().err
