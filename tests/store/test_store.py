"""What was stored comes back, and to whom it belongs."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sstoken_plugins import BatchIndex
from sstoken_plugins.store import DiskStore, MemoryStore, resolution
from sstoken_plugins.store.codec import SMALLEST_LOG_PROB, block_sizes, decode, encode

from .stores import MADE_BY, documents, fill, made, packed, padded


def in_memory(tmp_path, rows) -> MemoryStore:
    store = MemoryStore()
    fill(store, rows)
    return store


def on_disk(tmp_path, rows) -> DiskStore:
    made(tmp_path / "store", rows[: len(rows) // 2])
    made(tmp_path / "store", rows[len(rows) // 2 :])  # another writer, later
    return DiskStore(tmp_path / "store")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-80, 0, width=32), min_size=1, max_size=9), min_size=1, max_size=8))
@example([[-49.922664642333984]])
def test_values_come_back_to_the_resolution(values):
    lengths = torch.tensor([len(document) for document in values])
    log_probs = torch.tensor([value for document in values for value in document])
    blocks = encode(log_probs, lengths)
    sizes = block_sizes(lengths)
    assert len(blocks) == sizes.sum()
    starts = sizes.cumsum(0) - sizes
    order = torch.arange(len(values) - 1, -1, -1)  # read in another order than written
    back = decode(blocks, starts[order], lengths[order])
    expected = torch.cat(list(reversed(log_probs.split(lengths.tolist())))).clamp(min=SMALLEST_LOG_PROB)
    assert ((back - expected).abs() <= resolution(expected) * 0.51 + 1e-6).all()


@pytest.mark.parametrize("make", [in_memory, on_disk])
def test_documents_are_known_by_their_content(make, tmp_path):
    """In any order, any batch, padded on either side, packed, and with others among them."""
    rows = documents(40)
    store = make(tmp_path, rows)
    shuffled = rows[::-3] + rows[5:9]
    stranger = documents(3, seed=9)
    for batch, log_probs in (
        padded(shuffled),
        padded(shuffled, "left"),
        packed(shuffled),
        packed(stranger + shuffled),
    ):
        index = BatchIndex.of(batch)
        values, n_missing = store.get(index)
        expected = index.gather(log_probs)
        missing = values.isnan()
        assert n_missing == (3 if missing.any() else 0)
        unknown = sum(label != -100 for _, labels, _ in stranger for label in labels)
        assert missing.sum() == (unknown if n_missing else 0)
        difference = (values - expected)[~missing].abs()
        assert (difference <= resolution(expected[~missing]) * 0.51 + 1e-6).all()


@pytest.mark.parametrize("make", [in_memory, on_disk])
def test_another_document_is_another(make, tmp_path):
    """One token, or what is prompt and what is response, makes the difference."""
    (ids, labels, values), *_ = rows = documents(4)
    store = make(tmp_path, rows)
    other_prompt = [ids[0] + 1, *ids[1:]]
    first = next(place for place, label in enumerate(labels) if label != -100)
    longer_response = [*labels[: first - 1], ids[first - 1], *labels[first:]] if first > 1 else [-100, *labels[1:]]
    swapped = [*ids[:-2], ids[-1], ids[-2]]
    for other in (
        (other_prompt, labels, values),
        (ids, longer_response, values),
        (swapped, [*labels[:-2], *swapped[-2:]], values),
        (ids[:-1], labels[:-1], values[:-1]),
        ([*ids, 7], [*labels, -100], [*values, 0.0]),
    ):
        assert store.get(BatchIndex.of(padded([other])[0]))[1] == 1


def test_memory_keeps_the_latest(tmp_path):
    rows = documents(10)
    store = in_memory(tmp_path, rows)
    fill(store, [(ids, labels, [-1.0] * len(ids)) for ids, labels, _ in rows[:5]])
    batch, log_probs = padded(rows)
    index = BatchIndex.of(batch)
    restored = MemoryStore()
    restored.load_state_dict(store.state_dict())
    assert len(store) == len(restored) == 10
    for either in (store, restored):
        values, _ = either.get(index)
        n_first = int(index.lengths[:5].sum())
        torch.testing.assert_close(values[:n_first], torch.full((n_first,), -1.0))
        torch.testing.assert_close(values[n_first:], index.gather(log_probs)[n_first:], rtol=1e-3, atol=1e-4)
    assert all(
        torch.equal(a, b) for a, b in zip(store.state_dict().values(), restored.state_dict().values(), strict=True)
    )


def test_others_may_read_it(tmp_path):
    """As they may read any file made here."""
    made(tmp_path / "store", documents(3))
    (tmp_path / "any").touch()
    for path in (tmp_path / "store").iterdir():
        assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_size_on_disk(tmp_path):
    """At most 2.5 bytes a response token, with all that is around them; responses of about 100 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(40, 160, (2000,), generator=generator)
    store = DiskStore(tmp_path / "store")
    store.create(MADE_BY)
    store.add(torch.randint(-(2**62), 2**62, (2000,), generator=generator), lengths, -torch.rand(int(lengths.sum())))
    store.flush()
    size = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert size / int(lengths.sum()) <= 2.5


def test_workers_get_the_place_not_the_content(tmp_path):
    store = on_disk(tmp_path, rows := documents(20))
    content = pickle.dumps(store)
    assert len(content) < 1000
    index = BatchIndex.of(padded(rows)[0])
    assert torch.equal(pickle.loads(content).get(index)[0], store.get(index)[0])
