"""What a configuration of a model is called in a sentence: "PixArt at 8 steps, compiled"."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.model_result import ModelResult

_MODE, _DTYPE, _PLAIN_MODE = "MODE", "DTYPE", "eager"


def model_of(column: ModelResult) -> str:
    """Return the name of a column's model; a column that has none is a model of its own."""
    return column.model or column.name


def configurations_of(columns: Sequence[ModelResult]) -> dict[str, list[ModelResult]]:
    """Return the columns of each model, in their order; models of one name from two folders are two models."""
    found: dict[tuple[str, ...], list[ModelResult]] = {}
    for column in columns:
        paths = sorted(value for name, value in column.options.items() if "/" in value and not name.endswith("_PROMPT"))
        found.setdefault((model_of(column), *paths), []).append(column)
    names = [name for name, *_ in found]
    return {
        name if names.count(name) == 1 else alike[0].name: alike
        for name, alike in zip(names, found.values(), strict=True)
    }


def has_choice(columns: Sequence[ModelResult]) -> bool:
    """Return whether some model has more than one configuration."""
    return any(len(configurations) > 1 for configurations in configurations_of(columns).values())


def describe(column: ModelResult, columns: Sequence[ModelResult]) -> str:
    """Return a column as its model with what tells it from the other configurations of `columns`.

    "PixArt at 8 steps", "VAR-d16 at cfg 1.5", "SDXL compiled", "PixArt at 8 steps, compiled".
    """
    alike = [other for other in columns if model_of(other) == model_of(column)]
    details = _details(column, alike)
    if details is None:
        return column.name
    options, axes = details
    if axes == [_PLAIN_MODE] and options:
        axes = []
    axes = [value for value in axes if value != _PLAIN_MODE] or axes
    name = model_of(column)
    if not options:
        return " ".join([name, *([", ".join(axes)] if axes else [])])
    return ", ".join([f"{name} at {', '.join(options)}", *axes])


def describe_beside(column: ModelResult, other: ModelResult, columns: Sequence[ModelResult]) -> str:
    """Return what tells a column from another one that was named before: "at 20", "at 20, eager", "eager".

    Another model's column is described whole.
    """
    details = _details(column, [column, other]) if model_of(column) == model_of(other) else None
    if details is None:
        return describe(column, columns)
    options, axes = details
    shown = [option.removesuffix(" steps").removesuffix(" step") for option in options]
    return ", ".join([f"at {', '.join(shown)}", *axes] if shown else axes)


def _details(column: ModelResult, alike: Sequence[ModelResult]) -> tuple[list[str], list[str]] | None:
    """Return the options and the axes in which columns differ, as words; None where words would be a path."""
    options = [name for name in column.options if len({other.options.get(name) for other in alike}) > 1]
    if any("/" in column.options[name] for name in options):
        return None
    axes = [name for name in (_DTYPE, _MODE) if len({_axis(other, name) for other in alike}) > 1]
    others = [name for name in column.axes if name not in (_DTYPE, _MODE)]
    options += [name for name in others if len({other.axes.get(name) for other in alike}) > 1]
    words = [_word(column, name) for name in options]
    return words, [_axis(column, name) for name in axes]


def _axis(column: ModelResult, name: str) -> str:
    return column.axes.get(name, column.mode if name == _MODE else "")


def _word(column: ModelResult, variable: str) -> str:
    """Return an option with its value: "8 steps", "cfg 1.5"."""
    value = column.options.get(variable, column.axes.get(variable, ""))
    name = variable.removeprefix(f"{column.family}_".upper()).lower().replace("_", " ").replace("lora", "LoRA")
    if name == "steps":
        return f"{value} step" if value == "1" else f"{value} steps"
    return f"{name} {value}"
