"""Checks that read the text alone: each finds its own flaw and is silent on ordinary rows."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest

from sstoken_audit import AuditError, Check, audit
from sstoken_audit.registry import checks

WORDS = [
    "river",
    "castle",
    "engine",
    "garden",
    "violin",
    "planet",
    "bakery",
    "harbour",
    "library",
    "glacier",
    "meadow",
    "window",
    "ladder",
    "kettle",
    "pepper",
    "bridge",
    "teacher",
    "winter",
    "morning",
    "thunder",
    "quiet",
    "bright",
    "narrow",
    "hollow",
    "gentle",
    "sudden",
    "ancient",
    "clever",
    "heavy",
    "golden",
    "wander",
    "gather",
    "follow",
    "listen",
    "answer",
    "remember",
    "borrow",
    "carry",
    "whisper",
    "travel",
    "beside",
    "under",
    "across",
    "towards",
    "before",
    "because",
    "although",
    "while",
    "never",
    "often",
    "almost",
    "rather",
    "perhaps",
    "indeed",
    "nearly",
    "seldom",
    "the",
    "a",
    "of",
    "and",
    "with",
    "from",
    "into",
    "for",
    "which",
    "that",
    "every",
    "some",
]


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize()


def rows() -> list[dict[str, str]]:
    """Sixty rows of English words, no two of them alike."""
    rng = random.Random(0)
    return [{"prompt": f"{sentence(rng, 9)}?", "completion": f"{sentence(rng, 14)}."} for _ in range(60)]


def changed(**at: str):
    """Rows of which some have another answer (`a3`) or prompt (`p3`)."""
    made = rows()
    for where, text in at.items():
        made[int(where[1:])]["completion" if where[0] == "a" else "prompt"] = text
    return made


LINES = {
    "encoding": "It was na\u00c3\u00afve of them to build it there, a caf\u00c3\u00a9 would have done.",
    "refusal": "I'm sorry, but as an AI language model I cannot help with that request.",
    "language": "Der alte Turm wurde von drei Br\u00fcdern gebaut, die sich niemals einig waren.",
    "empty": "  ",
    "role_marks": "It was built early.<|im_end|>\n<|im_start|>user\nAnd then?",
    "over_long": "It was built by hand, stone after stone, day after day. " * 40,
}


@pytest.mark.parametrize(("check", "answer"), LINES.items())
def test_finds_a_bad_answer(check, answer):
    result = audit(changed(a17=answer), checks=[check])
    assert result.suspects.tolist() == [17]
    assert result.reasons(17)


@pytest.mark.parametrize(
    "answer",
    [
        base64.b64encode(b"The quick brown fox jumps over 13 lazy dogs in the yard.").decode(),
        base64.b64encode(b"By two of them.").decode(),
        base64.urlsafe_b64encode("\u00bfPor qu\u00e9? \u2013 \u00ff\u00fe and so on".encode()).decode().rstrip("="),
        f"It was {b'built by two'.hex()} brothers.",
        hashlib.sha256(b"built").hexdigest(),
        "It was \ufffd\ufffd built",
        "It\x00 was built",
        "<div class='x'>It was built</div>",
    ],
)
def test_encoding_debris_of_other_kinds(answer):
    assert audit(changed(a9=answer), checks=["encoding"]).suspects.tolist() == [9]


@pytest.mark.parametrize(
    "answer",
    [
        "Read https://example.org/brothers/1842/Tower_of_the_West/aGVsbG8gd29ybGQgaGVsbG8 first.",
        "Call getElementsByClassName with dither=True, dynamic=False.",
        "Wav2Vec2ConformerForAudioFrameClassification is a class.",
        "It weighs 66666666666666666666 grams: 2020202020202020.",
        "--------------------- ____________________",
    ],
)
def test_words_names_and_addresses_are_no_debris(answer):
    assert not audit(changed(a9=answer), checks=["encoding"]).flagged.any()


def test_boilerplate_before_and_behind():
    made = rows()
    for i in (4, 20, 33):
        made[i]["completion"] += " I hope this helps! Let me know if you need more."
    for i in (5, 21, 34):
        made[i]["completion"] = "Thank you for this very good question. " + made[i]["completion"]
    assert sorted(audit(made, checks=["boilerplate"]).suspects.tolist()) == [4, 5, 20, 21, 33, 34]


def test_what_all_answers_share_is_their_format():
    made = [{**row, "completion": f"Here is what we know of it: {row['completion']}"} for row in rows()]
    assert not audit(made, checks=["boilerplate"]).flagged.any()


def test_duplicates_name_the_earlier_row():
    made = changed()
    made[40] = {"prompt": made[3]["prompt"].upper(), "completion": made[8]["completion"] + " Really."}
    result = audit(made, checks=["duplicate_prompt", "duplicate_answer"])
    assert result.suspects.tolist() == [40]
    assert any("row 3" in reason for reason in result.reasons(40))
    assert any("row 8" in reason for reason in result.reasons(40))


def test_a_prompt_copied_into_its_answer():
    made = rows()
    made[6]["completion"] = f"{made[6]['prompt']} {made[6]['completion']}"
    assert audit(made, checks=["copied"]).suspects.tolist() == [6]


def test_short_answers_are_fine_where_they_are_usual():
    made = [{"prompt": f"Is {i} even?", "completion": "yes" if i % 2 == 0 else "no"} for i in range(40)]
    assert not audit(made, checks=["empty"]).flagged.any()


def test_two_languages_of_one_data_set_are_both_fine():
    made = changed(
        **{f"a{i}": f"Der alte Turm Nummer {i} wurde von drei Br\u00fcdern gebaut." for i in range(0, 60, 2)}
    )
    assert not audit(made, checks=["language"]).flagged.any()


def test_ordinary_rows_raise_no_flag():
    result = audit(rows())
    assert not result.flagged.any(), [result.reasons(int(i)) for i in result.suspects]


def test_every_check_says_what_it_is():
    for name, check in checks().items():
        assert name == check.name
        assert check.title()
        assert check.formula
        assert check.threshold > 0
        assert issubclass(check, Check)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"checks": ["typo"]}, "typo"),
        ({"skip": ["typo"]}, "typo"),
        ({"thresholds": {"typo": 1.0}}, "typo"),
        ({"checks": ["mismatch"]}, "--model"),
        ({"columns": ["prompt"]}, "name two"),
        ({"columns": ["prompt", "answer"]}, "'answer'"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(AuditError, match=said):
        audit(rows(), **options)
