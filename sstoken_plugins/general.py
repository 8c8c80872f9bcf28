"""The options that always apply: which method, which history, and what concerns any of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import Problem
from .options import NoOptions, option


@dataclass(frozen=True)
class GeneralOptions(NoOptions):
    """The options that always apply."""

    strategy: str = option(
        "sstoken", "Which tokens train: the name of a method (`sstoken plugins` lists them), or one of a plugin."
    )
    history: str = option(
        "auto",
        "The earlier version of the model that tokens are compared with (`sstoken plugins` lists them). 'auto' is the "
        "model that training starts from: with an adapter the model below it, and in full fine-tuning what it says of "
        "the data, recorded before the first step.",
    )
    loss: str = option(
        "auto",
        "Where the loss over the kept tokens comes from: 'own' (the same forward pass that gives the scores), "
        "'framework' (scores come from a pass of their own, dropped tokens lose their label, and the framework "
        "computes its own loss; one more forward pass), or 'auto' ('own' wherever it can; the log says where not).",
        choices=("auto", "own", "framework"),
    )
    weights: str | None = option(
        None,
        "Column of the data, or field of each message, with weights that multiply those of the method: a number for "
        "the sample, for each turn that trains, or for each response token. 0 leaves out, below 0 unlearns.",
        shown=True,
    )
    weights_file: str | None = option(
        None,
        "JSON Lines file with such weights instead, one line for each row of the data, from any scorer.",
        shown=True,
        folder=True,
    )
    divisor: str | None = option(
        None,
        "What the loss of an optimizer step is divided by: the number of 'response' tokens, of 'kept' ones, the sum "
        "of the data's 'weights' or 'abs_weights', or the number of 'samples'. Unset: what the method divides by.",
        choices=("response", "kept", "weights", "abs_weights", "samples"),
        shown=True,
    )

    anchor: str = option(
        "none",
        "What else the loss holds the model to: 'none', or 'k3', an estimate of its divergence from the history at "
        "each response token, on top of any method.",
        choices=("none", "k3"),
    )
    anchor_weight: float = option(
        0.03,
        "Factor of the anchor in the loss.",
        valid=lambda weight: 0 < weight < math.inf,
        otherwise=", but it is the factor of the anchor: set it above 0, for example 0.03.",
    )
    anchor_clip: float = option(
        10.0,
        "How much more likely the history may find a token, as a ratio less 1, before the pull stops growing.",
        valid=lambda clip: 0 < clip < math.inf,
        otherwise=", but it bounds a ratio of probabilities: set it above 0, for example 10.",
    )

    def problems(self) -> Iterator[Problem]:
        for name in ("anchor_weight", "anchor_clip"):
            if self.anchor == "none" and getattr(self, name) != GeneralOptions.__dataclass_fields__[name].default:
                yield Problem(
                    f"{{{name}}} is {{value!r}}, but {{anchor}} is 'none': set {{anchor}} to 'k3', or remove it.",
                    value=getattr(self, name),
                )
        if self.weights and self.weights_file:
            yield Problem("{weights} and {weights_file} are both set: set one of them.")
        if self.divisor in ("weights", "abs_weights") and not self.has_data_weights:
            yield Problem(
                "{divisor} is {value!r}, but the data have no weights: set {weights} or {weights_file}.",
                value=self.divisor,
            )

    @property
    def has_data_weights(self) -> bool:
        """Whether the data bring weights."""
        return bool(self.weights or self.weights_file)
