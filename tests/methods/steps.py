"""The steps of a trainer, and the losses that they should follow, on what the trainer saw at each."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from ..core.oracle import documents_of
from . import published, remembering, selections


@dataclass(frozen=True)
class Case:
    """A method, with options that make it choose between these tokens of a tiny model, most of which are unlikely.

    Attributes:
        options: of the method, which its loss takes too.
        more: other options that it needs.
        reads: what else of an `Answer` it is made of.
        memory: the loss, where it compares with earlier steps.
        n_steps: how many steps show what it does.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    reads: str = ""
    memory: Callable[..., remembering.Remembering] | None = None
    n_steps: int = 1

    def settings(self, adapter: Path) -> dict[str, Any]:
        """With this adapter for a reference."""
        reference = {"reference_adapter": str(adapter)} if self.reads == "reference" else {}
        return {"strategy": self.method, **self.options, **self.more, **reference}

    def loss(self, **changes: Any) -> Callable[[list[published.Answer]], torch.Tensor]:
        """For a run."""
        if self.memory:
            return self.memory(**self.options, **changes)
        return lambda answers: {**vars(published), **vars(selections)}[self.method](answers, **self.options)

    @property
    def plain(self) -> Callable[[list[published.Answer]], torch.Tensor]:
        """What its loss should differ from: without its memory, or plain fine-tuning."""
        return self.loss() if self.memory else published.full


ALONE = {
    case.method: case
    for case in (
        Case("dft"),
        Case("power", {"alpha": 0.3}),
        Case("infosft"),
        Case("profit", {"threshold": 0.02}),
        Case("prift"),
        Case("stm", {"perplexity": 40.0}),
        Case("eaft"),
        Case("deft"),
        Case("talr", {"tau": 3.0}),
        Case("flow", {"tau": 4.0}),
        # At the first step the model is its own snapshot, and the gradient that of plain fine-tuning.
        Case("psft", more={"history": "snapshot", "refresh_steps": 8}, n_steps=2),
        Case("iw_sft"),
        Case("minor_sft"),
        Case("npo"),
        Case("memft", {"threshold": 4.0}),
        Case("full"),
        Case("asft", {"anchor_weight": 0.5, "anchor_clip": 1e30}, more={"anchor": "k3"}),
        Case("rho1", reads="reference"),
        Case("token_cleaning", {"over": "sample"}, reads="reference"),
        Case("forgetting", {"over": "sample", "schedule": "constant"}, reads="reference"),
        Case("signal", {"signal": "rel"}),
        Case("trimmed", {"trim": 0.3}),
        Case("grounded", {"trim": 0.1}, reads="unprompted"),
        Case("sstoken", reads="attention"),
        Case("sstoken_trimmed", {"trim": 0.3}, reads="attention"),
    )
}
"""Each step by itself."""

REMEMBERING = {
    case.method: case
    for case in (
        Case("talr", {"half_life": 2.0}, memory=remembering.TALR),
        Case("flow", memory=remembering.FLOW),
        Case("cadft", {"half_life": 2.0}, memory=remembering.CADFT),
        Case("loss_truncation", {"drop": 0.6, "hot_start": 2, "half_life": 2.0}, memory=remembering.LossTruncation),
        Case("q_tuning", {"half_life": 2.0}, memory=remembering.QTuning),
    )
}
"""By the steps before."""

RARELY = ("full", "asft", "token_cleaning", "forgetting", "signal", "trimmed", "sstoken_trimmed")
"""Close to others: not by default."""


def each(cases: Iterable[str], kinds: Iterable[str], by_default: str, rarely: Collection[str] = RARELY) -> list[Any]:
    """Every method in every kind of data or batch, without and with 4 bits, most of them slow."""
    return [
        pytest.param(method, kind, four_bit, marks=() if is_default else pytest.mark.slow)
        for method in cases
        for kind in kinds
        for four_bit in (False, True)
        for is_default in [kind == by_default and not four_bit and method not in rarely]
    ]


@dataclass
class Step:
    """The weights that train, as they were before it, and the micro-batches as the trainer got them."""

    before: dict[str, torch.Tensor]
    batches: list[dict[str, torch.Tensor]] = field(default_factory=list)


class Watched:
    """In front of a trainer's class: keeps its `steps`, by how many were done before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.steps: dict[int, Step] = {}
        super().__init__(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        done = self.state.global_step
        if done not in self.steps:
            self.steps[done] = Step(trained(model))
        tensors = {name: values.clone() for name, values in inputs.items() if torch.is_tensor(values)}
        self.steps[done].batches.append(tensors)
        return super().training_step(model, inputs, *args, **kwargs)


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def documents(batches: Iterable[Mapping[str, torch.Tensor]]) -> Iterator[tuple[list[int], list[int]]]:
    """(ids, labels) of each."""
    for batch in batches:
        masks = batch.get("attention_mask"), batch.get("position_ids")
        for row, columns in documents_of(batch["labels"], *masks):
            yield batch["input_ids"][row, columns].tolist(), batch["labels"][row, columns].tolist()


def answers(
    case: Case,
    model: Any,
    batches: Iterable[Mapping[str, torch.Tensor]],
    reference: Mapping[str, torch.Tensor],
    start: Mapping[str, torch.Tensor],
) -> list[published.Answer]:
    """Each document alone, by full logits. The history is the model below the adapter, or for a snapshot the model
    with the weights `start`."""

    def below() -> contextlib.AbstractContextManager[None]:
        return at(model, start) if case.more.get("history") == "snapshot" else model.disable_adapter()

    @torch.no_grad()
    def read(tokens: list[int], response: list[int]) -> dict[str, torch.Tensor]:
        """Without gradient."""
        ids, before = torch.tensor([tokens]), [i - 1 for i in response]
        found = {}
        with below():
            found["history"] = model(input_ids=ids).logits[0, before]
            if case.reads == "unprompted":
                stays = [i for i in range(len(tokens)) if {i, i + 1, i + 2, i + 3, i + 4} & set(response)]
                if len(stays) < len(tokens):
                    logits = model(input_ids=ids[:, stays]).logits[0]
                    found["unprompted"] = logits[[stays.index(i) - 1 for i in response]]
        if case.reads == "reference":
            with carrying(model, reference):
                found["reference"] = model(input_ids=ids).logits[0, before]
        if case.reads == "attention":
            prompt = [i for i in range(len(tokens)) if i not in response]
            model.set_attn_implementation("eager")
            attention = model(input_ids=ids, output_attentions=True).attentions[-1][0].mean(0)
            model.set_attn_implementation("sdpa")
            found["attention"] = attention[:, prompt].sum(-1)[response]
        return found

    trains = [
        (tokens, response)
        for tokens, labels in documents(batches)
        if (response := [i for i in range(1, len(tokens)) if labels[i] != -100])  # none in the padding of packed rows
    ]
    read_before = [read(*document) for document in trains]
    return [
        published.Answer(
            logits=model(input_ids=torch.tensor([tokens])).logits[0, [i - 1 for i in response]],
            labels=torch.tensor(tokens)[response],
            positions=response,
            **others,
        )
        for (tokens, response), others in zip(trains, read_before, strict=True)
    ]


@contextlib.contextmanager
def at(model: Any, values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """With these values of the parameters that train."""
    own = trained(model)
    put(model, values)
    yield
    put(model, own)


def put(model: Any, values: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(values[name])


@contextlib.contextmanager
def carrying(model: Any, adapter: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Another adapter's weights in place of the model's own."""
    own = {name: values.clone() for name, values in get_peft_model_state_dict(model).items()}
    set_peft_model_state_dict(model, dict(adapter))
    yield
    set_peft_model_state_dict(model, own)


def assert_steps_follow(case: Case, model: Any, steps: Sequence[Step], reference: Mapping[str, torch.Tensor]) -> None:
    """Each step was one of plain gradient descent with rate 1 along the gradient of the loss.

    Args:
        reference: the weights of its adapter.
    """
    model.train()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weights = [*(step.before for step in steps), trained(model)]
    loss, exact = case.loss(), case.loss(exact=True) if case.memory else None
    shown = case.method == "full"
    for step, (before, after) in zip(steps, itertools.pairwise(weights), strict=True):
        put(model, before)
        found = answers(case, model, step.batches, reference, weights[0])
        moved = torch.cat([(before[name] - after[name]).flatten() for name in parameters])
        expected = gradient(loss(found), parameters.values())
        # Float32: the largest in a first step was 1.2e-6 of the gradient (`npo`, packed, NF4); then the weights grow.
        rounding = 1.5e-6 if step is steps[0] else 3e-6
        assert (moved - expected).abs().max() < rounding * max(1, expected.abs().max())
        assert (moved - expected).norm() < 1e-5 * expected.norm()
        if exact:  # all but the bins that numbers are known by
            assert (moved - gradient(exact(found), parameters.values())).norm() < 3e-3 * expected.norm()
        if not shown:
            shown = (moved - gradient(case.plain(found), parameters.values())).norm() > 1e-2 * expected.norm()
    assert shown, "the case shows nothing"


def gradient(loss: torch.Tensor, parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, tuple(parameters), retain_graph=True)
    return torch.cat([each.flatten() for each in gradients])
