"""Writes README's table of settings from the settings themselves, so that it cannot differ from --help.

python scripts/document_settings.py
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmark.settings.fields import settings_class

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings: written by scripts/document_settings.py -->", "<!-- end of settings -->"
# Defaults that depend on other settings cannot be read off a field.
DEFAULTS = {
    "DATASET": "`gundam` (`robots` with random and tiny weights)",
    "OUTPUT_DIR": "`local_repo` (`local_repo/random`, `local_repo/tiny`)",
    "IMAGE_SIZE": "512 (64 with tiny weights)",
    "NUM_REFERENCES": "max(NUM_SAMPLES, 2000)",
    "METRICS": "`fid,kid` (`fid,kid,fidelity,psnr` with tiny weights)",
}


def settings_table() -> str:
    """Return the table in Markdown: variable, default, meaning; the switches of all models share two lines."""
    fields = settings_class().model_fields
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        if not name.startswith(("skip_", "run_")):
            variable = name.upper()
            lines.append(f"| `{variable}` | {DEFAULTS.get(variable) or _shown(field.default)} | {field.description} |")
    switches = [
        f"| {_names(fields, 'skip_')} | 0 | 1: leave that model out |",
        f"| {_names(fields, 'run_')} | 1 | the same the other way round; a contradiction is an error |",
    ]
    place = next(number for number, line in enumerate(lines) if line.startswith("| `MODELS`"))
    return "\n".join(lines[:place] + switches + lines[place:])


def with_table(readme: str) -> str:
    """Return README's text with the table between the two marks replaced."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{settings_table()}\n\n{END}{rest.split(END)[1]}"


def _names(fields: Iterable[str], prefix: str) -> str:
    return " ".join(f"`{name.upper()}`" for name in fields if name.startswith(prefix))


def _shown(default: object) -> str:
    if default in (None, "", ()):
        return "-"
    if isinstance(default, bool):
        return str(int(default))
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return str(default) if isinstance(default, int | float) else f"`{default}`"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
