"""The parts that healthy and leaking services are put together from.

A count is never drawn as a curve: visitors arrive by a Poisson process, stay for a while and go, and a sample counts who
is there. Leaked units arrive likewise and never go.
"""

import math
from dataclasses import dataclass

import numpy as np

HOUR = 3600.0
DAY = 86400.0
# More events than this tell a sample nothing new; visitors then stay longer instead.
EVENTS_MAX = 300_000
INTERVALS_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300]


@dataclass
class Series:
    """One simulated series and the truth about it. `onset` and `leaked` stay empty where nothing leaks."""

    times: np.ndarray
    values: np.ndarray
    interval: float
    kind: str = "count"
    onset: float | None = None
    leaked: float = 0.0

    @property
    def rate_per_hour(self):
        """Mean leaked units an hour from the onset to the end."""
        return 0.0 if self.onset is None else self.leaked / ((self.times[-1] - self.onset) / HOUR)


class Clock:
    """When a series is sampled: from `start` on, `samples` times, `interval` seconds apart."""

    def __init__(self, rng, days=None, samples=None):
        """`days`, a range, asks for a span of days; otherwise the interval and the number of samples are drawn."""
        if days:
            span = rng.uniform(*days) * DAY
            fitting = [i for i in INTERVALS_SECONDS if 250 <= span / i <= 3000]
            self.interval = float(rng.choice(fitting))
            self.samples = int(span / self.interval)
        else:
            self.interval = float(rng.choice(INTERVALS_SECONDS))
            self.samples = samples or number_of_samples(rng)
        self.start = 1_767_225_600.0 + round(rng.uniform(0, 300 * DAY))
        self.times = self.start + self.interval * np.arange(self.samples)
        self.span = self.times[-1] - self.times[0]
        self.end = self.times[-1]

    def at(self, share):
        """The moment at this share of the span."""
        return self.start + share * self.span

    def shares(self):
        """Each sample's share of the span, 0 to 1."""
        return (self.times - self.start) / self.span


def number_of_samples(rng):
    """Mostly 300 to 1,500; some watches are shorter or longer."""
    low, high = [(120, 300), (300, 1500), (1500, 3000)][rng.choice(3, p=[0.12, 0.73, 0.15])]
    return int(math.exp(rng.uniform(math.log(low), math.log(high))))


def log_uniform(rng, low, high):
    """A number whose logarithm is uniform."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def events(rng, start, end, rate, rate_max):
    """Times of a Poisson process whose rate a second is `rate(times)`, at most `rate_max`, by thinning."""
    number = rng.poisson(rate_max * (end - start))
    times = np.sort(rng.uniform(start, end, number))
    return times[rng.uniform(0, rate_max, number) < rate(times)]


def present(times, arrivals, departures):
    """How many are there at each of `times`."""
    came = np.searchsorted(np.sort(arrivals), times, side="right")
    return (came - np.searchsorted(np.sort(departures), times, side="right")).astype(float)


def total(times, arrivals, weights=None):
    """How many, or how much by weight, has come by each of `times`."""
    order = np.argsort(arrivals)
    sums = np.concatenate([[0.0], np.cumsum(np.ones(len(arrivals)) if weights is None else np.asarray(weights)[order])])
    return sums[np.searchsorted(np.asarray(arrivals)[order], times, side="right")]


def steady(_times):
    """A load that does not change."""
    return 1.0


def daily(rng, depth=None):
    """A load that swings by the hour of the day, 1 at most; `depth` of it is lost at night."""
    depth = rng.uniform(0.3, 0.9) if depth is None else depth
    noon, sharpness = rng.uniform(0, DAY), rng.uniform(0.6, 2.0)
    return lambda t: 1 - depth + depth * ((1 + np.cos(2 * np.pi * (np.asarray(t) - noon) / DAY)) / 2) ** sharpness


def business_week(rng):
    """Office hours with a lunch dip, quiet nights, quieter week-ends."""
    zone, night, week_end = rng.integers(-10, 11) * HOUR, rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.4)
    opens, closes = rng.uniform(7, 9.5), rng.uniform(16.5, 20)

    def load(t):
        local = np.asarray(t) + zone
        hour = local % DAY / HOUR
        # 1970 began on a Thursday.
        off = ((local // DAY).astype(int) + 3) % 7 >= 5
        edge = 1 / (1 + np.exp(-4 * (hour - opens))) - 1 / (1 + np.exp(-3 * (hour - closes)))
        lunch = 0.25 * np.exp(-((hour - 12.5) ** 2) / 0.5)
        busy = edge * (1 - lunch)
        return night + (1 - night) * busy * np.where(off, week_end, 1.0)

    return load


def wandering(rng, clock, width, slowness=0.05):
    """A load that wanders about 1 and comes back, `width` its standard deviation in the logarithm."""
    steps = 400
    grid = np.linspace(clock.start - clock.span, clock.end, 2 * steps)
    keep = math.exp(-1 / (slowness * steps))
    level, path = rng.normal(), []
    for kick in rng.normal(size=len(grid)):
        path.append(level)
        level = keep * level + math.sqrt(1 - keep * keep) * kick
    path = np.exp(width * np.array(path))
    return lambda t: np.interp(t, grid, path)


def visitors(rng, clock, level, load=steady, stay=None, spread=1.0):
    """How many are served at each sample, `level` of them at full load; each stays log-normally, `stay` seconds in the mean."""
    stay = stay or clock.interval * log_uniform(rng, 0.3, 12)
    stay = max(stay, level * clock.span / EVENTS_MAX)
    before = clock.start - 10 * stay
    peak = 1.05 * float(np.max(load(np.linspace(before, clock.end, 3000))))
    came = events(rng, before, clock.end, lambda t: level / stay * load(t), level / stay * peak)
    went = came + stay * rng.lognormal(-spread * spread / 2, spread, len(came))
    return present(clock.times, came, went)


def ordinary(rng, clock):
    """What most services look like in between: a level and visitors, steady or wandering."""
    level = log_uniform(rng, 8, 200)
    load = steady if rng.random() < 0.5 else wandering(rng, clock, rng.uniform(0.05, 0.2), rng.uniform(0.01, 0.06))
    return round(level * rng.uniform(0, 2)) + visitors(rng, clock, level, load)


def noise_of(values):
    """The standard deviation about a running median: what is noise, not load."""
    window = max(3, len(values) // 20)
    pieces = [values[i : i + window] for i in range(0, len(values) - window + 1, window)]
    return float(np.sqrt(np.mean([np.var(piece) for piece in pieces]))) if pieces else 0.0


def leaks(rng, onset, end, number, load=steady):
    """The times of exactly `number` leaked units between the onset and the end, spread as the load is."""
    grid = np.linspace(onset, end, 4000)
    weight = np.cumsum(np.broadcast_to(np.maximum(load(grid), 0), grid.shape))
    return np.sort(np.interp(rng.uniform(0, weight[-1], number), weight, grid))


def thinned(rng, series):
    """The series as a watcher in trouble sees it: late ticks, lost samples, and hours that are missing."""
    times, values = series.times, series.values
    keep = rng.random(len(times)) > rng.uniform(0.02, 0.35)
    for _ in range(rng.integers(1, 4)):
        width = rng.uniform(0.03, 0.15)
        share = np.linspace(0, 1, len(times))
        begin = rng.uniform(0.05, 0.95 - width)
        keep &= ~((share > begin) & (share < begin + width))
    keep[0] = keep[-1] = True
    late = rng.exponential(0.25, len(times)).clip(0, 0.8) * series.interval
    late[0] = late[-1] = 0
    series.times, series.values = (times + late)[keep], values[keep]
    return series
