"""Draws the marked tokens of reports as SVG, light and dark.

    python docs/images/draw.py 'sstoken=REPORT.parquet' 'trimmed=REPORT.parquet' --sample 0

The reports are those of `sstoken inspect` for docs/images/answers.jsonl, one for each method:

    sstoken inspect --model SMOLLM2_135M_FOLDER --data docs/images/answers.jsonl --sstoken_strategy trimmed --out DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pyarrow.parquet as parquet

WIDTH, MARGIN, LINE, CHARACTER = 860, 20, 25, 8.43
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
NAMES = ("back", "text", "muted", "kept", "dropped", "red")
THEMES = {
    "light": ("#ffffff", "#1f2328", "#59636e", "#dafbe1", "#ffd8d3", "#b3261e"),
    "dark": ("#0d1117", "#e6edf3", "#9198a1", "#12402a", "#5a1e1e", "#ff9b91"),
}


def tokens(path: Path, sample: int) -> list[tuple[str, bool]]:
    """The response's tokens, and whether each trains; marks of the chat template left out."""
    rows = parquet.read_table(path).to_pylist()
    rows = [row for row in rows if row["sample"] == sample and row["response"]]
    return [(row["text"], row["weight"] != 0) for row in rows if row["text"].strip() and row["text"][:2] != "<|"]


def placed(parts: list[tuple[str, bool]], top: float) -> Iterator[tuple[float, float, str, bool]]:
    """Where each token goes: (x, y of the baseline, text, kept)."""
    x, y = float(MARGIN), top
    for text, kept in parts:
        lead = len(text) - len(text.lstrip(" "))
        word = text.strip()
        if x + (lead + len(word)) * CHARACTER > WIDTH - MARGIN:
            x, y, lead = float(MARGIN), y + LINE, 0
        x += lead * CHARACTER
        yield x, y, word, kept
        x += len(word) * CHARACTER


def draw(reports: dict[str, list[tuple[str, bool]]], theme: dict[str, str]) -> str:
    body, y = [], 34.0
    for title, parts in reports.items():
        kept = sum(each for _, each in parts)
        body.append(
            f'<text x="{MARGIN}" y="{y}" fill="{theme["muted"]}" font-size="13">{escape(title)}: '
            f"{kept} of {len(parts)} tokens train</text>"
        )
        y += LINE
        for x, baseline, word, trains in placed(parts, y):
            y = baseline
            width = len(word) * CHARACTER
            fill, colour = (theme["kept"], theme["text"]) if trains else (theme["dropped"], theme["red"])
            line = "" if trains else ' text-decoration="line-through"'
            body.append(
                f'<rect x="{x - 1:.1f}" y="{y - 15:.1f}" width="{width:.1f}" height="20" rx="3" fill="{fill}"/>'
            )
            body.append(
                f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="14" textLength="{width - 2:.1f}" '
                f'lengthAdjust="spacingAndGlyphs"{line}>{escape(word)}</text>'
            )
        y += LINE + 14
    height = y - LINE + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="{FONT}" role="img">'
        f"<title>Tokens that train, and tokens left out</title>"
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="{theme["back"]}"/>' + "".join(body) + "</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reports", nargs="+", help="TITLE=REPORT.parquet")
    parser.add_argument("--sample", type=int, default=0)
    arguments = parser.parse_args()
    pairs = (each.rpartition("=") for each in arguments.reports)
    reports = {title: tokens(Path(path), arguments.sample) for title, _, path in pairs}
    for name, colours in THEMES.items():
        theme = dict(zip(NAMES, colours, strict=True))
        (Path(__file__).parent / f"selection-{name}.svg").write_text(draw(reports, theme), encoding="utf-8")


if __name__ == "__main__":
    main()
