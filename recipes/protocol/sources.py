"""The data sets of the protocol: fetched into the user's cache from where they are published, never redistributed.

python recipes/protocol/sources.py                  # lists them, with their licences
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GITHUB = "https://raw.githubusercontent.com"
ALPAGASUS = f"{GITHUB}/gpt4life/alpagasus/95ad3e52510df8c0a2f0dd6cbe50b501acde83a1/data"
FOUNDRY = f"{GITHUB}/mosaicml/llm-foundry/8c8dd48f72168c5d51e2f7b151595892a8fba43d/scripts/eval/local_data"
GRADE_SCHOOL = f"{GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data"
ALPACA_LICENCE = "Stanford Alpaca is CC BY-NC 4.0 (no commercial use); the repository has no licence file"


@dataclass(frozen=True)
class Source:
    """A file on the web, of a fixed revision."""

    url: str
    sha256: str
    licence: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


def _task(path: str, sha256: str, licence: str) -> Source:
    return Source(f"{FOUNDRY}/{path}.jsonl", sha256, f"{licence}; the copy is of llm-foundry, Apache-2.0")


SOURCES = {
    # 9,229 answers of Alpaca as they are, and 5,305 that a judge (Claude) rated 4.5 of 5 or better
    "unrated": Source(
        f"{ALPAGASUS}/random/random_9k.json",
        "dbb217523fb750e4c56013844e22f5f3363c8c8b01013df5b39e8cabec0e48b0",
        ALPACA_LICENCE,
    ),
    "rated": Source(
        f"{ALPAGASUS}/filtered/claude_t45.json",
        "726de12839a57201915867a0cdaec5010619915d8668fa57ff5fa9efa6e893f3",
        ALPACA_LICENCE,
    ),
    # four models' solutions of GSM8K's 1,319 test questions, each known to be right or wrong
    "solutions": Source(
        f"{GRADE_SCHOOL}/example_model_solutions.jsonl",
        "4bc62db838f8418365d51c627bd66294cbdca9fb7f01519cb13f0dce8c51580b",
        "MIT",
    ),
    "arc_easy": _task(
        "world_knowledge/arc_easy",
        "d2d12e59543acf9a5ef6079634a72b30215e36c2fd4236fff3bc855d287b87f5",
        "ARC is CC BY-SA 4.0",
    ),
    "arc_challenge": _task(
        "world_knowledge/arc_challenge",
        "1ae3aeedf1951d881cbd5c2e3a31e78a1993d251479afbe4cb413b6707244636",
        "ARC is CC BY-SA 4.0",
    ),
    "openbook_qa": _task(
        "commonsense_reasoning/openbook_qa",
        "adb2e5c7f8db810ddad4d6b2bf53dcc86dcc545499f7aafcaf42a8e179476c09",
        "OpenBookQA is Apache-2.0",
    ),
    "piqa": _task(
        "commonsense_reasoning/piqa",
        "d2870e73aec5154df3faf259b7700876e11608eebdf69e9d6667435673dbe4e0",
        "PIQA is AFL-3.0",
    ),
}


def path_of(name: str, folder: Path | None = None) -> Path:
    """Where a source lies on this machine.

    Args:
        folder: of files that were got otherwise, under the names they are published with; None: the user's cache,
            into which what is missing is fetched.

    Raises:
        ValueError: if the file is not in `folder`, cannot be fetched, or is another one than that of the study.
    """
    source = SOURCES[name]
    if folder is not None:
        path = folder / source.name
        if not path.is_file():
            raise ValueError(f"`--data` is {folder}, which has no {source.name}: get it from {source.url}.")
    else:
        import platformdirs

        path = Path(platformdirs.user_cache_dir("sstoken-plugins")) / "protocol" / source.name
        if not path.is_file():
            _fetch(source, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found[:12]}..., but {source.url} has {source.sha256[:12]}...: results could not "
            "be compared. Delete it, so that it is fetched again, or use --train for data of your own."
        )
    return path


def _fetch(source: Source, path: Path) -> None:
    print(f"Fetching {source.url}\n  licence: {source.licence}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    try:
        with urllib.request.urlopen(source.url, timeout=60) as response:
            unfinished.write_bytes(response.read())
    except (urllib.error.URLError, TimeoutError) as error:
        raise ValueError(
            f"{source.url} cannot be fetched ({error}): save it as {source.name} in a folder, and name that folder "
            "with --data."
        ) from error
    unfinished.replace(path)


def read(path: Path) -> list[Any]:
    """The rows of a .json or .jsonl file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        rows: list[Any] = json.loads(text)
        return rows
    return [json.loads(line) for line in text.splitlines() if line.strip()]


if __name__ == "__main__":
    for key, each in SOURCES.items():
        print(f"{key:14} {each.licence}\n{'':14} {each.url}")
