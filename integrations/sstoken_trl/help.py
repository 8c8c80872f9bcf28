"""`sstoken sft --help`: this project's flags first, and all of TRL's and of the launcher's behind `--help-all`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence

from sstoken_plugins import Option, all_options, registry

from .names import PREFIX

HELP_ALL = "--help-all"
USAGES = {
    "sstoken sft": "sstoken sft [RUN.yaml] --model NAME --data FILE --sstoken [flags]",
    "sstoken record": "sstoken record [RUN.yaml] --sstoken_history_store FOLDER [flags of `sstoken sft`]\n"
    "       sstoken record --as reference --model LARGER RUN.yaml --sstoken_reference_store FOLDER",
}
TITLES = {
    "general": "options of every method",
    "history": "options of histories (--sstoken_history)",
    "measurement": "options of what methods read",
    "signal": "options of what methods read",
    "extension": "options of reports",
}


def asked_for_help(argv: Sequence[str], prog: str) -> int | None:
    """Prints help if it is asked for, or the usage if nothing is; returns the exit status then, and else None."""
    if HELP_ALL in argv:
        from .arguments import make_parser

        parser = make_parser(prog)
        parser.usage = f"{USAGES[prog]}\n\nAll flags; those of `accelerate launch` may be mixed in."
        parser.print_help()
        return 0
    if {"-h", "--help"} & set(argv):
        print(own_help(prog, chosen(argv)), end="")
        return 0
    if not argv:
        parser = argparse.ArgumentParser(prog=prog, usage=USAGES[prog])
        parser.error("name a model and data, or a YAML that does; see --help, or let `sstoken init` write a YAML")
    return None


def chosen(argv: Sequence[str]) -> str | None:
    """The method whose options the user wants to see."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{PREFIX}strategy")
    found: str | None = parser.parse_known_args(list(argv))[0].sstoken_strategy
    return found if found in registry.registered("method") else None


def own_help(prog: str, method: str | None) -> str:
    """The flags that this project adds.

    Args:
        method: the one whose options are listed; None: the default method.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=USAGES[prog],
        description="Fine-tune on the tokens that matter. Takes every flag and every YAML of `trl sft`, and these:",
        epilog=f"The flags of `trl sft`, such as --use_peft and --learning_rate: {prog} {HELP_ALL}. "
        f"Options of another method: {prog} --help --sstoken_strategy NAME (`sstoken plugins` lists them).",
        add_help=False,
    )
    group = parser.add_argument_group("model and data")
    group.add_argument("--model", metavar="NAME", help="name or folder of the model; short for --model_name_or_path")
    group.add_argument(
        "--data", metavar="DATA", help="a .jsonl, .json, .parquet or .csv file, a folder, or a data set of the hub"
    )
    group.add_argument(
        "--columns", metavar="A=B,...", help="your columns by TRL's names, as in question=prompt,answer=completion"
    )
    group.add_argument("--split", metavar="NAME", help="of the data; short for --dataset_train_split")
    group.add_argument("--config", metavar="RUN.yaml", help="all of this in a YAML, which may also come first")
    group = parser.add_argument_group("token selection")
    group.add_argument("--sstoken", action="store_true", help="switch it on; without, this is `trl sft`")
    _add(group, all_options()["strategy"])
    name = method or all_options()["strategy"].default
    own = {each.name for each in dataclasses.fields(registry.lookup("method", name).Options)}
    if own:
        _add(parser.add_argument_group(f"options of {name}"), *(all_options()[each] for each in sorted(own)))
    for title, options in _others(own | {"strategy"}):
        _add(parser.add_argument_group(title), *options)
    return parser.format_help()


def _others(shown: set[str]) -> Iterator[tuple[str, list[Option]]]:
    """The options that do not belong to a method alone, by title."""
    groups: dict[str, list[Option]] = {title: [] for title in TITLES.values()}
    for option in all_options().values():
        kinds = [owner.partition(" ")[0] for owner in option.owners]
        kind = next((kind for kind in kinds if kind in TITLES), None)
        if kind is not None and option.name not in shown:
            groups[TITLES[kind]].append(option)
    yield from ((title, options) for title, options in groups.items() if options)


def _add(group: argparse._ArgumentGroup, *options: Option) -> None:
    for option in options:
        metavar = None if option.type is bool else option.type.__name__.upper().replace("STR", "TEXT")
        described = option.described.replace("%", "%%")
        group.add_argument(f"--{PREFIX}{option.name}", metavar=metavar, help=described)
