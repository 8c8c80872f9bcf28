"""Ways to mend the excess loss, each with a reason; through the hooks that any plugin uses.

With `p_h` and `p` the probabilities under the base and the model in training, `rel = log p - log p_h`, `V` the size of
the vocabulary. README.md has the condition under which rel points at the flaw: `n - s > log(...)`, with `n` and `s`
the base's surprise at spoiled and at sound tokens.

    rel_less_surprise   rho best by rel + log p_h / 2. Half of the surprise is taken out, so the flaw has to be twice
                        as surprising before its tokens are on top
    rel_plausible       rho best by rel of those with p_h > 1 / V. What the base takes for noise does not compete
    unlearned_noise     all but those with p_h <= bar / V and rel <= 0: surprising tokens may be the new skill or
                        noise, and the skill is what training makes likelier
    rel_soft            weight 2 p / (p + p_h) = 2 sigmoid(rel): no token is lost for good, and none has another weight
                        than 1 before training
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sstoken_plugins import Documents, Method, Progress, hookimpl
from sstoken_plugins.methods.ranked import RankedMethod
from sstoken_plugins.options import NoOptions, option


class RelLessSurprise(RankedMethod):
    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel", "history_log_prob"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["rel"] + signals["history_log_prob"] / 2


class RelPlausible(RankedMethod):
    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel", "history_plausibility"]

    def score(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return signals["rel"]

    def eligible(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return documents.response & (signals["history_plausibility"] > 0)


@dataclass(frozen=True)
class NoiseOptions(NoOptions):
    bar: float = option(1.0, "Noise has at most this many times the probability of a uniform guess.")


class UnlearnedNoise(Method):
    Options = NoiseOptions
    selects = True

    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel", "history_plausibility"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        surprising = signals["history_plausibility"] <= math.log(self.options.bar)
        return 1 - (surprising & (signals["rel"] <= 0)).float()


class RelSoft(Method):
    def signals(self, progress: Progress) -> Sequence[str]:
        return ["rel"]

    def weights(self, signals: Mapping[str, Tensor], documents: Documents, progress: Progress) -> Tensor:
        return 2 * signals["rel"].sigmoid()


@hookimpl
def register_methods(register: Any) -> None:
    register("rel_less_surprise", RelLessSurprise)
    register("rel_plausible", RelPlausible)
    register("unlearned_noise", UnlearnedNoise)
    register("rel_soft", RelSoft)
