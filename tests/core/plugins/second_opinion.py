"""What another adapter says of the tokens: a measurement, a signal that reads it, and a method that reads that."""

from __future__ import annotations

from dataclasses import dataclass

from sstoken_plugins import Column, NoOptions, OwnPass, Problem, RankedMethod, Signal, hookimpl, option
from sstoken_plugins.histories.adapter import AdapterHistory, AdapterOptions


@dataclass(frozen=True)
class OpinionOptions(NoOptions):
    opinion_adapter: str | None = option(None, "Folder of the adapter that is asked for its opinion.")

    def problems(self):
        if not self.opinion_adapter:
            yield Problem("{opinion_adapter} is not set: set it to the folder of a saved PEFT adapter.")


class Opinion(OwnPass):
    """`log p(token | tokens before)` under another adapter, in nats. One more pass."""

    Options = OpinionOptions
    column = Column("opinion", "The log-probability of the token under another adapter, in nats.")

    def __init__(self, options, history=None):
        super().__init__(options, history)
        self._other = AdapterHistory(AdapterOptions(history_adapter=options.opinion_adapter), "opinion")

    def attach(self, model, run):
        self._other.attach(model, run)

    def measure(self, passes, batch):
        with self._other.active(passes.model):
            return passes.log_probs(batch)


class Disagreement(Signal):
    """`log p_other - log p_current`."""

    needs = frozenset({"log_probs", "opinion"})

    def __call__(self, measured):
        return measured["opinion"] - measured.log_probs


class FollowOther(RankedMethod):
    """The rho that the other adapter finds likelier than the model does."""

    def signals(self, progress):
        return ["disagreement"]

    def score(self, signals, documents, progress):
        return signals["disagreement"]


@hookimpl
def register_measurements(register):
    register("opinion", Opinion)


@hookimpl
def register_signals(register):
    register("disagreement", Disagreement)


@hookimpl
def register_methods(register):
    register("follow_other", FollowOther)
