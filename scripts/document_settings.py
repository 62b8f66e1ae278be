"""Writes README's list of settings from the settings themselves, so that it cannot differ from --help.

python scripts/document_settings.py
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from benchmark.settings.fields import settings_class

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings: written by scripts/document_settings.py -->", "<!-- end of settings -->"
WIDTH = 118
# Defaults that depend on other settings cannot be read off a field.
DEFAULTS = {
    "DATASET": "`gundam` (`robots` with random and tiny weights)",
    "OUTPUT_DIR": "`local_repo` (`local_repo/random`, `local_repo/tiny`)",
    "IMAGE_SIZE": "512 (64 with tiny weights)",
    "NUM_REFERENCES": "max(NUM_SAMPLES, 2000)",
    "METRICS": "`fid,kid` (`fid,kid,fidelity,psnr` with tiny weights)",
}


def settings_list() -> str:
    """Return the list in Markdown: variable, default, meaning; the switches of all models share two entries."""
    fields = settings_class().model_fields
    entries: list[str] = []
    for name, field in fields.items():
        if name == "models":
            entries.append(_entry(_names(fields, "skip_"), "0", "1: leave that model out"))
            meaning = "the same the other way round; a contradiction is an error"
            entries.append(_entry(_names(fields, "run_"), "1", meaning))
        if not name.startswith(("skip_", "run_")):
            variable = name.upper()
            default = DEFAULTS.get(variable) or _shown(field.default)
            entries.append(_entry(f"`{variable}`", default, field.description or ""))
    return "\n".join(entries)


def _entry(variables: str, default: str, meaning: str) -> str:
    text = f"- {variables} [{default}]: {meaning}" if default else f"- {variables}: {meaning}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def with_list(readme: str) -> str:
    """Return README's text with the list between the two marks replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{settings_list()}\n\n{END}{rest.split(END)[1]}"


def _names(fields: Iterable[str], prefix: str) -> str:
    return " ".join(f"`{name.upper()}`" for name in fields if name.startswith(prefix))


def _shown(default: object) -> str:
    if default in (None, "", ()):
        return ""
    if isinstance(default, bool):
        return str(int(default))
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return str(default) if isinstance(default, int | float) else f"`{default}`"


if __name__ == "__main__":
    README.write_text(with_list(README.read_text()))
