"""`sstoken init`: a YAML that trains, from three answers or from flags.

sstoken init                                                              asks
sstoken init --framework trl --model Qwen/Qwen3-0.6B --data chats.jsonl   does not
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sstoken_plugins import registry
from sstoken_plugins.errors import Refused, refused
from sstoken_plugins.methods.outlook import evidence
from sstoken_transformers import files
from sstoken_transformers.choosing import frameworks
from sstoken_transformers.framework import Framework, Start

from .failing import fail


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    arguments = make_parser().parse_args(list(argv))
    try:
        framework = _framework(arguments.framework or _ask("framework", "Which framework", _installed()))
        start = _start(arguments)
        path = start.path
        if path.exists() and not arguments.force:
            raise refused("{path} exists: name another with --out, or overwrite it with --force.", path=path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(framework.configuration(start), encoding="utf-8")
    except (Refused, OSError) as error:
        return fail("init", error)
    print(f"{path} is written. Next:\n    sstoken doctor {path}\n    {framework.training(path)}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sstoken init",
        description="Write a YAML that fine-tunes a LoRA adapter with token selection. Asks for what no flag says.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--framework", choices=sorted(_able()), help="what the YAML is for")
    add("--model", metavar="NAME", help="name or folder of the model")
    add("--data", metavar="DATA", help="a .jsonl, .json, .parquet or .csv file, a folder, or a data set of the hub")
    add("--columns", metavar="A=B,...", help="your columns, as in question=prompt,answer=completion; default: by name")
    add("--method", metavar="NAME", default="sstoken", help="which tokens train (`sstoken plugins`); default: sstoken")
    add("--out", metavar="RUN.yaml", type=Path, default=Path("run.yaml"), help="the file to write; default: run.yaml")
    add("--force", action="store_true", help="overwrite it")
    return parser


def _start(arguments: argparse.Namespace) -> Start:
    methods = registry.registered("method")
    if arguments.method not in methods:
        raise Refused(registry.unknown_name("method", arguments.method, sorted(methods)))
    model = arguments.model or _ask("model", "Name or folder of the model", "Qwen/Qwen3-0.6B")
    data = arguments.data or _ask("data", "Your data: a file, a folder, or a data set of the hub", "")
    rows = files.load(data, "train")
    columns = _columns(rows, data, arguments.columns)
    first: Mapping[str, Any] = next(iter(rows), {})
    turns = first.get(columns.get("messages", "")) or []
    import torch

    return Start(
        model=model,
        data=data,
        columns=columns,
        from_value=bool(turns) and "from" in turns[0],
        method=arguments.method,
        known=evidence(methods[arguments.method]),
        has_gpu=torch.cuda.is_available(),
        path=arguments.out,
    )


def _columns(rows: Any, data: str, given: str | None) -> dict[str, str]:
    """The data's columns by what they are: a prompt and its completion, or messages."""
    known = files.columns_of(rows)
    for text in (given, None if given else files.suggestion(known)):
        if text is None:
            continue
        renames = files.parse_columns(text)
        if given:
            files.renamed(rows, renames, data)
        names = {renames.get(each, each): each for each in known}
        if "prompt" in names and "completion" in names:
            return {"prompt": names["prompt"], "completion": names["completion"]}
        for name in ("messages", "conversations"):
            if name in names:
                return {"messages": names[name]}
    raise Refused(files.unknown_columns(known, "say which they are with --columns {columns}."))


def _able() -> dict[str, Framework]:
    """The frameworks that configurations can be written for."""
    return {
        name: each for name, each in frameworks().items() if type(each).configuration is not Framework.configuration
    }


def _framework(name: str) -> Framework:
    if name not in _able():
        raise refused("The framework is {name!r}. Known: {known}.", name=name, known=", ".join(sorted(_able())))
    return _able()[name]


def _installed() -> str:
    """The first framework that is installed here."""
    found = [name for name, each in _able().items() if importlib.util.find_spec(each.package) is not None]
    return sorted(found, reverse=True)[0] if found else "trl"


def _ask(flag: str, question: str, default: str) -> str:
    """The user's answer.

    Raises:
        Refused: if there is no terminal to ask on, or no answer where there is no default.
    """
    answer = ""
    if sys.stdin.isatty():
        answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
        answer = answer or default
    elif flag == "framework":
        answer = default
    if not answer:
        raise refused("`--{flag}` is not set: name it.", flag=flag)
    return answer
