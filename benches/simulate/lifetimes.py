"""Lifetimes of connections: services that talk to a few endpoints, each in a way of its own, and maybe leak some.

A watcher that comes late sees what is already open at its first tick, so `opened` of those is the start of the watch.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np

from .service import DAY, HOUR, daily, events, log_uniform, steady

MINUTE = 60.0
# What one endpoint may cost to simulate and to judge.
REQUESTS_MAX = 40_000
CONNECTIONS_MAX = 3000


@dataclass
class Connection:
    """A connection's truth. `leaked` is when its owner forgot it, `leak_kind` whether it still talks."""

    remote: str
    opened: float
    closed: float | None
    last_activity: float
    bytes_sent: int
    leaked: float | None = None
    leak_kind: str = ""


class Watch:
    """From when to when one case is watched, and how its endpoints are loaded."""

    def __init__(self, rng):
        self.start = 1_767_225_600.0 + round(rng.uniform(0, 300 * DAY), 1)
        self.length = log_uniform(rng, 10 * MINUTE, 8 * HOUR)
        self.end = self.start + self.length
        # A process that was started under watch has nothing older.
        self.attached_late = rng.random() < 0.5
        self.before = self.start - (max(2 * HOUR, self.length) if self.attached_late else 0)
        swing = daily(rng, rng.uniform(0.2, 0.8))
        self.load = steady if rng.random() < 0.5 else lambda t: swing(self.start + (np.asarray(t) - self.start) * 4)

    def arrivals(self, rng, per_second, begin=None):
        """When requests come, `per_second` at full load, from before the watch to its end."""
        begin = self.before if begin is None else begin
        per_second = min(per_second, REQUESTS_MAX / (self.end - begin))
        return events(rng, begin, self.end, lambda t: per_second * np.broadcast_to(self.load(t), np.shape(t)), per_second)

    def seen(self, remote, opened, closed, last, sent, leaked=None, leak_kind=""):
        """The connection as the watch sees it; None if it was gone before."""
        if closed is not None and closed <= self.start or opened >= self.end:
            return None
        if closed is not None and closed >= self.end:
            closed = None
        # Nothing is known to have been said after the end.
        return Connection(remote, max(opened, self.start), closed, min(last, self.end), int(sent), leaked, leak_kind)


def heartbeat_before(rng, end, opened, every):
    """When a connection that says something every so often last did."""
    return max(opened, end - rng.uniform(0, every))


def request_per_connection(rng, watch):
    """Opened for one request and closed after it."""
    median, spread = log_uniform(rng, 0.05, 30), rng.uniform(0.5, 1.6)
    for opened in watch.arrivals(rng, capped(rng, watch, 0.3)):
        busy = median * rng.lognormal(0, spread)
        yield opened, opened + busy, opened + busy * rng.uniform(0.9, 1), log_uniform(rng, 200, 50_000)


def capped(rng, watch, share):
    """Requests a second that leave the endpoint with a number of connections that a case can hold."""
    return log_uniform(rng, 30, CONNECTIONS_MAX * share * 3) / watch.length


def keepalive_pool(rng, watch):
    """A pool that takes the connection used last, and closes what has idled for 10 s to 10 min."""
    idle = log_uniform(rng, 10, 10 * MINUTE)
    yield from pool(rng, watch, minimum=0, idle=idle, max_lifetime=math.inf,
                    per_second=log_uniform(rng, 0.3, 6) / min(idle, 20))


def lifetime_pool(rng, watch):
    """A pool that keeps a minimum, closes idle ones above it, and retires each at its maximum lifetime."""
    idle, longest = log_uniform(rng, 10, 10 * MINUTE), log_uniform(rng, 5 * MINUTE, HOUR)
    yield from pool(rng, watch, int(rng.integers(2, 20)), idle, longest, log_uniform(rng, 0.05, 3))


def pool(rng, watch, minimum, idle, max_lifetime, per_second):
    """Event by event: free ones wait on a stack, so those at its bottom are seldom used."""
    work, spread, sizes = log_uniform(rng, 0.02, 20), rng.uniform(0.5, 1.3), log_uniform(rng, 200, 5000)
    free, busy, retired = [], [], []

    def fresh(now):
        # opened, last used, sent, when to retire; Hikari varies the maximum lifetime likewise
        return [now, now, 0.0, now + max_lifetime * rng.uniform(0.95, 1)]

    free = [fresh(watch.before + rng.uniform(0, 2)) for _ in range(minimum)]
    for serial, now in enumerate(watch.arrivals(rng, per_second)):
        while busy and busy[0][0] <= now:
            done, _, connection = heapq.heappop(busy)
            connection[1] = done
            free.append(connection)
        retire(free, retired, fresh, now, minimum - len(busy), idle, minimum)
        connection = free.pop() if free else fresh(now)
        connection[2] += sizes
        heapq.heappush(busy, (now + work * rng.lognormal(0, spread), serial, connection))
    while busy and busy[0][0] <= watch.end:
        done, _, connection = heapq.heappop(busy)
        connection[1] = done
        free.append(connection)
    retire(free, retired, fresh, watch.end, minimum - len(busy), idle, minimum)
    for connection, closed in retired:
        yield connection[0], closed, connection[1], connection[2]
    for connection in free:
        yield connection[0], None, connection[1], connection[2]
    for _, _, connection in busy:
        yield connection[0], None, watch.end - rng.uniform(0, 2), connection[2]


def retire(free, retired, fresh, now, keep, idle, minimum):
    """Closes what is too old or has idled too long, the longest idle first, and fills up to the minimum."""
    free.sort(key=lambda connection: connection[1])
    for connection in list(free):
        too_old = connection[3] <= now
        too_idle = connection[1] + idle <= now and len(free) > keep
        if too_old or too_idle:
            free.remove(connection)
            moment = min(connection[3] if too_old else math.inf, connection[1] + idle if too_idle else math.inf)
            moment = max(moment, connection[1])
            retired.append((connection, moment))
            if minimum and len(free) < keep:
                free.insert(0, fresh(moment))


def permanent_links(rng, watch):
    """A few that are meant to stay: some are silent, most say something now and then; one may be made anew."""
    silent, every = rng.random() < 0.3, log_uniform(rng, 5, 2 * MINUTE)
    for _ in range(rng.integers(1, 13)):
        opened = watch.before + rng.exponential(2)
        if rng.random() < 0.05:
            closed = rng.uniform(opened, watch.end)
            yield opened, closed, closed, 1e5
            opened = closed + 1
        yield opened, None, opened + 1 if silent else heartbeat_before(rng, watch.end, opened, every), 1e5


def subscribers(rng, watch):
    """Sessions of minutes to hours that stay for as long as somebody looks, each with a heartbeat."""
    median, every = log_uniform(rng, 5 * MINUTE, 2 * HOUR), rng.choice([10.0, 15.0, 25.0, 30.0, 60.0])
    for opened in watch.arrivals(rng, log_uniform(rng, 3, 60) / median):
        closed = opened + median * rng.lognormal(0, 1)
        yield opened, closed, heartbeat_before(rng, min(closed, watch.end), opened, every), (closed - opened) * 4


def long_polls(rng, watch):
    """Silent until the answer or the timeout."""
    timeout = rng.choice([25.0, 30.0, 60.0, 90.0])
    clients = int(rng.integers(1, 15))
    for _ in range(clients):
        now = watch.before + rng.uniform(0, timeout)
        while now < watch.end:
            length = min(timeout, rng.exponential(2 * timeout))
            yield now, now + length, now + length if now + length < watch.end else now, 400
            now += length + rng.exponential(1)


def batch_jobs(rng, watch):
    """Every few minutes or every hour a job opens some, works for minutes, and closes all of them."""
    period, length, width = log_uniform(rng, 3 * MINUTE, HOUR), log_uniform(rng, 20, 10 * MINUTE), int(rng.integers(2, 25))
    begin = watch.before + rng.uniform(0, period)
    while begin < watch.end:
        done = begin + min(0.8 * period, length * rng.lognormal(0, 0.3))
        for _ in range(width):
            opened, closed = begin + rng.exponential(1), done + rng.exponential(1)
            yield opened, closed, closed - rng.uniform(0, 0.2) * (closed - opened), log_uniform(rng, 1e3, 1e6)
        begin += period


def admin_sessions(rng, watch):
    """Somebody logs in now and then, and is idle for most of the time."""
    for opened in watch.arrivals(rng, rng.integers(1, 7) / watch.length):
        closed = opened + 8 * MINUTE * rng.lognormal(0, 1.2)
        last = opened + (min(closed, watch.end) - opened) * rng.beta(3, 1)
        yield opened, closed, closed if closed < watch.end else last, 3000


def never_closes(rng, watch):
    """One for each tenant, opened when it first comes and used ever after."""
    tenants = int(rng.integers(5, 60))
    pace = log_uniform(rng, 0.3, 30) / np.arange(1, tenants + 1) ** rng.uniform(0, 1) / watch.length * 10
    for opened, use in zip(watch.before + rng.exponential(1 / pace), pace):
        yield opened, None, heartbeat_before(rng, watch.end, opened, rng.exponential(1 / use)), 1e4


HEALTHY = [request_per_connection, keepalive_pool, lifetime_pool, permanent_links, subscribers, long_polls, batch_jobs,
           admin_sessions, never_closes]
# Where connections are taken and given back one at a time, one can be forgotten.
CAN_LEAK = [request_per_connection, keepalive_pool, lifetime_pool, batch_jobs, subscribers]


def leaked(rng, watch, remote, ordinary):
    """Some connections of an endpoint that were used as others are, and then forgotten."""
    onset = rng.choice([watch.start, watch.start + rng.uniform(0, 0.6) * watch.length])
    number = int(rng.integers(1, 4)) if rng.random() < 0.35 else int(log_uniform(rng, 4, 80))
    chatty, every = rng.random() < 0.4, log_uniform(rng, 5, 60)
    uses = [closed - opened for opened, closed, _, _ in ordinary if closed is not None] or [1.0]
    for moment in np.sort(rng.uniform(onset, watch.end, number)):
        used = 0.0 if rng.random() < 0.4 else float(rng.choice(uses)) * rng.random()
        opened = max(watch.start, moment - used)
        last = heartbeat_before(rng, watch.end, moment, every) if chatty else moment
        sent = log_uniform(rng, 300, 20_000) + (max(0, last - moment) / every * 60 if chatty else 0)
        yield watch.seen(remote, opened, None, last, sent, moment, "chatty" if chatty else "silent")


def leaked_where_nothing_closes(rng, watch, remote):
    """An endpoint whose every connection is forgotten, one after another."""
    for moment in np.sort(rng.uniform(watch.start, watch.end, int(log_uniform(rng, 8, 60)))):
        yield watch.seen(remote, moment, None, moment + rng.exponential(0.5), 800, moment, "silent")


def simulate(rng):
    """All connections of one case, by the time they were first seen. Three cases in ten leak nothing."""
    watch, found = Watch(rng), []
    remotes = [f"10.{rng.integers(256)}.{rng.integers(256)}.{rng.integers(1, 255)}:{port}"
               for port in rng.choice([80, 443, 3306, 5432, 5672, 6379, 8080, 8443, 9042, 9092, 11211, 27017], rng.integers(1, 6), replace=False)]
    leaks = rng.random() < 0.7
    for place, remote in enumerate(remotes):
        leaks_here = leaks and (place == 0 or rng.random() < 0.25)
        if leaks_here and rng.random() < 0.08:
            found += leaked_where_nothing_closes(rng, watch, remote)
            continue
        kinds = CAN_LEAK if leaks_here else HEALTHY
        ordinary = list(kinds[rng.integers(len(kinds))](rng, watch))
        found += [watch.seen(remote, *connection) for connection in ordinary]
        if leaks_here:
            found += leaked(rng, watch, remote, ordinary)
    return sorted((connection for connection in found if connection), key=lambda connection: connection.opened)
