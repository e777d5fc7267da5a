"""The rules that people use today, as `benches/verdict.py` and `benches/online.py` hold the verdict against them.

Each rule on a series takes times and values and says whether it raises an alarm; each rule on lifetimes names connections.
"""

import numpy as np
import pymannkendall

# Mann-Kendall counts pairs, so it is given medians of so many stretches of time at most.
STRETCHES_MAX = 240
SIGNIFICANT = 0.05
# How far above the highest value `predict_linear` has its limit, as a share of the range.
LIMIT_ROOM = 0.1


def stretches(times, values):
    """The series as medians over equal stretches of time: the trend without most of the noise."""
    times, values = np.asarray(times), np.asarray(values)
    if len(times) <= STRETCHES_MAX:
        return times, values
    place = ((times - times[0]) / (times[-1] - times[0]) * STRETCHES_MAX).astype(int).clip(0, STRETCHES_MAX - 1)
    used = np.unique(place)
    return np.array([times[place == p].mean() for p in used]), np.array([np.median(values[place == p]) for p in used])


def predict_linear(times, values):
    """`deriv(x[w]) > 0 and predict_linear(x[w], 4 * w) > limit`, the window `w` a quarter of what was seen.

    Window to horizon is as in the usual alert, 1 h to 4 h. The corpora have no limits: this one is a tenth of the range
    above the highest value, where the rule did best of 0, 0.1, 0.25, 0.5 and 1 on `series-a`.
    """
    times, values = np.asarray(times), np.asarray(values)
    window = (times[-1] - times[0]) / 4
    late = times >= times[-1] - window
    if late.sum() < 3 or window <= 0:
        return False
    slope, level = np.polyfit(times[late] - times[-1], values[late], 1)
    limit = values.max() + LIMIT_ROOM * (values.max() - values.min())
    return bool(slope > 0 and level + slope * 4 * window > limit)


def increasing(test):
    """A test of pymannkendall as a rule."""

    def rule(times, values):
        medians = stretches(times, values)[1]
        return len(medians) >= 10 and np.ptp(medians) > 0 and test(medians, alpha=SIGNIFICANT).trend == "increasing"

    return rule


def least_squares(times, values):
    """A line whose slope differs from none by a t test, p < 0.01, as if samples were independent."""
    times, values = np.asarray(times), np.asarray(values)
    if len(times) < 10 or np.ptp(values) == 0:
        return False
    x = times - times.mean()
    slope = x @ (values - values.mean()) / (x @ x)
    left = values - values.mean() - slope * x
    error = np.sqrt(left @ left / (len(x) - 2) / (x @ x))
    return bool(slope > 2.576 * error)


def precog(times, values):
    """After Precog: some stretch up to now follows a rising line closely, R^2 of at least 0.8."""
    x, y = stretches(times, values)
    for begin in range(0, max(1, int(0.7 * len(x))), max(1, len(x) // 10)):
        a, b = x[begin:] - x[begin:].mean(), y[begin:] - y[begin:].mean()
        if len(a) >= 10 and b @ b > 0 and a @ b > 0 and (a @ b) ** 2 / ((a @ a) * (b @ b)) >= 0.8:
            return True
    return False


ON_SERIES = {
    "`deriv` > 0 and `predict_linear` over the limit": predict_linear,
    "least squares, t test": least_squares,
    "Mann-Kendall": increasing(pymannkendall.original_test),
    "Mann-Kendall, Hamed-Rao": increasing(pymannkendall.hamed_rao_modification_test),
    "Mann-Kendall, pre-whitened": increasing(pymannkendall.pre_whitening_modification_test),
    "Precog-like": precog,
}


def end_of(rows):
    """The last moment that is told of."""
    return max(max(float(row["closed_ts"] or 0), float(row["last_activity_ts"])) for row in rows)


def older_than(seconds):
    """Open for longer than this."""

    def rule(rows):
        end = end_of(rows)
        return {row["conn_id"] for row in rows if not row["closed_ts"] and end - float(row["opened_ts"]) > seconds}

    return rule


def idle_for(seconds):
    """Open, and nothing said for longer than this."""

    def rule(rows):
        end = end_of(rows)
        return {row["conn_id"] for row in rows if not row["closed_ts"] and end - float(row["last_activity_ts"]) > seconds}

    return rule


def older_than_usual(rows):
    """Open for longer than 99% of the closed ones of its endpoint were."""
    end, usual = end_of(rows), {}
    for remote in {row["remote"] for row in rows}:
        closed = [float(r["closed_ts"]) - float(r["opened_ts"]) for r in rows if r["remote"] == remote and r["closed_ts"]]
        if closed:
            usual[remote] = np.quantile(closed, 0.99)
    return {r["conn_id"] for r in rows if not r["closed_ts"] and end - float(r["opened_ts"]) > usual.get(r["remote"], np.inf)}


ON_LIFETIMES = {
    "age > 300 s": older_than(300),
    "idle > 120 s": idle_for(120),
    "age > 99% of the closed ones of its endpoint": older_than_usual,
}
