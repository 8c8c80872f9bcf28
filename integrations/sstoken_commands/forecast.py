"""What a method would do on these data: a look at some samples with the model's weights, before the first step."""

from __future__ import annotations

import math
import tempfile

import numpy as np

from sstoken_plugins.model.head import known_tokens
from sstoken_report.inspection import look_at
from sstoken_transformers.doctor.diagnosis import Forecast
from sstoken_transformers.framework import CommandLine, Framework, Look

NOISE = 0.1
"""A token that gets less than this many times the probability of a uniform guess looks like noise: the default of
`trim`, the bar of the method `trimmed`."""


def forecast(framework: Framework, command: CommandLine, number: int) -> Forecast:
    """Loads the model as the training would, and scores `number` samples of the data.

    Raises:
        ValueError: for what the training would refuse, and where there is nothing to score.
    """
    with tempfile.TemporaryDirectory() as folder, framework.look(command, Look(number, None, folder)) as looked:
        report = look_at(looked.trainer, number, None, looked.asked_for, step=0)
        vocabulary = known_tokens(looked.trainer.model)
    weights = report.columns["weight"][report.response]
    log_probs = report.columns["log_prob"][report.response]
    return Forecast(
        samples=report.n_samples,
        response_tokens=len(weights),
        trained_tokens=int((weights != 0).sum()),
        lowest_weight=float(weights.min()),
        mean_weight=float(weights.mean(dtype=np.float64)),
        highest_weight=float(weights.max()),
        noise_tokens=int((log_probs <= math.log(NOISE / vocabulary)).sum()),
        notes=tuple(report.about["notes"]),
    )
