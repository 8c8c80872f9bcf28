"""What a recording was made with is known to the last bit, cheaply."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sstoken_plugins.histories.identity import WORDS, configuration, fingerprint, hash_bytes

from .tiny import tiny

MULTIPLIERS = 1 << 64


def naive(tensor: torch.Tensor) -> int:
    """The definition, in Python's integers."""
    from sstoken_plugins.data.hashing import mix

    def odd(number: int) -> int:
        return int(mix(torch.tensor(number))) | 1

    content = tensor.contiguous().view(torch.uint8).flatten().numpy().tobytes()
    content += bytes(-len(content) % 8)
    words = [int.from_bytes(content[i : i + 8], "little") for i in range(0, len(content), 8)]
    total = sum(word * odd(i % WORDS) * odd((1 << 40) + i // WORDS) for i, word in enumerate(words) if word)
    total %= MULTIPLIERS
    return total - MULTIPLIERS if total >= MULTIPLIERS // 2 else total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3 * 8 * WORDS), st.integers(0, 10**6), st.sampled_from(["uint8", "bfloat16", "float32"]))
def test_it_is_the_sum_of_the_definition(n, seed, kind):
    """On tensors of zeros but for a few bytes, of any length and format."""
    content = torch.zeros(n - n % 4, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    if len(content):
        places = torch.randint(len(content), (20,), generator=generator)
        content[places] = torch.randint(256, (20,), generator=generator, dtype=torch.uint8)
    tensor = content.view(getattr(torch, kind))
    assert hash_bytes(tensor) == naive(tensor)


@pytest.mark.parametrize(
    "n", [1, 7, 8, 8 * WORDS - 1, 8 * WORDS, 8 * WORDS * 8, 8 * WORDS * 8 + 1, 8 * WORDS * 17 + 5]
)
def test_any_single_bit_counts(n):
    generator = torch.Generator().manual_seed(n)
    content = torch.randint(256, (n,), generator=generator, dtype=torch.uint8)
    before = hash_bytes(content)
    assert hash_bytes(torch.cat([torch.zeros(3, dtype=torch.uint8), content])[3:]) == before  # wherever it lies
    for place in {0, n // 2, n - 1}:
        for bit in (0, 7):
            content[place] ^= 1 << bit
            assert hash_bytes(content) != before
            content[place] ^= 1 << bit
    assert hash_bytes(content) == before


def test_names_shapes_and_formats_count_too():
    weight = torch.arange(6.0)
    known = {"a": weight}
    others = [{"b": weight}, {"a": weight.view(2, 3)}, {"a": weight.view(torch.int32)}, {"a": weight, "b": weight}]
    assert len({fingerprint(each) for each in [known, *others]}) == 5


def test_what_does_not_change_outputs_is_no_part_of_the_configuration():
    model = tiny("llama")
    before = configuration(model)
    model.config._name_or_path, model.config.use_cache, model.config.pad_token_id = "/elsewhere", False, 7
    model.config.attention_dropout, model.config._attn_implementation = 0.3, "eager"
    assert configuration(model) == before
    model.config.rms_norm_eps *= 2
    assert configuration(model) != before
