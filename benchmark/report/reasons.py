"""Why figures are missing, put together: one line for each reason, with the rows and the columns that it holds for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Reason(NamedTuple):
    """Why some rows have no value. columns: those that it holds for; empty where it holds for all of them."""

    text: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def group_reasons(of_columns: Mapping[str, Mapping[str, str]]) -> list[Reason]:
    """Return each reason once for the same columns, in the order in which they are met.

    of_columns: for each column, by its name, the reason of each row that has no value.
    """
    columns: dict[tuple[str, str], list[str]] = {}
    for column, reasons in of_columns.items():
        for row, text in reasons.items():
            columns.setdefault((row, text), []).append(column)
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (row, text), names in columns.items():
        whose = () if len(names) == len(of_columns) else tuple(names)
        rows.setdefault((text, whose), []).append(row)
    return [Reason(text, tuple(names), whose) for (text, whose), names in rows.items()]
