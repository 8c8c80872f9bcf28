"""Which rows' answers belong to another prompt: two groups, of which one is known from exchanged prompts.

With `g` the gain of a row (nats), the gains of the data follow

    f(g) = pi f0(g) + (1 - pi) f1(g)

f0 is how gains look when the prompts are another row's: it is measured by exchanging them. f1, of right pairs, is
unknown; it is taken as a skewed logistic distribution (type IV), whose tails fall off exponentially, so that a weak
but right pair is not taken for an exchanged one. pi and f1 are fitted by maximum likelihood, on

    z = asinh((g - median f0) / spread f0)

which is linear where exchanged pairs are and logarithmic far above. Whether there are exchanged pairs at all is asked
first, by a likelihood ratio test of pi = 0. The posterior of being exchanged is `pi f0 / f` (one minus it is the local
false discovery rate), made monotone: a higher gain never looks more exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln
from scipy.stats import norm

MOST_FITTED = 4000
LEVEL = 0.01
"""Of the test that any pair is exchanged."""


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture.

    Attributes:
        share: estimated share of exchanged pairs; 0 if the test finds none.
        p_value: of the likelihood ratio test that the share is 0.
        posterior: (n,) probability that each pair is exchanged.
        exchanged_as_good: (n,) share of exchanged pairs that gain at least as much: a p-value against "exchanged".
    """

    share: float
    p_value: float
    posterior: np.ndarray
    exchanged_as_good: np.ndarray


def fit(gains: np.ndarray, exchanged: np.ndarray, seed: int = 0) -> Mixture:
    """Args:
    gains: (n,) of the data, finite.
    exchanged: (m,) of pairs with prompts exchanged, finite.
    """
    centre = np.median(exchanged)
    spread = 1.4826 * np.median(np.abs(exchanged - centre)) or exchanged.std() or 1.0
    z, z0 = (np.arcsinh((values - centre) / spread) for values in (gains, exchanged))
    fitted = z if len(z) <= MOST_FITTED else np.random.default_rng(seed).choice(z, MOST_FITTED, replace=False)
    f0 = _Kernel(z0)
    known = f0(fitted)
    alone, alone_parameters = _best(fitted, None, z0)
    mixed, parameters = _best(fitted, known, z0, alone_parameters)
    # Twice the gain in log-likelihood is 0 or chi-squared of one degree, half of the time each.
    ratio = max(0.0, 2 * (mixed - alone))
    p_value = float(norm.sf(np.sqrt(ratio)))
    as_good = (1 + len(z0) - np.searchsorted(np.sort(z0), z)) / (1 + len(z0))
    if p_value > LEVEL:
        return Mixture(0.0, p_value, np.zeros(len(z)), as_good)
    share = float(_share(parameters[0]))
    wrong, right = share * f0(z), (1 - share) * np.exp(_log_f1(z, parameters[1:]))
    order = np.argsort(z)
    posterior = np.empty(len(z))
    posterior[order] = _falling((wrong / (wrong + right))[order])
    return Mixture(share, p_value, posterior, as_good)


def most_likely(posterior: np.ndarray, fdr: float) -> np.ndarray:
    """(n,) bool: as many of the rows with the highest posterior as keep the mean of `1 - posterior` at or below `fdr`;
    none that is likelier right than exchanged."""
    order = np.argsort(-posterior, kind="stable")
    rate = np.cumsum(1 - posterior[order]) / np.arange(1, len(order) + 1)
    chosen = np.zeros(len(order), bool)
    chosen[order[: np.searchsorted(rate, fdr, side="right")]] = True
    return chosen & (posterior > 0.5)


class _Kernel:
    """A density from a sample: Gaussian kernels of Silverman's width, on a grid."""

    def __init__(self, sample: np.ndarray) -> None:
        quartiles = np.subtract(*np.percentile(sample, [75, 25]))
        width = 0.9 * min(sample.std(), quartiles / 1.34 or np.inf) * len(sample) ** -0.2 or 0.1
        self._grid = np.linspace(sample.min() - 6 * width, sample.max() + 6 * width, 1024)
        density = np.zeros_like(self._grid)
        for part in np.array_split(sample, -(-len(sample) // 512)):
            density += norm.pdf((self._grid[:, None] - part) / width).sum(1)
        self._density = density / len(sample) / width

    def __call__(self, z: np.ndarray) -> np.ndarray:
        # Beyond the sample it stays what it is at the edge of the grid: an outlier is no proof of either.
        return np.maximum(np.interp(z, self._grid, self._density), 1e-12)


def _share(logit: float) -> float:
    return 1 / (1 + np.exp(-logit))


def _log_f1(z: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Log-density of the type IV logistic distribution: `p u - (p + q) log(1 + e^u) - log B(p, q) - log s`."""
    place, log_scale, log_p, log_q = parameters
    u = (z - place) / np.exp(log_scale)
    p, q = np.exp(log_p), np.exp(log_q)
    return p * u - (p + q) * np.logaddexp(0, u) - betaln(p, q) - log_scale


def _best(
    z: np.ndarray, known: np.ndarray | None, z0: np.ndarray, alone: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """The highest log-likelihood and its parameters; with f0's density at `z`, of the mixture, or else of f1 alone."""

    def loss(parameters: np.ndarray) -> float:
        log_f1 = _log_f1(z, parameters[-4:])
        # A weak prior keeps the shapes finite; it weighs as much as one row.
        prior = 0.05 * (parameters[-2] ** 2 + parameters[-1] ** 2)
        if known is None:
            return float(prior - log_f1.sum())
        share = _share(parameters[0])
        return float(prior - np.logaddexp(np.log(share * known), np.log1p(-share) + log_f1).sum())

    bounds = [(z.min(), z.max()), (-4.0, 3.0), (-2.5, 3.0), (-2.5, 3.0)]
    starts = []
    if known is None:
        starts = [np.array([np.median(z), np.log(z.std() + 1e-3), 0.0, 0.0])]
    else:
        bounds.insert(0, (-9.0, 1.5))
        above = z[z > np.quantile(z0, 0.9)]
        upper = above if len(above) > 4 else z
        for share in (0.03, 0.25):
            logit = np.log(share / (1 - share))
            starts.append(np.array([logit, np.median(upper), np.log(upper.std() + 1e-2), 0.0, 0.0]))
            if alone is not None:
                starts.append(np.array([logit, *alone]))
    found = [minimize(loss, start, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(found, key=lambda result: result.fun)
    return -float(best.fun), np.asarray(best.x)


def _falling(values: np.ndarray) -> np.ndarray:
    """The largest non-increasing sequence below: each value is at most all before it."""
    return np.minimum.accumulate(values)
