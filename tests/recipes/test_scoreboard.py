"""The page of results: what it tells a reader to switch on, and figures that are the same for the same cells."""

from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

import pytest

from ..processes import TOP
from .conftest import made_up

for module in ("trl", "platformdirs", "scipy", "matplotlib"):
    pytest.importorskip(module)
pd = pytest.importorskip("pandas")

# Of 20 items of the new skill and 20 of the old ones, how many are right.
ARMS = {
    "full": (10, 10, {"strategy": "full"}),
    "oracle": (20, 10, {"strategy": "oracle"}),
    "trusted": (20, 10, {"strategy": "full"}),
    "random": (10, 18, {"strategy": "random", "rho": 0.6}),
    "infosft": (19, 10, {"strategy": "infosft"}),
    "dft": (20, 2, {"strategy": "dft"}),
    "stm": (2, 20, {"strategy": "stm"}),
    "rel": (10, 17, {"strategy": "signal", "signal": "rel", "rho": 0.6}),
    "rel_soft": (11, 10, {"strategy": "rel_soft"}),
    "rho1": (18, 10, {"strategy": "rho1", "reference_adapter": "trusted"}),
}


def cells() -> pd.DataFrame:
    """On junk each arm does as above under all four seeds; on clean data nothing differs. Two learning rates tuned."""
    rows = []
    for arm, (new, old, options) in ARMS.items():
        more = {"options": json.dumps(options)}
        for seed in range(4):
            bits = {"new": "1" * new * 10 + "0" * (20 - new) * 10, "old": "1" * old * 10 + "0" * (20 - old) * 10}
            rows.append(made_up(arm, seed, **bits, flaw="junk", auc=0.6, spoiled=0.4, **more))
            if arm != "oracle":
                rows.append(made_up(arm, seed, "1" * 200, "10" * 100, flaw="none", auc=float("nan"), **more))
        for flaw, rate in (("junk", 1e-3), ("junk", 2e-3), ("none", 1e-3), ("none", 2e-3)):
            rows.append(made_up(arm, 1000, "10", "10", flaw=flaw, role="tuning", learning_rate=rate, **more))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def scoreboard(testbed):
    """The page's modules and what they say of these cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOP / "docs"))
        from scoreboard import cells as of_cells
        from scoreboard import heatmap, tradeoff
        from scoreboard import testbed as page

        flaws = {"junk": {"regimes": {"many": {"auc": 0.3}}}}
        yield of_cells.Testbed(cells(), {"base": "b", "flaws": flaws}), page, heatmap, tradeoff
    for name in [name for name in sys.modules if name.partition(".")[0] == "scoreboard"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def said(scoreboard):
    own, page, *_ = scoreboard
    return page.part(own, [(f"images/{name}.svg", name) for name in ("a", "b", "c")])


def test_a_reader_is_told_what_to_switch_on(said):
    (row,) = (line for line in said.splitlines() if "**junk**" in line[:40])
    _, data, plain, skill, old, least, ceiling, _ = (cell.strip() for cell in row.split("|"))
    assert data == '<a id="junk"></a>**junk**: 40 % of the letters are a word that no such answer has'
    assert plain == "0.50, 0.50"
    # `dft` gains more, and forgets for it. `rho1` needs a reference, and is second.
    assert skill.startswith("[`infosft`](methods/infosft.md) +0.45 [")
    assert "also [`rho1`](methods/rho1.md)\N{SUPERSCRIPT ONE} +0.40" in skill
    assert "dft" not in skill
    # `stm` keeps more, and loses the skill for it. What chance does as well is said.
    assert old.startswith("[`rel`](methods/signal.md) (`signal: rel`) +0.35 [")
    assert old.endswith("but random tokens do it, too: +0.40")
    assert "stm" not in old
    assert least.startswith("\N{PLUS-MINUS SIGN}0.")
    assert ceiling == "`oracle` +0.50, `trusted` +0.50"


def test_nobody_is_told_to_switch_on_a_control(said):
    decisions = [line for line in said.splitlines() if line.startswith("| <a id=")]
    for line in decisions:
        for_skill, for_old = line.split("|")[3:5]
        assert not any(f"`{control}`" in for_skill + for_old for control in ("oracle", "trusted", "random"))
    assert decisions[1].count("nothing was shown to help") == 2  # clean data, where all are equal
    assert "*trusted*" in said  # in the table of all arms
    assert "`rel_soft`\N{SUPERSCRIPT TWO}" in said
    assert "not a method of the package" in said


def test_the_sentences_follow_from_the_cells(said):
    assert "116 trainings, of which 76 report and 40 chose" in said
    assert "10 arms, of which 3 are controls" in said
    assert "**On the new skill, some methods were shown to beat plain fine-tuning" in said
    assert "lose old skills: [`dft`](methods/dft.md) on junk (+0.50, old skills \N{MINUS SIGN}0.40)" in said
    assert "(`oracle`) was shown to be better on 1 of 1 kinds of data: junk." in said
    assert "**0 of 1 predictions hit.** Missed: junk (predicted AUC 0.30, the wrong way; measured 0.60" in said
    assert "about a third of the tokens or more is wrong | 1 of 1 | hit |" in said
    assert "`trusted` loses nothing elsewhere | 1 of 1 | hit |" in said
    assert "`anchored`" not in said  # which these cells have not


def test_where_nothing_was_shown_that_is_said(scoreboard):
    _, page, *_ = scoreboard
    from scoreboard.cells import Testbed

    table = cells()
    own = Testbed(table[table.flaw == "none"], {"base": "another", "flaws": {}})
    text = page.part(own, [("a", "a")] * 3)
    assert "**On the new skill no method was shown to beat plain fine-tuning" in text
    assert "**No method was shown to keep more of the old skills**" in text
    assert "of another base model than the cells" in text


def test_figures_are_the_same_for_the_same_cells_and_follow_the_readers_scheme(scoreboard):
    own, _, heatmap, tradeoff = scoreboard
    from scoreboard.cells import Testbed

    again = Testbed(cells(), own.predictions)

    def drawn(of: Testbed) -> list[str]:
        return [
            tradeoff.draw(of.table, of.decided, of.arms),
            heatmap.draw(of.found, of.arms, "skill", "The new skill", of.family("skill")),
        ]

    for first, second in zip(drawn(own), drawn(again), strict=True):
        assert first == second
        words = {element.text for element in ElementTree.fromstring(first).iter() if element.tag.endswith("text")}
        assert set(ARMS) - {"full"} <= words
        assert "prefers-color-scheme: dark" in first
        assert "nan" not in first
    assert drawn(own)[1].count(">+0.40<") == 1  # rho1 on junk


def test_a_page_without_the_marks_is_refused(scoreboard):
    from generate import renewed

    mark = "<!-- generated by docs/results.py: testbed -->"
    text = f"before\n{mark}\nold\n<!-- end of what is generated -->\nafter"
    assert renewed(text, "new", mark) == f"before\n{mark}\n\nnew\n\n<!-- end of what is generated -->\nafter"
    with pytest.raises(ValueError, match="lacks the lines"):
        renewed("a page", "new", mark)
