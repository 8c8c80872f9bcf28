"""An audit that was killed goes on, and ends as one that was not; damage is found."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings

import numpy as np
import pytest

from sstoken_audit import audit
from sstoken_audit.data import open_data
from sstoken_audit.formats import Format, Renderer
from sstoken_audit.model import CPU_BATCH_TOKENS
from sstoken_audit.rows import CHUNK, Rows
from sstoken_audit.scorer import Scorer
from sstoken_audit.scoring import Scoring, settings
from sstoken_audit.store import Store

from .conftest import pairs, rows

CHECKS = ["mismatch", "gibberish", "truncated", "outlier", "known"]
DATA = rows(pairs(2 * CHUNK + 40, seed=8))


def columns(result):
    return dict(result.columns().items())


def same(one, other):
    for name, values in columns(one).items():
        np.testing.assert_array_equal(values, columns(other)[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(model, tokenizer):
    return audit(DATA, model, tokenizer, checks=CHECKS)


def test_killed_and_resumed(whole, model, tokenizer, tmp_path):
    def until_killed():
        source = open_data(DATA)
        form = Format(source)
        scorer = Scorer(model, CPU_BATCH_TOKENS)
        others = {"autocast": "no", "packed": scorer.packs, "history": False}
        store = Store(tmp_path, settings(model, tokenizer, model.config._name_or_path, 1024, 0, **others))
        scoring = Scoring(Rows(source, form), Renderer(tokenizer, form.kind, 1024), scorer, store, seed=0)
        done = []
        scoring.run(lambda n, known: done.append(n) or (len(done) == 2 and os.kill(os.getpid(), signal.SIGKILL)))

    process = multiprocessing.get_context("fork").Process(target=until_killed)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    chunks = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/chunk-*.parquet")}
    assert len(chunks) == 2
    same(whole, audit(DATA, model, tokenizer, checks=CHECKS, cache=tmp_path))
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/chunk-*.parquet")}
    assert len(after) == 3
    assert chunks.items() <= after.items()  # what was there was not made again


def test_a_damaged_chunk_is_named_and_made_again(whole, model, tokenizer, tmp_path):
    audit(DATA, model, tokenizer, checks=CHECKS, cache=tmp_path)
    path = sorted(tmp_path.glob("*/chunk-*.parquet"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=path.name):
        again = audit(DATA, model, tokenizer, checks=CHECKS, cache=tmp_path)
    same(whole, again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(whole, audit(DATA, model, tokenizer, checks=CHECKS, cache=tmp_path))


def test_rows_that_changed_are_scored_again(model, tokenizer, tmp_path):
    made = [dict(row) for row in DATA[:40]]
    audit(made, model, tokenizer, checks=CHECKS, cache=tmp_path)
    made[5]["answer"] = made[6]["answer"]
    changed = audit(made, model, tokenizer, checks=CHECKS, cache=tmp_path)
    same(changed, audit(made, model, tokenizer, checks=CHECKS))


def test_batches_do_not_change_scores(whole, model, tokenizer):
    one_by_one = audit(DATA[:40], model, tokenizer, checks=CHECKS, batch_tokens=1)
    together = audit(DATA[:40], model, tokenizer, checks=CHECKS, batch_tokens=100000)
    np.testing.assert_allclose(one_by_one.columns()["prompt_gain"], together.columns()["prompt_gain"], atol=1e-3)


def test_gains_are_those_of_the_models_own_logits(model, tokenizer):
    import torch

    form = Format(open_data(DATA))
    tokens = Renderer(tokenizer, form.kind, None).tokens(form.read(DATA[0], 0))
    scores = Scorer(model, 100).score([tokens])[0]
    ids = torch.tensor(tokens.ids.tolist())
    with torch.no_grad():
        log_probs = model(ids[None]).logits[0].log_softmax(-1)
    naive = [log_probs[t - 1, ids[t]].item() for t in range(len(ids)) if tokens.response[t]]
    np.testing.assert_allclose(scores.log_probs, naive, atol=1e-4)
