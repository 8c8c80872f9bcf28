"""Ways to damage a file: bytes changed, cut, added or replaced; and which trials are made by default."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest


def damaged(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """How, and what is left. Never what it was."""
    kinds = ("flip", "cut", "empty", "zeros", "insert", "swap", "text")
    while True:
        kind = rng.choice(kinds)
        place = rng.randrange(len(content))
        if kind == "flip":
            other = bytes([content[place] ^ (1 << rng.randrange(8))])
            changed = content[:place] + other + content[place + 1 :]
        elif kind == "cut":
            changed = content[:place]
        elif kind == "empty":
            changed = b""
        elif kind == "zeros":
            n = min(rng.randint(1, 64), len(content) - place)
            changed = content[:place] + bytes(n) + content[place + n :]
        elif kind == "insert":
            changed = content[:place] + rng.randbytes(rng.randint(1, 16)) + content[place:]
        elif kind == "swap":
            changed = content[place:] + content[:place]
        else:
            changed = rng.choice([b"null", b"[]", b"{}", b"1", b'"x"', b"[" * 100_000, b"\xff\xfe"])
        if changed != content:
            return f"{kind} at {place}", changed


WRONG: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 1e9, 2.5, True, ["x"], {"x": 1}, "\x1b[31m", 10**30)
"""What may stand in a JSON file where something else belongs."""


def wrong_entries(content: bytes, rng: random.Random, n: int) -> Iterator[tuple[str, bytes]]:
    """JSON with one entry, at any depth, replaced or left out."""
    for _ in range(n):
        whole = json.loads(content)
        at, path = whole, []
        while True:
            key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
            path.append(key)
            if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            break
        if rng.random() < 0.3:
            del at[path[-1]]
            value: Any = "nothing"
        else:
            value = at[path[-1]] = rng.choice([each for each in WRONG if each != at[path[-1]]])
        yield f"{'.'.join(map(str, path))} is {value!r}", json.dumps(whole).encode()


def some(cases: Iterable[str], *default: str) -> list[Any]:
    """All cases, of which only these run by default."""
    return [pytest.param(case, marks=() if case in default else pytest.mark.slow) for case in cases]
