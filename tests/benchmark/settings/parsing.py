"""How tests read settings: as the program does, from arguments and variables, without those of this environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmark.settings.command_line import SettingsError, parse_command
from benchmark.settings.fields import Settings, settings_class

SETTINGS = settings_class()
FIELDS = SETTINGS.model_fields


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in FIELDS:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmark.settings.command_line.settings_class", lambda: SETTINGS)  # made once, for speed


def read_line(line: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables of a line: "A=1 B=x\\,y", or "--flag ''"."""
    if line.startswith("--") or "=" not in line:
        return shlex.split(line), {}
    words = [word.replace("\\,", ",").partition("=") for word in line.split(" ")]
    return [], {name: value for name, _, value in words}


def parse(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], variables: Mapping[str, str]) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return parse_command(arguments, variables).settings


def refusal(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], variables: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(monkeypatch, arguments, variables)
    text = str(caught.value)
    assert text == "".join(text.splitlines()), "one line"
    return text
