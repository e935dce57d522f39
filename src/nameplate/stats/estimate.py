"""Estimates from a window of batches: launch time, the ratio of two cases, trend and oscillation.

The estimand is throughput: work done ÷ expected time of the window that was measured. So the estimate is the
mean launch time, never the minimum or the median. Its uncertainty comes from batches, never from single
samples: neighbouring launches share clock, cache and other load, so they are not independent.

Every estimate here models a time series the same way: a mean, a straight line, an oscillation where one is
significant, and AR(1) noise. The line and the oscillation are part of the truth and don't widen an interval.
The residual is noise; where it is autocorrelated, its effective sample size is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from nameplate.stats.interval import CONFIDENCE, Interval, find_low_end

# Verdict tests use α = 0.01.
VERDICT_CONFIDENCE = 0.99
# Enough batches for an interval. The sampler stops once an interval is narrow, which lowers coverage where it
# may stop early: simulated, 92.2 % after at least 5 batches, 92.9 % after 10, 94.8 % after 20.
BATCHES = 20
FEWEST_BATCHES = 5
# Longer series are averaged over equal groups of neighbours first: averaging lowers lag-1 autocorrelation,
# and the cost no longer grows with the window.
_MOST_GROUPS = 60
# An oscillation must repeat at least once, in a series long enough to test. The level is α = 0.0001 because
# autocorrelated noise also shows waves.
FEWEST_PERIODS = 2
_FEWEST_FOR_OSCILLATION = 16
_OSCILLATION_SIGNIFICANCE = 0.0001
# Half the width of a steady wave's peak in the periodogram, in cycles per window.
_PEAK_HALF_WIDTH_CYCLES = 1.5
# The bias correction can push an estimated autocorrelation to 1, where the effective sample size would be 0.
_LARGEST_AUTOCORRELATION = 0.95

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """The straight line through a series: its change over the window ÷ the mean of the series.

    `error` is the standard error of `change`, also relative, and `freedom` its degrees of freedom.
    """

    change: float
    error: float
    freedom: int

    def exceeds(self, margin: float) -> bool:
        """Whether the change, up or down, is larger than `margin` (a fraction) with 99 % confidence."""
        reach = float(stdtrit(self.freedom, VERDICT_CONFIDENCE)) * self.error
        return abs(self.change) - reach > margin


def launch_time(
    elapsed_s: ArrayLike,
    launches: ArrayLike,
    resolution_s: float = 0.0,
    *,
    at_s: ArrayLike | None = None,
    samples_s: Sequence[ArrayLike] | None = None,
    process: ArrayLike | None = None,
    off: tuple[float, float] = (0.0, 0.0),
) -> Interval:
    """Return the mean seconds per launch over a window of batches, with its 95 % interval.

    `elapsed_s` and `launches` have one entry per batch, in the order they ran; batches have equally many
    launches. `at_s` are the middles of the batches in seconds, on any clock; by default the batches are taken
    as back to back. `samples_s` are the samples of each batch in seconds, from which skewness is estimated.

    The value is total time ÷ total launches. The interval is Student's, from the residual of the fitted
    series with its effective sample size (`_standard_error`). With `samples_s`, the end on the side of the
    longer tail moves out (`_skewness_shift`).

    `process` numbers the process of each batch. Of several, the value is the mean of their own values, each
    with the same weight, and the interval is that within these processes: what other processes would have
    given is no part of it (`stats/between.py`).

    `resolution_s` is the step of the clock. A batch's total is off by less than one step, in either
    direction. Were every batch off by the same amount, no number of batches would show it, so this is a bias.
    Batches that scatter by half a step or more fall on every phase of the step: differences of two time
    stamps are then unbiased, and durations truncated to whole steps are half a step short (Widrow and Kollár,
    Quantization Noise, 2008). So half a step bounds the bias there, and a whole step otherwise. A bias
    affects one side only and therefore adds to the one-sided quantile; the interval widens only where that
    sum exceeds the two-sided quantile.

    `off` is by what fraction the truth may besides lie below and above the mean, whatever the number of
    batches: a bias too, on the side that it is of.

    Raises ValueError for fewer than two batches.
    """
    elapsed = np.asarray(elapsed_s, dtype=float)
    counts = np.asarray(launches, dtype=float)
    if elapsed.size < 2:
        raise ValueError(f"an interval needs at least two batches; got {elapsed.size}")
    each = elapsed / counts
    split = split_by_process(process, elapsed.size)
    mean = float(np.mean([elapsed[its].sum() / counts[its].sum() for its in split]))
    at = elapsed.cumsum() - elapsed / 2 if at_s is None else np.asarray(at_s, dtype=float)
    noise = _estimate_noise(at, each, split)
    two_sided, one_sided = (float(stdtrit(noise.freedom, p)) for p in ((1 + CONFIDENCE) / 2, CONFIDENCE))
    step = resolution_s / float(counts.mean())
    bias = step / 2 if float(each.std(ddof=1)) >= step / 2 else step
    below, above = (
        max(two_sided * noise.error, bias + each * mean + one_sided * noise.error) for each in off
    )
    shift = noise.error * _skewness_shift(samples_s, two_sided) if samples_s is not None else 0.0
    return Interval(mean, find_low_end(mean, below + max(-shift, 0.0)), mean + above + max(shift, 0.0))


def _skewness_shift(samples_s: Sequence[ArrayLike], quantile: float) -> float:
    """Return by how many standard errors the end on the longer tail's side moves out; below 0: the low end.

    κ·(2t² + 1)/6 is the first term of the Cornish–Fisher expansion for a studentized mean, with κ the
    skewness of the mean: that of N samples ÷ √N (Johnson, J. Am. Stat. Assoc. 73, 1978, p. 536; Hall, J. R.
    Stat. Soc. B 54, 1992, p. 221). Both papers move the other end in by as much. Here it stays: a window that
    happened to see little of the tail underestimates both the error and the skewness.
    """
    samples = np.concatenate([np.asarray(batch, dtype=float) for batch in samples_s])
    deviation = samples - samples.mean()
    squares = deviation * deviation
    spread = math.sqrt(float(squares.mean()))
    if spread == 0.0:
        return 0.0
    skewness_of_mean = float((squares * deviation).sum()) / samples.size / spread**3 / math.sqrt(samples.size)
    return skewness_of_mean * (2 * quantile**2 + 1) / 6


def paired_ratio(first_s: ArrayLike, second_s: ArrayLike, process: ArrayLike | None = None) -> Interval:
    """Return throughput of a second case ÷ that of a first one, measured in turn, with its 95 % interval.

    `first_s` and `second_s` are seconds per launch, one entry per round, in order. The value is Σ first ÷
    Σ second: above 1 the second case is faster. Whatever both share in a round (clock, drift, other load)
    cancels. `process` numbers the process of each round: of several, the sums are of their means, and the
    interval is that within these processes.

    The interval is Student's on a log scale, from the linearized ratio estimator: round i contributes
    first_i ÷ mean(first) − second_i ÷ mean(second) (Cochran, Sampling Techniques, 1977, ch. 6). Unlike the
    mean of the rounds' log ratios, this estimates the ratio of totals also where the two cases' noise is
    skewed differently. Trend, oscillation and autocorrelation count as in `launch_time`.

    Raises ValueError for fewer than two rounds, for unequal lengths, and for times that aren't above 0.
    """
    first, second = np.asarray(first_s, dtype=float), np.asarray(second_s, dtype=float)
    if first.shape != second.shape or first.size < 2:
        raise ValueError(
            f"a paired ratio needs two rounds or more of both cases; got {first.size} and {second.size}"
        )
    shortest_s = float(min(first.min(), second.min()))
    if shortest_s <= 0:
        raise ValueError(f"a paired ratio needs times above 0; got {shortest_s}")
    split = split_by_process(process, first.size)
    mean, other = (float(np.mean([each[its].mean() for its in split])) for each in (first, second))
    noise = _estimate_noise(np.arange(first.size, dtype=float), first / mean - second / other, split)
    half = float(stdtrit(noise.freedom, (1 + CONFIDENCE) / 2)) * noise.error
    return Interval.from_log_half_width(mean / other, half)


def means_by_process(values: ArrayLike, process: ArrayLike, weights: ArrayLike | None = None) -> _Array:
    """Return the mean of each process's values, in the order of the processes' first values.

    `weights` are those within a process, such as launches; by default all are the same.
    """
    series = np.asarray(values, dtype=float)
    each = np.ones_like(series) if weights is None else np.asarray(weights, dtype=float)
    split = split_by_process(process, series.size)
    return np.asarray([float(series[its] @ each[its] / each[its].sum()) for its in split])


def split_by_process(process: ArrayLike | None, size: int) -> list[NDArray[np.intp]]:
    """Return the places of each process's values; without processes, all places."""
    if process is None:
        return [np.arange(size)]
    numbers = np.asarray(process)
    return [np.flatnonzero(numbers == number) for number in dict.fromkeys(numbers.tolist())]


def fit_trend(at_s: ArrayLike, values: ArrayLike) -> Trend:
    """Return the relative change of a series over its window, by least squares.

    `at_s` are the middles of equal batches in seconds, on any clock and in order; `values` are in any unit.
    A significant oscillation is fitted together with the line, so that an incomplete period doesn't tilt it;
    autocorrelation widens the error. With fewer than 5 values the error is infinite.

    Raises ValueError for fewer than two values.
    """
    at, series = np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)
    if series.size < 2:
        raise ValueError(f"a trend needs at least two values; got {series.size}")
    mean = float(series.mean())
    at, series = _average_neighbours(at, series)
    fit = _fit(at, series)
    if fit.parameters < 2:
        return Trend(0.0, math.inf, 1)
    noise = _standard_error(fit, 1)
    # Standard error of a slope along x, from that of the mean: × √(n ÷ Σx²).
    x = _relative_time(at)
    error = noise.error * math.sqrt(x.size / float(x @ x))
    return Trend(fit.change / mean, error / mean, noise.freedom)


def find_oscillation(at_s: ArrayLike, values: ArrayLike) -> float | None:
    """Return the period in seconds of a significant oscillation in a series; None where there is none.

    `at_s` are the middles of equal batches in seconds, on any clock. The strongest wave in the periodogram of
    the detrended series is significant where it has at least two periods in the window, spans more than two
    of at least 16 values, and passes two tests at α = 0.0001 (Bonferroni over n ÷ 2 frequencies):

    - against white noise: p = (1 − share of the variance it explains)^((n − 4) ÷ 2) (Fisher, Proc. R. Soc. A
      125, 1929, p. 54); and
    - against autocorrelated noise, whose spectrum is smooth but not flat: p = 2^−(its power ÷ the median
      power at half to twice its frequency), as each ordinate is exponentially distributed about the spectrum.
    """
    return _fit(np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)).period_s


def without_oscillation(at_s: ArrayLike, values: ArrayLike) -> _Array:
    """Return a series less its significant oscillation, which has a mean of 0; the series where it has none.

    `at_s` are the middles of equal batches in seconds. Whether there is one, `find_oscillation` says.
    """
    at, series = np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)
    period_s = find_oscillation(at, series)
    if period_s is None:
        return series
    phase = 2 * np.pi * at / period_s
    columns = np.column_stack([np.ones_like(at), at - at.mean(), np.cos(phase), np.sin(phase)])
    fitted, *_ = np.linalg.lstsq(columns, series)
    return np.asarray(series - columns[:, 2:] @ fitted[2:])


@dataclass(frozen=True)
class _Fit:
    """A line, and an oscillation where one is significant, fitted to a series."""

    change: float  # of the line over the window
    period_s: float | None
    parameters: int  # mean and slope; amplitude, phase and frequency of an oscillation
    residual: _Array


@dataclass(frozen=True)
class _Noise:
    """The standard error of a series' mean, and its degrees of freedom."""

    error: float
    freedom: int


def _estimate_noise(at: _Array, series: _Array, split: Sequence[NDArray[np.intp]]) -> _Noise:
    """Estimate the noise within processes, of which `split` has the places: each is taken about its own mean.

    A mean over processes of equal weight has the variance Σ(1 ÷ n) ÷ k² of one value, for n values each.
    """
    if len(split) == 1:
        return _standard_error(_fit(*_average_neighbours(at, series)), 1)
    within = series.copy()
    for its in split:
        within[its] -= series[its].mean()
    noise = _standard_error(_fit(*_average_neighbours(at, within)), len(split))
    imbalance = series.size * sum(1 / its.size for its in split) / len(split) ** 2
    return _Noise(noise.error * math.sqrt(imbalance), noise.freedom)


def _average_neighbours(at: _Array, series: _Array) -> tuple[_Array, _Array]:
    """Average equal groups of neighbours so that at most 60 values remain; drop an incomplete last group."""
    size = math.ceil(series.size / _MOST_GROUPS)
    if size == 1:
        return at, series
    whole = series.size // size * size
    return at[:whole].reshape(-1, size).mean(axis=1), series[:whole].reshape(-1, size).mean(axis=1)


def _fit(at: _Array, series: _Array) -> _Fit:
    deviation = series - series.mean()
    if series.size < FEWEST_BATCHES:  # a line would leave too few degrees of freedom
        return _Fit(0.0, None, 1, deviation)
    x = _relative_time(at)
    change = float(x @ deviation) / float(x @ x)
    residual = deviation - change * x
    cycles = _significant_cycles(x, residual)
    if cycles is None:
        return _Fit(change, None, 2, residual)
    phase = 2 * np.pi * cycles * x
    cosine, sine = np.cos(phase), np.sin(phase)
    # The frequency is on a grid of 0.1 cycles. The last column is the wave's derivative by frequency: its
    # coefficient refines the frequency to first order.
    derivative = 2 / series.size * x * (float(sine @ residual) * cosine - float(cosine @ residual) * sine)
    design = np.column_stack([np.ones_like(x), x, cosine, sine, derivative])
    fitted = np.linalg.lstsq(design, deviation)[0]
    period_s = float(at[1] - at[0]) / float(x[1] - x[0]) / (cycles + float(fitted[4]) / (2 * np.pi))
    return _Fit(float(fitted[1]), period_s, 5, deviation - design @ fitted)


def _relative_time(at: _Array) -> _Array:
    """Time in units of the window, centred on 0. The window extends half a batch beyond both middles."""
    if at[-1] == at[0]:  # the clock is too coarse to tell the batches apart
        at = np.arange(at.size, dtype=float)
    span = (at[-1] - at[0]) * at.size / (at.size - 1)
    return np.asarray((at - at.mean()) / span)


def _significant_cycles(x: _Array, residual: _Array) -> float | None:
    """Return the strongest wave's cycles per window; None where it isn't significant (`find_oscillation`)."""
    n, power = residual.size, float(residual @ residual)
    if n < _FEWEST_FOR_OSCILLATION or power == 0.0:
        return None
    coarse = np.arange(2, n) / 2
    spectrum = _periodogram(coarse, x, residual)
    fine = coarse[np.argmax(spectrum)] + np.arange(-4, 5) / 10
    explained = _periodogram(fine, x, residual)
    cycles, strongest = float(fine[np.argmax(explained)]), min(float(explained.max()), power)
    white = n / 2 * (1 - strongest / power) ** ((n - 4) / 2)
    if cycles < FEWEST_PERIODS or white > _OSCILLATION_SIGNIFICANCE:
        return None
    off_peak = np.abs(coarse - cycles) > _PEAK_HALF_WIDTH_CYCLES
    nearby = (coarse >= cycles / 2) & (coarse <= 2 * cycles) & off_peak
    background = max(float(np.median(spectrum[nearby])), 1e-9 * power)
    return cycles if n / 2 * 0.5 ** (strongest / background) < _OSCILLATION_SIGNIFICANCE else None


def _periodogram(cycles: _Array, x: _Array, residual: _Array) -> _Array:
    """Return the sum of squares that a wave of each frequency explains."""
    # einsum, not `@`: BLAS threads would spin while launches are being measured.
    wave = np.einsum("ij,j->i", np.exp(2j * np.pi * np.multiply.outer(cycles, x)), residual)
    return np.asarray(2 / residual.size * (wave.real**2 + wave.imag**2))


def _standard_error(fit: _Fit, processes: int) -> _Noise:
    """Return the standard error of a series' mean, from the residual of its fit.

    n values with lag-1 autocorrelation r have an effective sample size of n' = n·(1 − r)/(1 + r) for an AR(1)
    process (Bayley and Hammersley, J. R. Stat. Soc. Suppl. 8, 1946, p. 184). So the variance of their mean is
    Σresidual²/n ÷ (n' − parameters), the textbook formula where r = 0. Fitting biases r down by about
    (2 + 4r)/n (Kendall, Biometrika 41, 1954, p. 403, for the mean; by simulation for the line), which is
    corrected. An r within its standard error of 1/√n counts as 0. With some 20 values, an r near 1 can't be
    told from a trend.

    Each of k processes has a mean of its own: k − 1 more parameters, and a bias of (1 + k)·(1 + 2r)/n. With
    fewer than 5 values in each, r can't be told.
    """
    residual, n, parameters = fit.residual, fit.residual.size, fit.parameters + processes - 1
    freedom = n - parameters
    power = float(residual @ residual)
    if power == 0.0:
        return _Noise(0.0, freedom)
    effective, bias = float(n), 1 + processes
    r = float(residual[1:] @ residual[:-1]) / power
    if n >= FEWEST_BATCHES * processes and r + bias / n > 1 / math.sqrt(n):
        r = min((n * r + bias) / (n - 2 * bias), _LARGEST_AUTOCORRELATION)
        effective = max(n * (1 - r) / (1 + r), parameters + 1.0)
    return _Noise(math.sqrt(power / n / (effective - parameters)), freedom)
