"""Parts that every section of report.html is made of: text from elsewhere, and tables of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmark.console.plain_text import visible


def text(content: str) -> str:
    """Return text from elsewhere as it may stand anywhere in the page: it makes no tag, and hides nothing."""
    return escape(visible(content))


def grid(corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], kind: str = "") -> str:
    """Return a table of texts from elsewhere: each row has a label and a cell for each column.

    kind: the table's class in the style sheet.
    """
    names = "".join(f"<th>{text(name)}</th>" for name in (corner, *columns))
    lines = "".join(
        f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in (label, *cells))}</tr>" for label, cells in rows
    )
    of_kind = f' class="{kind}"' if kind else ""
    return f"<table{of_kind}><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"
