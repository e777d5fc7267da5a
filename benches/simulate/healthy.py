"""Services that leak nothing, however much their series may look like it.

Classes named `n_` have shown so by the end of the series. Those named `u_` have not: a ramp that has not ended cannot be
told from a leak by the number alone, so they are scored apart.
"""

import math

import numpy as np

from .service import (DAY, HOUR, Clock, Series, business_week, daily, events, log_uniform, ordinary, present, thinned, total,
                      visitors, wandering)

MIB = 1 << 20
PAGE = 4096


def n_weekend(rng):
    """Office hours over a working week, with or without a week-end in it."""
    clock = Clock(rng, days=(2.5, 7))
    values = rng.integers(0, 30) + visitors(rng, clock, log_uniform(rng, 15, 400), business_week(rng))
    return Series(clock.times, values, clock.interval)


def n_halfdays(rng):
    """Daily load over one and a half to five days."""
    clock = Clock(rng, days=(1.6, 5))
    values = rng.integers(0, 30) + visitors(rng, clock, log_uniform(rng, 10, 300), daily(rng))
    return Series(clock.times, values, clock.interval)


def n_autoscale(rng):
    """Each instance holds a pool; instances come and go with the load, late and with hysteresis."""
    clock = Clock(rng)
    per_instance, load = int(rng.integers(4, 25)), wandering(rng, clock, rng.uniform(0.25, 0.6), rng.uniform(0.02, 0.08))
    demand, cooldown = load(clock.times) * rng.uniform(2, 6), int(rng.integers(4, 30))
    instances, waited, values = math.ceil(demand[0]), 0, []
    for want in demand:
        waited += 1
        if want > 0.85 * instances and waited > 2:
            instances, waited = instances + 1, 0
        elif want < 0.55 * instances and waited > cooldown and instances > 1:
            instances, waited = instances - 1, 0
        values.append(instances * per_instance)
    return Series(clock.times, np.array(values) + visitors(rng, clock, per_instance / 2), clock.interval)


def unseen_keys(rng, clock, requests_per_key):
    """A cache of every key ever asked for, keys as popular as Zipf has it, until the catalogue is in."""
    keys = int(log_uniform(rng, 200, 5000))
    weight = 1 / np.arange(1, keys + 1) ** rng.uniform(0.4, 0.9)
    rate = weight / weight.min() * requests_per_key / clock.span
    first = clock.start + rng.exponential(1 / rate)
    return keys, total(clock.times, first)


def n_keycache(rng):
    """A catalogue that has been asked for as a whole: log-like growth that has ended."""
    clock = Clock(rng)
    keys, held = unseen_keys(rng, clock, rng.uniform(6, 15))
    return sized(rng, clock, held, keys)


def n_capcache(rng):
    """A cache that grows as a power of time, as the square root or straight, up to its limit, and then evicts."""
    clock = Clock(rng)
    full, power = rng.uniform(0.05, 0.65), rng.choice([0.5, 0.7, 1.0])
    entries = log_uniform(rng, 300, 20_000)
    held = entries * np.minimum(1, (clock.shares() / full) ** power)
    return sized(rng, clock, np.floor(held), entries)


def n_ttlcache(rng):
    """Entries that live for a fixed time: a straight ramp for that long, and level ever after."""
    clock = Clock(rng)
    ttl, entries = clock.span * rng.uniform(0.05, 0.5), log_uniform(rng, 100, 3000)
    born = events(rng, clock.start, clock.end, lambda t: entries / ttl * np.ones_like(t), entries / ttl)
    return Series(clock.times, rng.integers(0, 50) + present(clock.times, born, born + ttl), clock.interval)


def n_tworamps(rng):
    """A cache that warms up, and a second that begins when a feature is first used."""
    clock = Clock(rng)
    u = clock.shares()
    first, begin, second = rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.5), rng.uniform(0.02, 0.07)
    entries = log_uniform(rng, 300, 10_000)
    held = entries * (1 - np.exp(-u / first)) + entries * rng.uniform(0.2, 0.9) * (1 - np.exp(-np.maximum(0, u - begin) / second))
    return sized(rng, clock, held, entries)


def sized(rng, clock, held, entries):
    """Entries of a cache as a count, or as the bytes that they take beside everything else."""
    if rng.random() < 0.4:
        return Series(clock.times, np.round(held + rng.integers(0, 40) + visitors(rng, clock, entries * 0.02 + 3)), clock.interval)
    each = log_uniform(rng, 1000, 50_000)
    noise = rng.normal(0, each * entries * rng.uniform(0.001, 0.015), clock.samples)
    values = 40 * MIB + each * held + noise
    return Series(clock.times, np.round(values / PAGE) * PAGE, clock.interval, "bytes")


def n_walk(rng):
    """A level that wanders in a band: each sample keeps most of the one before."""
    clock = Clock(rng)
    keep, level = rng.choice([0.95, 0.97, 0.985]), log_uniform(rng, 20, 500)
    width = level * rng.uniform(0.05, 0.25)
    value, path = rng.normal(), []
    for kick in rng.normal(size=clock.samples):
        path.append(value)
        value = keep * value + math.sqrt(1 - keep * keep) * kick
        # The band's walls push back.
        value = math.copysign(5.0 - abs(value), value) if abs(value) > 2.5 else value
    return Series(clock.times, np.round(np.maximum(0, level + width * np.array(path))), clock.interval)


def n_pareto(rng):
    """Bursts of every size: batches arrive at random, and a few of them are huge."""
    clock = Clock(rng)
    batches = np.sort(rng.uniform(clock.start - clock.span / 4, clock.end, rng.integers(15, 90)))
    sizes = np.minimum(500, np.ceil(rng.pareto(rng.uniform(1.1, 1.8), len(batches)) * 4)).astype(int)
    came = np.repeat(batches, sizes)
    went = came + np.repeat(rng.exponential(clock.span * rng.uniform(0.005, 0.03), len(batches)), sizes) * rng.uniform(0.4, 1.6, len(came))
    return Series(clock.times, ordinary(rng, clock) + present(clock.times, came, went), clock.interval)


def n_nightly(rng):
    """A batch job every night on top of the day's load."""
    clock = Clock(rng, days=(2, 6))
    values = ordinary(rng, clock)
    hour, length, jobs = rng.uniform(0, DAY), rng.uniform(0.5, 3) * HOUR, log_uniform(rng, 10, 200)
    return Series(clock.times, values + batch_window(clock, hour, length) * np.round(jobs * rng.uniform(0.9, 1.1, clock.samples)), clock.interval)


def batch_window(clock, hour, length):
    """1 while the nightly batch runs, else 0."""
    return ((clock.times - hour) % DAY < length).astype(float)


def n_livesetsettles(rng):
    """A collector's teeth on a live set that grows with warm-up and then stays."""
    clock = Clock(rng)
    u, settles = clock.shares(), rng.uniform(0.15, 0.5)
    live = log_uniform(rng, 50, 2000) * MIB * (1 + rng.uniform(0.3, 1.5) * np.minimum(1, u / settles) ** rng.uniform(0.5, 1))
    return Series(clock.times, teeth(rng, clock, live, rng.integers(12, 80)), clock.interval, "bytes")


def teeth(rng, clock, live, number):
    """Garbage on top of the live set, collected whenever it has reached about its share of the live set."""
    share, spread = rng.uniform(0.2, 1.0), rng.uniform(0.02, 0.12)
    garbage, limit, values = rng.uniform(0, share), share, []
    step = share * number / clock.samples
    for alive, pace in zip(live, rng.gamma(4, 0.25, clock.samples)):
        garbage += step * pace
        if garbage > limit:
            garbage, limit = rng.uniform(0, 0.05) * share, share * rng.normal(1, spread)
        values.append(alive * (1 + garbage))
    return np.round(np.array(values) / PAGE) * PAGE


def n_lazypool(rng):
    """A pool that opens one more whenever all are busy, never closes any, and meets its maximum late."""
    clock = Clock(rng)
    maximum, late = int(rng.integers(8, 60)), rng.uniform(0.35, 0.75)
    # The k-th peak of demand is the rarer the higher it is.
    ladder = np.sort(rng.uniform(0, 1, maximum)) ** rng.uniform(0.8, 2.0)
    opened = clock.at(0) + ladder / ladder[-1] * late * clock.span
    return Series(clock.times, total(clock.times, opened) + rng.integers(0, 30), clock.interval)


def n_rolling(rng):
    """Deploys that replace instance by instance: both versions for a while, then a new level."""
    clock = Clock(rng)
    values, u = ordinary(rng, clock), clock.shares()
    base = np.median(values) + 5
    for begin in np.sort(rng.uniform(0.1, 0.75, rng.integers(1, 4))):
        length, instances = rng.uniform(0.02, 0.08), rng.integers(3, 9)
        surge = base / instances * ((u > begin) & (u < begin + length))
        done = np.floor(np.clip((u - begin) / length, 0, 1) * instances) / instances
        values = values + np.round(surge + done * base * rng.uniform(-0.3, 0.5))
    return Series(clock.times, np.maximum(values, 0), clock.interval)


def n_traffic(rng):
    """Traffic that steps up, or down, and stays there."""
    clock = Clock(rng)
    moment, ratio = clock.at(rng.uniform(0.15, 0.8)), rng.choice([rng.uniform(1.3, 3), rng.uniform(0.4, 0.8)], p=[0.8, 0.2])
    load = lambda t: np.where(np.asarray(t) < moment, 1.0, ratio)
    return Series(clock.times, rng.integers(0, 40) + visitors(rng, clock, log_uniform(rng, 10, 200), load), clock.interval)


def n_gappy(rng):
    """Ordinary or daily load as a watcher in trouble saw it."""
    return thinned(rng, rng.choice([n_walk, n_halfdays, n_traffic, n_ttlcache])(rng))


def n_lowcount(rng):
    """A handful at most: 0 to about 5."""
    clock = Clock(rng)
    return Series(clock.times, rng.integers(0, 2) + visitors(rng, clock, rng.uniform(0.2, 2.5)), clock.interval)


def n_runtime(rng):
    """Memory of a runtime at work: heap that is committed in early steps, arenas, a scavenger, and page noise."""
    clock = Clock(rng)
    u, top = clock.shares(), log_uniform(rng, 0.3, 6) * 1024 * MIB
    warm, style = rng.uniform(0.02, 0.2), rng.integers(3)
    if style == 0:
        # Committed in steps up to the maximum, touched for good.
        held = top * (0.4 + 0.6 * np.ceil(8 * np.minimum(1, u / warm)) / 8)
    elif style == 1:
        # Freed spans go back to the system a while after each peak.
        held = top * (0.5 + 0.4 * (1 - np.exp(-u / warm))) * (0.7 + 0.3 * wandering(rng, clock, 0.15, 0.02)(clock.times))
    else:
        # Arenas that are seldom empty: a plateau that moves by whole arenas.
        arenas = present(clock.times, *arena_lives(rng, clock))
        held = top * (0.6 + 0.3 * (1 - np.exp(-u / warm))) + arenas * MIB
    noise = rng.normal(0, top * rng.uniform(0.0005, 0.01), clock.samples)
    return Series(clock.times, np.round((held + noise) / PAGE) * PAGE, clock.interval, "bytes")


def arena_lives(rng, clock):
    """Arenas of a Python heap: born at random, freed after a while of the span."""
    born = rng.uniform(clock.start - clock.span / 2, clock.end, 300)
    return born, born + rng.exponential(clock.span * 0.05, 300)


def n_logdisk(rng):
    """A folder of logs: rotated by size and by day, the oldest deleted, so as full on average as it was before."""
    clock = Clock(rng, days=(2, 7)) if rng.random() < 0.5 else Clock(rng)
    return Series(clock.times, rotation(rng, clock), clock.interval, "bytes")


def rotation(rng, clock):
    """Bytes in a folder of logs whose rotated files are compressed, kept for a while and then deleted."""
    period = DAY if clock.span > 2 * DAY and rng.random() < 0.6 else clock.span / rng.uniform(4, 30)
    phase, file, kept = rng.uniform(0, period), log_uniform(rng, 5, 500) * MIB, int(rng.integers(2, 8))
    packed = rng.choice([0.08, 0.12, 1.0])
    age = (clock.times - clock.start + phase) / period
    sizes = file * rng.lognormal(0, 0.1, int(age[-1]) + kept + 2)
    number = age.astype(int)
    old = np.array([packed * sizes[n : n + kept].sum() for n in number])
    return np.round(old + sizes[number + kept] * (age % 1) + rng.exponential(20_000, clock.samples))


def n_scheduled(rng):
    """Restarted every so often, with a warm-up each time."""
    clock = Clock(rng)
    life = clock.span / rng.uniform(1.5, 7)
    u = ((clock.times - clock.start + rng.uniform(0, life)) % life) / life
    level, warm = log_uniform(rng, 15, 300), rng.uniform(0.02, 0.12)
    values = level * (1 - np.exp(-u / warm)) + visitors(rng, clock, level * rng.uniform(0.05, 0.5))
    return Series(clock.times, np.round(values), clock.interval)


def n_falling(rng):
    """A service that is drained: by hand, or because its users leave."""
    clock = Clock(rng)
    share = lambda t: np.clip((np.asarray(t) - clock.start) / clock.span, 0, 1)
    shapes = [lambda t: 1 - 0.9 * share(t), lambda t: np.exp(-3 * share(t)), lambda t: 1 - 0.4 * share(t)]
    values = visitors(rng, clock, log_uniform(rng, 20, 400), shapes[rng.integers(len(shapes))])
    return Series(clock.times, values, clock.interval)


def n_outlier(rng):
    """One wild sample in an ordinary series, wherever it falls."""
    clock = Clock(rng)
    values = ordinary(rng, clock) if rng.random() < 0.6 else np.full(clock.samples, float(rng.integers(1, 90)))
    values[int(rng.choice([rng.integers(0, clock.samples), clock.samples - 1, 0], p=[0.8, 0.1, 0.1]))] *= log_uniform(rng, 3, 1000)
    return Series(clock.times, np.round(values), clock.interval)


def n_constant(rng):
    """The same number at every tick."""
    clock = Clock(rng)
    return Series(clock.times, np.full(clock.samples, float(rng.integers(0, 2000))), clock.interval)


def n_cron(rng):
    """A job every few minutes that opens some and closes them again."""
    clock = Clock(rng)
    period = clock.interval * log_uniform(rng, 8, clock.samples / 12)
    phase, share, jobs = rng.uniform(0, period), rng.uniform(0.1, 0.5), rng.integers(3, 40)
    on = (clock.times + phase) % period < share * period
    return Series(clock.times, ordinary(rng, clock) + on * jobs, clock.interval)


def u_ramp(rng):
    """A warm-up that has not ended when the series does."""
    clock = Clock(rng)
    entries = log_uniform(rng, 50, 5000)
    return sized(rng, clock, entries * (1 - np.exp(-clock.shares() / rng.uniform(0.4, 1.5))), entries)


def u_keycache(rng):
    """A catalogue of which new keys are still asked for."""
    clock = Clock(rng)
    keys, held = unseen_keys(rng, clock, rng.uniform(0.05, 0.6))
    return sized(rng, clock, held, keys)


def u_morning(rng):
    """The rising half of a day and no more."""
    clock = Clock(rng)
    load = lambda t: 0.2 + 0.8 * np.sin(np.pi / 2 * np.clip((np.asarray(t) - clock.start) / clock.span, 0, 1)) ** 2
    return Series(clock.times, rng.integers(0, 20) + visitors(rng, clock, log_uniform(rng, 20, 300), load), clock.interval)


def u_growth(rng):
    """Traffic that grows all the time: visitors come and go, ever more of them."""
    clock = Clock(rng)
    gain = rng.uniform(0.5, 2)
    load = lambda t: 1 + gain * np.clip((np.asarray(t) - clock.start) / clock.span, 0, 1)
    return Series(clock.times, visitors(rng, clock, log_uniform(rng, 20, 300), load), clock.interval)


CLASSES = [n_weekend, n_halfdays, n_autoscale, n_keycache, n_capcache, n_ttlcache, n_tworamps, n_walk, n_pareto, n_nightly,
           n_livesetsettles, n_lazypool, n_rolling, n_traffic, n_gappy, n_lowcount, n_runtime, n_logdisk, n_scheduled,
           n_falling, n_outlier, n_constant, n_cron, u_ramp, u_keycache, u_morning, u_growth]
