"""Tokens that are neither known already nor out of reach."""

from __future__ import annotations

from dataclasses import dataclass

from sstoken_plugins import Method, NoOptions, Problem, hookimpl, option


@dataclass(frozen=True)
class BandOptions(NoOptions):
    band_low: float = option(
        0.5,
        "Tokens of a loss below this are known already.",
        valid=lambda low: low >= 0,
        otherwise=": set it above 0.",
    )
    band_high: float = option(8.0, "Tokens of a loss above this are out of reach.", shown=True)

    def problems(self):
        if (high := self.band_high) <= (low := self.band_low):
            yield Problem("{band_high} is {high}, {band_low} is {low}: set the first above.", high=high, low=low)


class Band(Method):
    """Every token with `band_low < loss <= band_high`, in nats."""

    Options = BandOptions
    selects = True

    def signals(self, progress):
        return ["loss"]

    def eligible(self, signals, documents, progress):
        loss = signals["loss"]
        return documents.response & (loss > self.options.band_low) & (loss <= self.options.band_high)

    def weights(self, signals, documents, progress):
        return self.eligible(signals, documents, progress).float()


@hookimpl
def register_methods(register):
    register("band", Band)
