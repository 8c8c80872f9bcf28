"""The protocol: parts that do not overlap, cells from end to end on a tiny model, and measures that can be checked."""

from __future__ import annotations

import hashlib
import json
import random
import re

import pytest

from .conftest import RECIPES, recipe

for module in ("trl", "platformdirs", "scipy", "matplotlib"):
    pytest.importorskip(module)
pytest.importorskip("lm_eval", minversion="0.4.13", reason="older ones name tasks of local files otherwise")
np = pytest.importorskip("numpy")

RESULTS = RECIPES / "protocol" / "results"

GRID = """
arms:
  start: {data: none, options: {strategy: full}}
  full: {options: {strategy: full}}
  sstoken_warmup: {options: {strategy: sstoken, rho: 0.6}, warmup_share: 0.5}
  rho1: {options: {strategy: rho1, rho: 0.6, reference_adapter: trusted}}
  oracle: {options: {strategy: full}, data: sound}
conditions: [solutions]
scales:
  tiny:
    settings: {samples: 8, trusted: 4, batch: 4, held_out: 4, limit: 3, max_tokens: 400, lora_r: 4, tasks: [piqa]}
    learning_rates: [1.0e-3, 1.0e-2]
    conditions: [solutions]
    seeds: [0, 1]
tuning_seeds: [1000]
"""


@pytest.fixture(scope="module")
def modules():
    with recipe("protocol"):
        yield


@pytest.fixture(scope="module")
def data(modules, tmp_path_factory):
    """Files in the formats of the sources, of which the recipe is told that they are those."""
    import sources

    folder = tmp_path_factory.mktemp("sources")
    rng = random.Random(0)
    words = ["red", "green", "blue", "one", "two", "three"]

    def said(n):
        return " ".join(rng.choices(words, k=n))

    def alpaca(count, name):
        return [
            {"instruction": f"{name} {i}: {said(3)}", "input": said(2) * (i % 2), "output": said(5)}
            for i in range(count)
        ]

    def solution(is_correct):
        return {"is_correct": is_correct, "solution": said(4)}

    models = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    solutions = [
        {"question": f"q{i} {said(3)}?", "ground_truth": said(4), **{m: solution(rng.random() < 0.5) for m in models}}
        for i in range(120)
    ]
    choices = [{"query": f"Question: {said(3)}", "choices": [said(2), said(2)], "gold": i % 2} for i in range(5)]
    contents = {
        "rated": json.dumps(alpaca(120, "rated")),
        "unrated": json.dumps(alpaca(120, "rated") + alpaca(60, "other")),
        "solutions": "\n".join(map(json.dumps, solutions)),
        "piqa": "\n".join(map(json.dumps, choices)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, text in contents.items():
            source = sources.SOURCES[name]
            (folder / source.name).write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            patch.setitem(sources.SOURCES, name, sources.Source(source.url, digest, source.licence))
        yield folder


@pytest.mark.parametrize("name", ["rated", "unrated", "debris", "solutions"])
def test_no_question_is_in_two_parts(data, name):
    from conditions import load

    condition = load(name, data)
    parts = [condition.train, condition.trusted, condition.held_out["validation"], condition.held_out["test"]]
    assert all(parts)
    questions = [{one.prompt for one in part} for part in parts]
    assert sum(map(len, questions)) == len(set().union(*questions))


def test_what_is_sound_is_known_where_it_says_so(data):
    from conditions import load

    assert {one.sound for one in load("unrated", data).train} == {None}
    assert all(one.sound == one.answer for one in load("rated", data).train)
    debris = load("debris", data).train
    spoiled = [one for one in debris if one.sound != one.answer]
    assert 0.1 < len(spoiled) / len(debris) < 0.5
    for one in spoiled:
        kept = [word for word in one.answer.split(" ") if word in one.sound.split(" ")]
        assert kept == one.sound.split(" ")
    solutions = load("solutions", data)
    assert {one.sound is None for one in solutions.train} == {True, False}
    for one in solutions.held_out["test"]:
        assert one.wrong != one.answer


def test_a_spoiled_sample_is_as_likely_to_be_drawn_as_it_was_before(data, model_dir):
    import measure
    from cell import Cell, tokenizer_of, training_data
    from conditions import load

    condition, tokenizer = load("debris", data), tokenizer_of(str(model_dir))

    def length(one, answer):
        return len(measure.tokens_of(tokenizer, one.prompt, answer)[0])

    longest = max(length(one, one.sound) for one in condition.train)
    cell = Cell("full", "debris", 0, model=str(model_dir), samples=len(condition.train), max_tokens=longest)
    drawn = training_data(cell, condition)
    assert {one.prompt for one in drawn} == {one.prompt for one in condition.train}
    assert max(length(one, one.answer) for one in drawn) > longest


def test_the_tokens_of_the_debris_are_those_between_what_is_left(modules):
    from caught import spoiled

    assert spoiled([1, 2, 9, 9, 3], [1, 2, 3]) == range(2, 4)
    assert spoiled([9, 9, 1], [1]) == range(2)
    assert spoiled([1, 1, 1], [1, 1]) == range(2, 3)  # which of alike ones it is does not matter
    assert not spoiled([1, 2, 3], [1, 2, 3])


def test_what_finds_debris_is_known_before_training(data, model_dir, tmp_path, capsys):
    import caught

    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("conditions: [solutions]", "conditions: [debris]"))
    assert caught.main(["--grid", f"{grid}", "--scale", "tiny", "--model", f"{model_dir}", "--data", f"{data}"]) == 0
    debris, rest, rows = capsys.readouterr().out.splitlines()
    assert (found := re.fullmatch(r"rows with debris: (\d+) of \d+; `encoding` flags (\d+) of them, 0 others", rows))
    assert found[1] == found[2] != "0"
    assert re.fullmatch(r"debris: \d+ tokens, [\d.]+ nats each; left out: [\d.]+%", debris)
    assert re.fullmatch(r"the rest: \d+ tokens, [\d.]+ nats each; left out: [\d.]+%", rest)


def test_a_file_that_is_missing_or_another_is_refused(data, tmp_path):
    from conditions import load

    with pytest.raises(ValueError, match=r"has no claude_t45\.json: get it from https://"):
        load("rated", tmp_path)
    (tmp_path / "claude_t45.json").write_text("[]")
    with pytest.raises(ValueError, match="results could not be compared"):
        load("rated", tmp_path)


def test_a_source_is_fetched_once_into_the_cache(data, tmp_path, monkeypatch, capsys):
    import conditions
    import platformdirs
    import sources

    there = data / "claude_t45.json"
    published = sources.SOURCES["rated"]
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    moved = sources.Source(there.as_uri(), published.sha256, published.licence)
    monkeypatch.setitem(sources.SOURCES, "rated", moved)
    assert conditions.load("rated") == conditions.load("rated", data)
    assert capsys.readouterr().out.count("licence: Stanford Alpaca is CC BY-NC 4.0") == 1
    conditions.load("rated")
    assert not capsys.readouterr().out
    monkeypatch.setitem(sources.SOURCES, "rated", sources.Source("file:///nowhere/gone.json", "", ""))
    with pytest.raises(ValueError, match=r"save it as gone\.json in a folder"):
        conditions.load("rated")


@pytest.fixture(scope="module")
def outcome(data, model_dir, tmp_path_factory):
    """What the command leaves: everything tuned and run."""
    import run

    folder = tmp_path_factory.mktemp("protocol")
    (folder / "grid.yaml").write_text(GRID)
    command = ["--grid", f"{folder}/grid.yaml", "--scale", "tiny", "--output", f"{folder}/out", "--data", f"{data}"]
    command += ["--model", f"{model_dir}", "--workers", "0"]
    assert run.main(command) == 0
    return folder, command


@pytest.mark.slow
def test_a_grid_is_tuned_run_and_reported(outcome, capsys):
    import run

    folder, command = outcome
    cells = [json.loads(path.read_text()) for path in (folder / "out" / "cells").glob("*.json")]
    tuned = [cell for cell in cells if cell["cell"]["split"] == "validation"]
    assert len(tuned) == 2 * 4  # two rates of each arm but the one that does not train
    assert len(cells) - len(tuned) == 5 * 2
    by = {(cell["cell"]["arm"], cell["cell"]["seed"]): cell for cell in cells if cell["cell"]["split"] == "test"}
    assert by["start", 0]["steps"] == 0
    assert by["start", 0]["skill"]["loss"] == by["start", 1]["skill"]["loss"]
    assert by["full", 0]["keep_rate"] == 1 > by["rho1", 0]["keep_rate"] > 0.5
    assert by["oracle", 0]["train_samples"] < by["full", 0]["train_samples"] == 8
    assert by["sstoken_warmup", 0]["cell"]["options"]["rel_warmup_steps"] == 1
    assert all(len(cell["abilities"]["piqa"]["gold"]) == 3 for cell in cells)
    said = (folder / "out" / "summary.md").read_text()
    assert "10 trainings that report, 8 that tuned" in said
    assert re.search(r"\| `rho1` \| [\d.]+ \| 2 \|", said)
    assert (folder / "out" / "summary.svg").is_file()
    # Started again, nothing runs again; with another setting, it is refused.
    before = {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    assert run.main(command) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "out" / "cells").iterdir()}
    (folder / "grid.yaml").write_text(GRID.replace("lora_r: 4", "lora_r: 8"))
    capsys.readouterr()
    assert run.main(command) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_accuracy_and_gold_are_what_the_logits_say(data, model_dir):
    """Against logits of each query and choice alone."""
    import abilities
    import sources
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)
    found = abilities.measure(model, tokenizer, ["piqa"], None, 4, data)["piqa"]
    for item, row in enumerate(sources.read(sources.path_of("piqa", data))):
        likelihoods = []
        for choice in row["choices"]:
            start = tokenizer(f"{row['query']}\nAnswer:").input_ids
            ids = tokenizer(f"{row['query']}\nAnswer: {choice}").input_ids
            with torch.no_grad():
                log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            likelihoods.append(sum(log_probs[i - 1, ids[i]] for i in range(len(start), len(ids))))
        shares = torch.stack(likelihoods).log_softmax(0)
        assert found["correct"][item] == float(int(shares.argmax()) == row["gold"])
        assert found["gold"][item] == pytest.approx(float(shares[row["gold"]]), abs=1e-3)


def test_the_skill_is_what_the_logits_say(modules, model_dir):
    import measure
    import torch
    from conditions import Example
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_dir), AutoTokenizer.from_pretrained(model_dir)
    model = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    examples = [Example("one", "red", "red", "green and blue"), Example("two or three", "blue")]
    found = measure.skill(model, tokenizer, examples[:1], examples)
    ids, start = measure.tokens_of(tokenizer, "one", "red")
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [float(log_probs[i - 1, ids[i]]) for i in range(start, len(ids))]
    assert found["loss"][0] == pytest.approx(-sum(own) / len(own), abs=1e-4)
    assert found["accuracy"][0] == pytest.approx(
        np.mean([int(log_probs[i - 1].argmax()) == ids[i] for i in range(start, len(ids))])
    )
    assert len(found["prefers"]) == 1
    assert found["loss_tempered"][0] <= found["loss"][0] + 1e-4  # it is the item that chose the temperature


def test_differences_count_seeds_items_and_tasks_as_said(modules):
    from report import CONTROLS, differences

    def cell(arm, seed, right):
        tasks = {"a": {"correct": [right], "gold": [-1.0]}, "b": {"correct": [0.0] * 3, "gold": [-1.0] * 3}}
        skill = {"prefers": [], "accuracy": [0.5 + right / 4], "loss": [1.0], "loss_tempered": [1.0]}
        return {"cell": {"arm": arm, "seed": seed, "condition": "rated"}, "skill": skill, "abilities": tasks}

    found = differences([cell(arm, seed, arm == "dft") for arm in ("full", "dft", "random") for seed in (0, 1, 2)])
    found = found.set_index(["arm", "measure"])
    assert found.difference["dft", "skill"] == pytest.approx(0.25)
    assert found.difference["dft", "abilities"] == pytest.approx(0.5)  # all of the first of two tasks
    assert found.holm["dft", "skill"] == 0
    assert "random" in CONTROLS
    assert np.isnan(found.holm["random", "skill"])


@pytest.mark.parametrize("results", sorted(RESULTS.iterdir()), ids=lambda folder: folder.name)
def test_the_committed_tables_are_of_the_committed_cells(results, modules, tmp_path, capsys):
    from report import report

    report(results, tmp_path)
    for name in ("cells.jsonl", "summary.md"):
        assert (tmp_path / name).read_text() == (results / name).read_text()
