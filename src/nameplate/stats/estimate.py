"""The mathematics of a window of batches: throughput, its interval, its course, and ratios of two of them.

The truth an estimator is held to is throughput: work done ÷ expected time of the window that was measured,
given how that window went. So the estimate is the mean launch time, never the minimum or the median, and its
uncertainty comes from batches, never from single samples: neighbouring launches share clock, cache and
neighbours, and are not independent.

A window's *course* is what time explains of it: its level, a straight line, and an oscillation where one is
plain. It is part of the truth, so it doesn't widen the interval. What it leaves is noise, and batches of
noise that hang together are worth fewer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc, stdtrit

from nameplate.stats.interval import CONFIDENCE, Interval

# What is asked before a verdict is spoken: of 100 windows without what it names, 99 go free.
VERDICT_CONFIDENCE = 0.99
# Below this many batches Student's factor alone carries the correction; simulated coverage of a stopping
# rule falls with the minimum: 92.2 % at 5 batches, 92.9 % at 10, 94.8 % at 20.
BATCHES = 20
FEWEST_BATCHES = 5
# More batches than this are averaged in equal groups before their scatter is looked at: neighbours then hang
# together less, and one call costs the same however long the window.
_MOST_GROUPS = 60
# An oscillation came back at least once, in a series long enough to tell it from luck, and stands out as a
# wave of noise would once in ten thousand series; more often, and noise that hangs together passes for waves.
FEWEST_PERIODS = 2
_FEWEST_FOR_OSCILLATION = 16
_OSCILLATION_CHANCE = 0.0001
# A steady wave fills the periodogram this far to either side, in cycles a window.
_WIDTH_CYCLES = 1.5
# The share of windows of independent samples that pass for dwelling, by either sign.
_DWELLING_CHANCE = 0.005
# A corrected autocorrelation may pass 1, where no number of batches would be worth anything.
_LARGEST_AUTOCORRELATION = 0.95

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """The straight line through a series: its change over the window ÷ the series' mean, and how sure it is.

    `error` is the standard error of `change`, a fraction too; `freedom` are its degrees of freedom.
    """

    change: float
    error: float
    freedom: int

    def beyond(self, margin: float) -> bool:
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
) -> Interval:
    """Mean seconds a launch over a window of batches, with a 95 % interval.

    `elapsed_s` and `launches` have one entry a batch; batches are of equal launches, in the order they ran.
    `at_s` are the batches' middles in seconds, on any clock; without them batches count as back to back.
    `samples_s` are the samples of each batch in seconds, which tell how skewed their law is.

    The value is total time ÷ total launches. The interval is Student's, for the noise beside the window's
    course, which is worth fewer batches where neighbours are alike (`_error_of_mean`). With `samples_s` the
    end on the side of the noise's longer tail lies farther out (`_tail`).

    `resolution_s` is the step of the clock by which a batch's total is read; such a total is off by less than
    a step, either way. Were all off by the same, no number of batches would show it: it is a bias of the
    figure, not noise. Batches that scatter by half a step or more meet the step at every phase. Differences
    of two stamps are then right on average, and durations cut to whole steps are half a step short (Widrow
    and Kollár, Quantization Noise, 2008), so half a step bounds the bias; otherwise a whole one does. A bias
    spoils one side of an interval only, so it adds to the one-sided quantile; where that stays within the
    two-sided one, the interval has room for it.

    Raises ValueError for fewer than two batches.
    """
    elapsed = np.asarray(elapsed_s, dtype=float)
    counts = np.asarray(launches, dtype=float)
    if elapsed.size < 2:
        raise ValueError(f"an interval needs at least two batches; got {elapsed.size}")
    mean = float(elapsed.sum() / counts.sum())
    each = elapsed / counts
    at = elapsed.cumsum() - elapsed / 2 if at_s is None else np.asarray(at_s, dtype=float)
    noise = _noise(at, each)
    two_sided, one_sided = (float(stdtrit(noise.freedom, p)) for p in ((1 + CONFIDENCE) / 2, CONFIDENCE))
    step = resolution_s / float(counts.mean())
    bias = step / 2 if float(each.std(ddof=1)) >= step / 2 else step
    half = max(two_sided * noise.error, bias + one_sided * noise.error)
    tail = noise.error * _tail(samples_s, two_sided) if samples_s is not None else 0.0
    return Interval(mean, max(mean - half + min(tail, 0.0), 0.0), mean + half + max(tail, 0.0))


def _tail(samples_s: Sequence[ArrayLike], quantile: float) -> float:
    """Standard errors by which the end on the longer tail's side moves out; below 0 where it's the low end.

    κ·(2t² + 1)/6, Cornish and Fisher's first term for a studentized mean, where κ is the skewness of the
    mean: that of N samples ÷ √N (Johnson, J. Am. Stat. Assoc. 73, 1978, p. 536; Hall, J. R. Stat. Soc. B 54,
    1992, p. 221). Both move the other end in by as much. Here that one stays: a window that saw less of the
    tail than usual underestimates error and skewness alike.
    """
    samples = np.concatenate([np.asarray(batch, dtype=float) for batch in samples_s])
    deviation = samples - samples.mean()
    squares = deviation * deviation
    spread = math.sqrt(float(squares.mean()))
    if spread == 0.0:
        return 0.0
    skewness_of_mean = float((squares * deviation).sum()) / samples.size / spread**3 / math.sqrt(samples.size)
    return skewness_of_mean * (2 * quantile**2 + 1) / 6


def paired_ratio(first_s: ArrayLike, second_s: ArrayLike) -> Interval:
    """Throughput of a second case ÷ that of a first, measured by turns in rounds; with a 95 % interval.

    `first_s` and `second_s` are seconds a launch, one entry a round, in order. The value is Σ first ÷ Σ
    second: above 1 the second case is the faster one. What both share in a round (clock, drift, a neighbour)
    cancels.

    The interval is Student's on a log scale, for what each round adds to the logarithm of the value in first
    order: first_i ÷ mean(first) − second_i ÷ mean(second) (the ratio estimator: Cochran, Sampling Techniques,
    1977, ch. 6). Unlike the mean of the rounds' log ratios, that belongs to the ratio of totals also where
    the two cases' noise is skewed differently. Course and likeness of neighbours count as in `launch_time`.

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
    value = float(first.sum() / second.sum())
    noise = _noise(np.arange(first.size, dtype=float), first / first.mean() - second / second.mean())
    half = float(stdtrit(noise.freedom, (1 + CONFIDENCE) / 2)) * noise.error
    return Interval.from_log_half_width(value, half)


def trend(at_s: ArrayLike, values: ArrayLike) -> Trend:
    """Relative change of a series over its window by least squares, in order of time.

    `at_s` are the middles of equal batches in seconds, on any clock; `values` may be in any unit. A plain
    oscillation is fitted beside the line, so that where its periods end doesn't tilt it; noise that hangs
    together widens the error. With fewer than 5 values nothing is known: the error is infinite.

    Raises ValueError for fewer than two values.
    """
    at, series = np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)
    if series.size < 2:
        raise ValueError(f"a trend needs at least two values; got {series.size}")
    mean = float(series.mean())
    at, series = _grouped(at, series)
    course = _course(at, series)
    if course.parameters < 2:
        return Trend(0.0, math.inf, 1)
    noise = _error_of_mean(course)
    # The error of a slope along x, where that of the mean is known: × √(n ÷ Σx²).
    along = _along(at)
    error = noise.error * math.sqrt(along.size / float(along @ along))
    return Trend(course.change / mean, error / mean, noise.freedom)


def dwelling(values: ArrayLike, samples: Sequence[ArrayLike] | None = None) -> float:
    """How far apart two levels lie between which batches dwell, ÷ their mean; 0.0 where they don't dwell.

    `values` has one mean a batch, in order; `samples` has the samples of each batch, in one unit of any kind.
    The batches are cut in two where the cut explains most of their variance, each part a tenth of them or
    more (Otsu, IEEE Trans. SMC 9, 1979, p. 62). They dwell where independent samples would seldom look like
    that (once in 200 windows), by either of two signs:

    - they change sides more seldom than the same values in random order would (runs test: Wald and Wolfowitz,
      Ann. Math. Stat. 11, 1940, p. 147). This holds whatever law independent batches follow.
    - they differ more than their own samples explain (analysis of variance). Only this tells some 20 batches
      that changed sides several times, so give `samples` where there are any.

    A drift, a burst or an oscillation is no chance either, and shows as the distance between the means of its
    upper and its lower part: 4a/π for a sine of amplitude a. What distance matters is the caller's to say.
    """
    series = np.asarray(values, dtype=float)
    ordered = np.sort(series)
    n = ordered.size
    smallest = max(2, math.ceil(n / 10))
    if n < 2 * smallest or ordered[0] == ordered[-1]:
        return 0.0
    low = np.arange(smallest, n - smallest + 1)
    sum_low = ordered.cumsum()[low - 1]
    distance = (ordered.sum() - sum_low) / (n - low) - sum_low / low
    cut = int(np.argmax(low * (n - low) * distance**2))
    above = series > ordered[low[cut] - 1]
    if not above.any():  # all equal but for fewer than a tenth
        return 0.0
    if not _stays(above) and (samples is None or not _differ_beyond(samples)):
        return 0.0
    return float(distance[cut] / series.mean())


def _stays(above: NDArray[np.bool_]) -> bool:
    """Whether a series of two kinds changes more seldom than chance would have it."""
    runs = 1 + int(np.count_nonzero(above[1:] != above[:-1]))
    ones = int(np.count_nonzero(above))
    return _chance_of_runs(runs, ones, above.size - ones) < _DWELLING_CHANCE / 2


def _chance_of_runs(runs: int, ones: int, others: int) -> float:
    """Of the arrangements of `ones` and `others` things, the share that has `runs` runs or fewer."""
    ways = 0
    for count in range(2, runs + 1):
        more, fewer = (count + 1) // 2 - 1, count // 2 - 1
        ways += math.comb(ones - 1, more) * math.comb(others - 1, fewer)
        ways += math.comb(ones - 1, fewer) * math.comb(others - 1, more)
    return ways / math.comb(ones + others, ones)


def _differ_beyond(samples: Sequence[ArrayLike]) -> bool:
    """Whether batches differ more than the scatter of their own samples lets their means (an F test)."""
    batches = [np.asarray(batch, dtype=float) for batch in samples]
    sizes = np.array([batch.size for batch in batches], dtype=float)
    between_freedom, within_freedom = sizes.size - 1, int(sizes.sum()) - sizes.size
    if within_freedom < 1:
        return False
    means = np.array([batch.mean() for batch in batches])
    between = float(sizes @ (means - sizes @ means / sizes.sum()) ** 2) / between_freedom
    within = sum(float(batch.var()) * batch.size for batch in batches) / within_freedom
    if within == 0.0:
        return between > 0.0
    return float(fdtrc(between_freedom, within_freedom, between / within)) < _DWELLING_CHANCE / 2


def oscillation(at_s: ArrayLike, values: ArrayLike) -> float | None:
    """Seconds of the period of a plain oscillation in a series; None where there is none.

    `at_s` are the middles of equal batches in seconds, on any clock. The strongest wave of the periodogram of
    what a straight line leaves is plain where it fits at least twice into the window, takes more than
    two of at least 16 values, and has less than one chance in 10,000 (by Bonferroni's bound over n ÷ 2
    frequencies)

    - among independent values: (1 − share of the variance it explains)^((n − 4) ÷ 2) (Fisher, Proc. R. Soc.
      A 125, 1929, p. 54); and
    - among values that hang together, whose spectrum is smooth but high: 2^−(its power ÷ the median power of
      waves up to half and twice as often), for each is exponentially distributed about the spectrum.
    """
    return _course(np.asarray(at_s, dtype=float), np.asarray(values, dtype=float)).period_s


@dataclass(frozen=True)
class _Course:
    """What time explains of a series, and what it leaves."""

    change: float  # of the line, over the window
    period_s: float | None  # of a wave
    parameters: int  # that were fitted: level and line; size, phase and frequency of a wave
    residual: _Array


@dataclass(frozen=True)
class _Noise:
    """The standard error of a series' mean, and its degrees of freedom."""

    error: float
    freedom: int


def _noise(at: _Array, series: _Array) -> _Noise:
    """The noise of a series beside its course."""
    return _error_of_mean(_course(*_grouped(at, series)))


def _grouped(at: _Array, series: _Array) -> tuple[_Array, _Array]:
    """Means over equal groups of neighbours, so that few remain; a last one that isn't full is left out."""
    size = math.ceil(series.size / _MOST_GROUPS)
    if size == 1:
        return at, series
    whole = series.size // size * size
    return at[:whole].reshape(-1, size).mean(axis=1), series[:whole].reshape(-1, size).mean(axis=1)


def _course(at: _Array, series: _Array) -> _Course:
    deviation = series - series.mean()
    if series.size < FEWEST_BATCHES:  # a line would leave too few degrees of freedom
        return _Course(0.0, None, 1, deviation)
    along = _along(at)
    change = float(along @ deviation) / float(along @ along)
    residual = deviation - change * along
    cycles = _cycles(along, residual)
    if cycles is None:
        return _Course(change, None, 2, residual)
    phase = 2 * np.pi * cycles * along
    cosine, sine = np.cos(phase), np.sin(phase)
    # The frequency is known to a tenth of a cycle; the last column is what a little more of it adds.
    turned = 2 / series.size * along * (float(sine @ residual) * cosine - float(cosine @ residual) * sine)
    fit = np.column_stack([np.ones_like(along), along, cosine, sine, turned])
    fitted = np.linalg.lstsq(fit, deviation)[0]
    period_s = float(at[1] - at[0]) / float(along[1] - along[0]) / (cycles + float(fitted[4]) / (2 * np.pi))
    return _Course(float(fitted[1]), period_s, 5, deviation - fit @ fitted)


def _along(at: _Array) -> _Array:
    """Time as a fraction of the window, 0 on average; the window reaches half a step past its ends."""
    if at[-1] == at[0]:  # a clock too coarse to tell the batches apart
        at = np.arange(at.size, dtype=float)
    span = (at[-1] - at[0]) * at.size / (at.size - 1)
    return np.asarray((at - at.mean()) / span)


def _cycles(along: _Array, residual: _Array) -> float | None:
    """How often the strongest wave fits into the window; None where it isn't plain (see `oscillation`)."""
    n, power = residual.size, float(residual @ residual)
    if n < _FEWEST_FOR_OSCILLATION or power == 0.0:
        return None
    coarse = np.arange(2, n) / 2
    spectrum = _explained(coarse, along, residual)
    fine = coarse[np.argmax(spectrum)] + np.arange(-4, 5) / 10
    explained = _explained(fine, along, residual)
    cycles, strongest = float(fine[np.argmax(explained)]), min(float(explained.max()), power)
    if cycles < FEWEST_PERIODS or n / 2 * (1 - strongest / power) ** ((n - 4) / 2) > _OSCILLATION_CHANCE:
        return None
    beside = (coarse >= cycles / 2) & (coarse <= 2 * cycles) & (np.abs(coarse - cycles) > _WIDTH_CYCLES)
    usual = max(float(np.median(spectrum[beside])), 1e-9 * power)
    return cycles if n / 2 * 0.5 ** (strongest / usual) < _OSCILLATION_CHANCE else None


def _explained(cycles: _Array, along: _Array, residual: _Array) -> _Array:
    """The sum of squares that a wave of each frequency explains (the periodogram)."""
    # No `@` on what is large: the threads of BLAS would spin beside the launches that are being measured.
    wave = np.einsum("ij,j->i", np.exp(2j * np.pi * np.multiply.outer(cycles, along)), residual)
    return np.asarray(2 / residual.size * (wave.real**2 + wave.imag**2))


def _error_of_mean(course: _Course) -> _Noise:
    """The standard error of the mean of a series, from what its course leaves.

    n values with lag-1 autocorrelation r are worth n' = n·(1 − r)/(1 + r) of an AR(1) process (Bayley and
    Hammersley, J. R. Stat. Soc. Suppl. 8, 1946, p. 184), so the variance of their mean is Σresidual²/n ÷
    (n' − parameters): the textbook's where r = 0. Beside a level and a line r comes out smaller by some
    (2 + 4r)/n (Kendall, Biometrika 41, 1954, p. 403, for a level; the line's part by simulation), which is
    given back; an r within its own error of 1/√n counts as 0. With some 20 values an r near 1 can't be told
    from a course.
    """
    residual, n = course.residual, course.residual.size
    freedom = n - course.parameters
    power = float(residual @ residual)
    if power == 0.0:
        return _Noise(0.0, freedom)
    worth = float(n)
    r = float(residual[1:] @ residual[:-1]) / power
    if n >= FEWEST_BATCHES and r + 2 / n > 1 / math.sqrt(n):
        r = min((n * r + 2) / (n - 4), _LARGEST_AUTOCORRELATION)
        worth = max(n * (1 - r) / (1 + r), course.parameters + 1.0)
    return _Noise(math.sqrt(power / n / (worth - course.parameters)), freedom)
