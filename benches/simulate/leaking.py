"""Services that leak, each in its own way and often well hidden. Classes are named `p_`.

The onset is when the code that leaks begins to run, not when its first unit is lost: what a person would look for.
"""

import numpy as np

from .healthy import MIB, PAGE, batch_window, rotation, teeth
from .service import (DAY, HOUR, Clock, Series, business_week, daily, leaks, log_uniform, noise_of, ordinary, steady, thinned,
                      total, visitors, wandering)


def leaking(rng, clock, values, onset, load=steady, low=10, number=None):
    """`values` with units that are lost from the onset on: as many as stand out of the noise, some just so."""
    noise = noise_of(values)
    number = number or int(log_uniform(rng, max(low, 3 * noise), max(4 * low, 20 * noise)))
    lost = leaks(rng, onset, clock.end, number, load)
    return Series(clock.times, values + total(clock.times, lost), clock.interval, onset=onset, leaked=number)


def p_weekload(rng):
    """Steadily, beneath the load of a working week."""
    clock = Clock(rng, days=(2.5, 7))
    level = log_uniform(rng, 15, 300)
    values = rng.integers(0, 30) + visitors(rng, clock, level, business_week(rng))
    return leaking(rng, clock, values, clock.at(rng.choice([0, rng.uniform(0, 0.4)])), number=int(level * log_uniform(rng, 0.3, 3)) + 10)


def p_proportional(rng):
    """One request in so many loses one, so the leak follows the load."""
    clock = Clock(rng, days=(2, 6))
    load, level = daily(rng), log_uniform(rng, 15, 200)
    values = rng.integers(0, 20) + visitors(rng, clock, level, load)
    return leaking(rng, clock, values, clock.at(rng.choice([0, rng.uniform(0, 0.4)])), load, number=int(level * log_uniform(rng, 0.4, 3)) + 10)


def p_late(rng):
    """Nothing for most of the time, then a leak."""
    clock = Clock(rng)
    return leaking(rng, clock, ordinary(rng, clock), clock.at(rng.uniform(0.4, 0.75)), low=12)


def p_accelerating(rng):
    """Ever faster: each lost unit makes the next more likely."""
    clock = Clock(rng)
    onset, power = clock.at(rng.uniform(0, 0.3)), rng.uniform(0.7, 2)
    return leaking(rng, clock, ordinary(rng, clock), onset, lambda t: (np.asarray(t) - onset) ** power, low=15)


def p_partialdrops(rng):
    """A reaper frees part of what is idle, now and then, but never what is lost."""
    clock = Clock(rng)
    idle, values, height = 0.0, [], log_uniform(rng, 10, 150)
    chance, pace = rng.uniform(6, 40) / clock.samples, height * rng.uniform(8, 30) / clock.samples
    for step, reaped in zip(rng.poisson(pace, clock.samples), rng.random(clock.samples) < chance):
        idle = idle * rng.uniform(0.05, 0.6) if reaped or idle > 2.5 * height else idle + step
        values.append(round(idle))
    values = np.array(values) + visitors(rng, clock, log_uniform(rng, 4, 30))
    return leaking(rng, clock, values, clock.at(rng.uniform(0, 0.3)), number=int(height * log_uniform(rng, 0.5, 3)) + 10)


def p_nightrestarts(rng):
    """Restarted every night, which frees all that was lost, and leaking again at once."""
    clock = Clock(rng, days=(1.5, 4.5))
    level, night = log_uniform(rng, 8, 200), rng.uniform(0, DAY)
    guests = visitors(rng, clock, level * rng.uniform(0.05, 0.4))
    a_day = log_uniform(rng, max(10, 4 * noise_of(guests)), max(40, 20 * noise_of(guests)))
    lost = leaks(rng, clock.start, clock.end, int(a_day * clock.span / DAY))
    day, warm, values = (clock.times - night) // DAY, rng.uniform(0.002, 0.015) * DAY, np.zeros(clock.samples)
    for number in np.unique(day):
        mine = day == number
        began = clock.start if number == day[0] else night + number * DAY
        ready = 1.0 if number == day[0] else 1 - np.exp(-(clock.times[mine] - began) / warm)
        values[mine] = np.round((level + guests[mine]) * ready) + total(clock.times[mine], lost[lost >= began])
    return Series(clock.times, values, clock.interval, onset=clock.start, leaked=len(lost))


def p_hourly(rng):
    """One an hour, in noise of five up or down."""
    clock = Clock(rng, days=(0.8, 7))
    level = rng.integers(10, 100)
    noise = rng.integers(-5, 6, clock.samples) if rng.random() < 0.5 else visitors(rng, clock, rng.uniform(5, 8)) - 5
    onset = clock.at(rng.choice([0, rng.uniform(0, 0.3)]))
    return leaking(rng, clock, level + noise, onset, number=max(8, int((clock.end - onset) / HOUR)))


def p_rare(rng):
    """8 to 30 in all, each for good."""
    clock = Clock(rng)
    quiet = rng.random() < 0.5
    values = np.full(clock.samples, float(rng.integers(2, 60))) if quiet else rng.integers(0, 20) + visitors(rng, clock, rng.uniform(0.5, 6))
    return leaking(rng, clock, values, clock.at(rng.uniform(0, 0.25)), number=int(rng.integers(8, 31)))


def p_nightlybatch(rng):
    """Only what the nightly batch opens is lost."""
    clock = Clock(rng, days=(3.5, 7))
    hour, length, jobs = rng.uniform(0, DAY), rng.uniform(0.5, 3) * HOUR, log_uniform(rng, 10, 100)
    batch = lambda t: (np.asarray(t) - hour) % DAY < length
    values = ordinary(rng, clock) + batch_window(clock, hour, length) * np.round(jobs)
    first = clock.start + (hour - clock.start) % DAY
    nights = int((clock.end - first) // DAY) + 1
    noise = noise_of(ordinary(rng, clock))
    return leaking(rng, clock, values, first, batch, number=nights * int(log_uniform(rng, max(4, 2 * noise), max(15, 8 * noise))))


def p_deploystep(rng):
    """A deploy that moves the level and brings the leak."""
    clock = Clock(rng)
    onset, values = clock.at(rng.uniform(0.15, 0.6)), ordinary(rng, clock)
    step = np.round(np.median(values) * rng.choice([rng.uniform(0.2, 0.8), -rng.uniform(0.1, 0.4)]))
    return leaking(rng, clock, values + step * (clock.times >= onset), onset, low=15)


def p_longwarm(rng):
    """Under a long warm-up, from the start."""
    clock = Clock(rng)
    ramp = log_uniform(rng, 20, 400)
    values = np.round(ramp * (1 - np.exp(-clock.shares() / rng.uniform(0.08, 0.2)))) + visitors(rng, clock, ramp * rng.uniform(0.03, 0.3))
    return leaking(rng, clock, values, clock.start, number=int(ramp * log_uniform(rng, 0.4, 2)) + 10)


def bytes_leak(rng, clock, values, onset, amount, pieces):
    """`values` in bytes with `amount` lost in `pieces` from the onset on."""
    lost = leaks(rng, onset, clock.end, pieces)
    weights = rng.gamma(2, 1, pieces)
    grown = total(clock.times, lost, weights / weights.sum() * amount)
    return Series(clock.times, np.round(values + grown), clock.interval, "bytes", onset, amount)


def p_disk(rng):
    """A folder that keeps what it should delete, beneath the teeth of rotation."""
    clock = Clock(rng, days=(2, 7)) if rng.random() < 0.5 else Clock(rng)
    values = rotation(rng, clock)
    height = float(np.ptp(values))
    return bytes_leak(rng, clock, values, clock.at(rng.choice([0, rng.uniform(0, 0.4)])), height * log_uniform(rng, 0.4, 3), int(rng.integers(30, 400)))


def p_runtime(rng):
    """Objects that stay reachable: the collector's teeth stand on a live set that grows."""
    clock = Clock(rng)
    onset, live = clock.at(rng.choice([0, rng.uniform(0, 0.4)])), log_uniform(rng, 50, 3000) * MIB
    amount = live * log_uniform(rng, 0.15, 1.2)
    lost = leaks(rng, onset, clock.end, int(rng.integers(100, 3000)))
    grown = total(clock.times, lost) / len(lost) * amount
    values = teeth(rng, clock, live + grown, rng.integers(15, 90))
    return Series(clock.times, values, clock.interval, "bytes", onset, amount)


def p_rss(rng):
    """Memory with a warm-up, page noise and a leak of small pieces."""
    clock = Clock(rng)
    top = log_uniform(rng, 0.05, 4) * 1024 * MIB
    values = top * (1 - rng.uniform(0.2, 0.5) * np.exp(-clock.shares() / rng.uniform(0.01, 0.06)))
    values = values + rng.normal(0, top * rng.uniform(0.001, 0.01), clock.samples)
    series = bytes_leak(rng, clock, values, clock.start, top * log_uniform(rng, 0.06, 0.6), int(rng.integers(200, 3000)))
    series.values = np.round(series.values / PAGE) * PAGE
    return series


def p_gappy(rng):
    """A leak as a watcher in trouble saw it."""
    return thinned(rng, rng.choice([p_late, p_proportional, p_accelerating, p_deploystep])(rng))


def p_lowcount(rng):
    """A handful of visitors, and a few more that never go."""
    clock = Clock(rng)
    return leaking(rng, clock, visitors(rng, clock, rng.uniform(0.3, 2.5)), clock.at(rng.uniform(0, 0.5)), number=int(rng.integers(10, 40)))


def p_wandering(rng):
    """Beneath a load that wanders by as much as half of what is lost."""
    clock = Clock(rng)
    level = log_uniform(rng, 20, 200)
    values = visitors(rng, clock, level, wandering(rng, clock, rng.uniform(0.1, 0.3), rng.uniform(0.01, 0.05)))
    return leaking(rng, clock, values, clock.at(rng.uniform(0, 0.3)), number=int(level * rng.uniform(1, 3)) + 10)


CLASSES = [p_weekload, p_proportional, p_late, p_accelerating, p_partialdrops, p_nightrestarts, p_hourly, p_rare, p_nightlybatch,
           p_deploystep, p_longwarm, p_disk, p_runtime, p_rss, p_gappy, p_lowcount, p_wandering]
