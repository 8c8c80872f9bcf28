"""Shows a diagnosis to people and to scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .diagnosis import DataFacts, Diagnosis, Forecast

LITTLE_NOISE = 0.02
"""Clean data have up to so many (docs/results.md)."""
PLACES = {"device": "in addition to the model", "host": "in memory and in every checkpoint", "disk": "on disk"}


def show(found: Diagnosis, as_json: bool) -> None:
    """On the standard output; colours and wrapped lines only on a terminal."""
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a line each, for grep
    facts = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for label, text in _facts(found):
        facts.add_row(label, text)
    _print(console, facts)
    for mark, style, lines in (("!", "bold red", found.problems), ("-", "yellow", found.notes)):
        table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for line in lines:
            table.add_row(Text(mark, style), Text(line.replace("\n", " ")))
        if lines:
            heading = "Problems" if lines is found.problems else "Worth knowing"
            console.print(f"\n[{style}]{heading}[/]")
            _print(console, table)
    if found.healthy:
        console.print("\n[bold green]No problems found.[/]")
    else:
        n = len(found.problems)
        console.print(f"\n[bold red]{n} problem{'s' * (n > 1)}: this run would fail, or train something else.[/]")


def _print(console: Console, table: Table) -> None:
    """Without the spaces that a table has at the ends of its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(line.rstrip(), markup=False, soft_wrap=True)


def _facts(found: Diagnosis) -> Iterator[tuple[str, Text]]:
    shown = Text(", ").join(
        Text(f"{version.package} {version.installed or 'not installed'}")
        + Text("" if version.is_tested or not version.installed else " (not tested)", "yellow")
        for version in found.versions
    )
    yield found.framework, shown
    yield "Selection", Text(found.selection or "unknown")
    if found.outlook:
        yield "Outlook", Text(found.outlook)
    if found.model is not None:
        model = found.model
        size = f"{_short(model.parameters)} parameters, {_short(model.trainable)} train"
        yield "Model", Text(f"{model.architecture}, {size}")
        for name, text in model.measured.items():
            yield name.capitalize(), Text(f"read in {text}")
        memory = [f"{_bytes(size)} {PLACES[place]}" for place, size in model.memory.items()]
        if found.selection:
            yield "History", Text(", ".join(memory) or "takes no memory")
    if found.data is not None:
        yield from _data(found.data)
    if found.forecast is not None:
        yield from _forecast(found.forecast)


def _data(data: DataFacts) -> Iterator[tuple[str, Text]]:
    samples = max(1, data.samples)
    yield (
        "Data",
        Text(
            f"{data.samples:,} samples, {data.without_prompt / samples:.1%} without prompt, "
            f"{data.without_response / samples:.1%} without response"
        ),
    )
    tokens = f"{data.prompt_tokens:,} of prompts, {data.response_tokens:,} of responses"
    if data.kept_tokens is not None:
        share = data.kept_tokens / max(1, data.response_tokens)
        tokens += f", of which {data.kept_tokens:,} ({share:.1%}) train in each epoch"
    yield "Tokens", Text(tokens)
    if data.recorded is not None:
        yield "Recorded", Text(f"{data.recorded:,} of these samples")


def _forecast(seen: Forecast) -> Iterator[tuple[str, Text]]:
    of = f"of {seen.response_tokens:,} response tokens in {seen.samples:,} samples"
    share, noise = (n / max(1, seen.response_tokens) for n in (seen.trained_tokens, seen.noise_tokens))
    yield (
        "Forecast",
        Text(
            f"at the first step, {share:.1%} {of} train, with weights of {seen.lowest_weight:.3g} to "
            f"{seen.highest_weight:.3g}, {seen.mean_weight:.3g} on average"
        ),
    )
    yield (
        "Noise",
        Text(
            f"{noise:.1%} of them look like noise to the model (less likely than a tenth of a uniform guess)"
            + (
                ": leaving noise out would change little"
                if noise < LITTLE_NOISE
                else ": look at them, with `sstoken inspect`"
            )
        ),
    )


def _short(number: float) -> str:
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}B"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
