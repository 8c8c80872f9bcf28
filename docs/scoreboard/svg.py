"""Scalable drawings that follow the reader's light or dark scheme, and are the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
COLOURS: dict[str, tuple[str, str]] = {
    "back": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#161b22"),
    "better": ("#e6f4ea", "#12291b"),
    "grid": ("#d8dee4", "#2d333b"),
    "text": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9198a1"),
    "plain": ("#1f2328", "#f0f3f6"),
    "rel": ("#c2410c", "#fb923c"),
    "likely": ("#1d63b8", "#62a8f5"),
    "base": ("#047857", "#3ccb8f"),
    "reference": ("#8b2fb0", "#d18bf0"),
    "other": ("#59636e", "#9198a1"),
    "up1": ("#e3eefa", "#152537"),
    "up2": ("#b9d5f1", "#1b3f66"),
    "up3": ("#7db0e3", "#24619f"),
    "up4": ("#2a6fba", "#5ba4ee"),
    "down1": ("#fcefe3", "#2e2116"),
    "down2": ("#f8d3ae", "#5a3514"),
    "down3": ("#eda760", "#8f5218"),
    "down4": ("#c2600f", "#ee9443"),
    "on4": ("#ffffff", "#0d1117"),
}
"""By name, in the light and the dark scheme."""
CHARACTER = 0.56
"""About how wide a character is, in font sizes."""


def number(value: float, digits: int = 1) -> str:
    """A coordinate, without a minus before 0 and without ends of zeros."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return "0" if text in ("-0", "") else text


def signed(value: float) -> str:
    """A difference with its sign, a true minus before negative ones."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 11,
    colour: str = "text",
    anchor: str = "start",
    bold: bool = False,
    turn: float = 0,
) -> str:
    """`y` is that of the baseline; `turn` in degrees, about (x, y)."""
    extra = ' font-weight="600"' if bold else ""
    extra += f' transform="rotate({number(turn)} {number(x)} {number(y)})"' if turn else ""
    extra += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" class="f-{colour}"{extra}>'
        f"{escape(words)}</text>"
    )


def rectangle(x: float, y: float, width: float, height: float, colour: str, radius: float = 0) -> str:
    rounded = f' rx="{number(radius)}"' if radius else ""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"{rounded} '
        f'class="f-{colour}"/>'
    )


def line(
    points: Sequence[tuple[float, float]], colour: str, width: float = 1, dashes: str = "", alpha: float = 1
) -> str:
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    extra += f' opacity="{number(alpha, 2)}"' if alpha < 1 else ""
    places = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return f'<polyline points="{places}" class="s-{colour}" stroke-width="{number(width)}" fill="none"{extra}/>'


SHAPES = {
    "star": "0,-1.5 0.42,-0.5 1.45,-0.45 0.63,0.2 0.9,1.2 0,0.62 -0.9,1.2 -0.63,0.2 -1.45,-0.45 -0.42,-0.5",
    "diamond": "0,-1.4 1.4,0 0,1.4 -1.4,0",
    "square": "-1,-1 1,-1 1,1 -1,1",
    "triangle": "0,-1.3 1.2,0.9 -1.2,0.9",
}


def point(
    x: float,
    y: float,
    colour: str,
    *,
    radius: float = 3.5,
    shape: str = "circle",
    hollow: bool = False,
    title: str = "",
) -> str:
    """`title` shows where the drawing is open by itself and a mouse rests on the point."""
    fill, stroke, width = ("back", colour, 1.5) if hollow else (colour, "back", 0.8)
    style = f'class="f-{fill} s-{stroke}" stroke-width="{width}"'
    inner = f"<title>{escape(title)}</title>" if title else ""
    if shape == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" {style}>{inner}</circle>'
    corners = (pair.split(",") for pair in SHAPES[shape].split())
    places = " ".join(f"{number(x + radius * float(a))},{number(y + radius * float(b))}" for a, b in corners)
    return f'<polygon points="{places}" {style}>{inner}</polygon>'


def drawing(width: float, height: float, title: str, body: Iterable[str]) -> str:
    """The whole, on a card of its own colour, so that it can be read on any page."""
    light = "".join(f".f-{name}{{fill:{one}}}.s-{name}{{stroke:{one}}}" for name, (one, _) in COLOURS.items())
    dark = "".join(f".f-{name}{{fill:{one}}}.s-{name}{{stroke:{one}}}" for name, (_, one) in COLOURS.items())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
            f'width="{number(width)}" height="{number(height)}" font-family="{FONT}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{light}@media (prefers-color-scheme: dark){{{dark}}}</style>",
            rectangle(0, 0, width, height, "back", radius=8),
            *body,
            "</svg>\n",
        ]
    )
