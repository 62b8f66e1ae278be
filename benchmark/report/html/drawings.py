"""A plot's layout as SVG: every text from elsewhere is escaped."""

from __future__ import annotations

import unicodedata

from benchmark.report.html.elements import text
from benchmark.report.marks import FONT_SIZE, Band, Dot, Drawing, Line, Words

_WIDE_EM, _NARROW_EM = 1.05, 0.6


def width_in_page(content: str, size: float = FONT_SIZE) -> float:
    """Return a width in pixels that a text does not exceed in common fonts."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in content)
    return size * (_WIDE_EM * wide + _NARROW_EM * (len(content) - wide))


def to_svg(drawing: Drawing) -> str:
    """Return the drawing as an element of the page."""
    style = f'font-size="{FONT_SIZE:g}" font-family="system-ui, sans-serif"'
    size = f'width="{drawing.width}" height="{drawing.height}"'
    return f'<svg {size} {style} role="img">{"".join(map(_element, drawing.marks))}</svg>'


def _element(mark: Line | Band | Dot | Words) -> str:
    if isinstance(mark, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
        dashes = ' stroke-dasharray="6 4"' if mark.dashed else ""
        stroke = f'stroke="{mark.colour}" stroke-width="{mark.width:g}"'
        return f'<polyline points="{points}" fill="none" {stroke}{dashes}/>'
    if isinstance(mark, Band):
        box = mark.box
        size = f'width="{box.right - box.left:.1f}" height="{box.bottom - box.top:.1f}"'
        return f'<rect x="{box.left:.1f}" y="{box.top:.1f}" {size} fill="{mark.colour}"/>'
    if isinstance(mark, Dot):
        fill = mark.colour if mark.filled else "#fff"
        place = f'cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{mark.radius:g}"'
        paint = f'fill="{fill}" stroke="{mark.colour}" stroke-width="1.6"'
        return f"<circle {place} {paint}><title>{text(mark.title)}</title></circle>"
    turned = f' transform="rotate(-90 {mark.x:.1f} {mark.y:.1f})"' if mark.upwards else ""
    paint = f'text-anchor="{mark.anchor}" fill="{mark.colour}" font-size="{mark.size:g}" dominant-baseline="central"'
    if mark.halo:
        paint += ' stroke="#fff" stroke-width="3" paint-order="stroke"'
    return f'<text x="{mark.x:.1f}" y="{mark.y:.1f}" {paint}{turned}>{text(mark.text)}</text>'
