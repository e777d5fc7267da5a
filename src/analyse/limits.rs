//! Which limit is reached first, and when.

use super::survivors::Survivors;
use crate::model::{Exhaustion, Limit, Population, ProcessKey, Rate, Timestamp};
use std::collections::BTreeMap;

/// What is further away is not said: a rate won't hold for ten years.
const HORIZON_SECONDS: f64 = 10.0 * 365.25 * 86_400.0;

/// The limit on `series` that is reached first at a rate, from its value at a moment.
pub(super) fn first_reached(
    limits: &[Limit],
    series: &str,
    value: f64,
    rate: &Rate,
    at: Timestamp,
) -> Option<Exhaustion> {
    let limit = limits
        .iter()
        .filter(|limit| limit.series == series && limit.value.is_finite())
        .min_by(|a, b| a.value.total_cmp(&b.value))?;
    let room = (limit.value - value).max(0.0);
    let reached = |per_hour: f64| {
        let seconds = room / per_hour * 3_600.0;
        (per_hour > 0.0 && seconds < HORIZON_SECONDS).then(|| Timestamp::from_seconds(at.seconds() + seconds))
    };
    let reached_at = reached(rate.per_hour)?;
    Some(Exhaustion {
        limit: limit.value,
        name: limit.name.clone(),
        at: reached_at,
        earliest: reached(rate.high).unwrap_or(reached_at),
        latest: reached(rate.low),
    })
}

/// The part of what leaks that the one process holds which holds most of it; all of it where no holder is known.
pub(super) fn largest_share(survivors: &Survivors, population: &Population) -> f64 {
    let growing = survivors.groups.iter().filter(|found| found.rate.is_some());
    let leaked = growing.flat_map(|found| &found.leaked).filter_map(|id| population.open.get(id));
    let (mut all, mut held) = (0u32, BTreeMap::<ProcessKey, u32>::new());
    for lifetime in leaked.filter(|it| !it.holders.is_empty()) {
        all += 1;
        for holders in lifetime.holders.chunk_by(|a, b| a.process == b.process) {
            *held.entry(holders[0].process).or_default() += 1;
        }
    }
    held.values().max().map_or(1.0, |most| f64::from(*most) / f64::from(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(series: &str, value: f64) -> Limit {
        Limit { name: "RLIMIT_NOFILE".into(), series: series.into(), value }
    }

    #[test]
    fn the_lowest_limit_of_the_series_is_reached_first() {
        let limits = [limit("descriptors", 1024.0), limit("descriptors", 64.0), limit("memory", 10.0)];
        let rate = Rate { per_hour: 10.0, low: -1.0, high: 20.0 };
        let exhausts = first_reached(&limits, "descriptors", 24.0, &rate, Timestamp(0)).unwrap();
        assert_eq!((exhausts.limit, exhausts.at.seconds(), exhausts.earliest.seconds()), (64.0, 14_400.0, 7_200.0));
        assert_eq!(exhausts.latest, None);
    }

    #[test]
    fn no_limit_no_rise_and_a_far_future_are_not_told() {
        let rate = Rate { per_hour: 1e-9, low: 0.0, high: 1e-9 };
        assert_eq!(first_reached(&[], "descriptors", 1.0, &rate, Timestamp(0)), None);
        assert_eq!(first_reached(&[limit("descriptors", 64.0)], "descriptors", 1.0, &rate, Timestamp(0)), None);
    }
}
