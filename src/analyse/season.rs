//! What repeats: a day, a batch, any cycle that is seen at least about twice. Regressed out, not explained.

use super::bins::Block;
use super::trend::{Basis, dot};
use std::f64::consts::TAU;

/// Cycles per span that are tried, spaced by equal ratios.
const CYCLES: usize = 48;
const CYCLES_FEW: f64 = 2.5;
const CYCLES_MANY: f64 = 20.0;
/// A cycle shorter than so many blocks can't be drawn; the floor has averaged it already.
const BLOCKS_PER_CYCLE: f64 = 6.0;
/// A cycle must explain this share of what a bent line leaves ...
const EXPLAINED_MIN: f64 = 0.55;
/// ... and a day, which needs no luck to be tried, this.
const DAY_EXPLAINED_MIN: f64 = 0.40;
/// An autocorrelation that half of a cycle's share would give at [`BLOCKS_PER_CYCLE`]; without it none is looked for.
const TOGETHER_MIN: f64 = 0.2;
const DAY_SECONDS: f64 = 86_400.0;

/// The columns of a cycle, none where nothing repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Season {
    pub(super) columns: Vec<Vec<f64>>,
    /// Its length in seconds.
    pub(super) period_seconds: Option<f64>,
}

/// Which periods are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Period {
    Any,
    /// In seconds; `None`: there is none.
    Known(Option<f64>),
}

impl Season {
    /// Looks for one in the medians of the blocks: of any period, or of the one that more data showed, where they did.
    pub(super) fn find(blocks: &[Block], span_seconds: f64, period: Period) -> Season {
        let u: Vec<f64> = blocks.iter().map(|block| block.u).collect();
        let y: Vec<f64> = blocks.iter().map(|block| block.median).collect();
        if u.len() < 20 || period == Period::Known(None) {
            return Season::default();
        }
        let bend = |knots: &[f64]| {
            let mut basis = Basis::constant(u.len());
            basis.add(&u);
            for knot in knots {
                basis.add(&u.iter().map(|u| (u - knot).max(0.0)).collect::<Vec<_>>());
            }
            basis
        };
        let gain = |basis: &Basis, cycles: f64| {
            let mut rest = basis.residual(&y);
            let squares = dot(&rest, &rest);
            // Only the new columns are held against one another; the basis is regressed out of each once.
            let mut own = Basis::default();
            for column in harmonics(&u, cycles, 2) {
                own.add(&basis.residual(&column));
            }
            rest = own.residual(&rest);
            if squares > 0.0 { 1.0 - dot(&rest, &rest) / squares } else { 0.0 }
        };
        let bent = bend(&[1.0 / 3.0, 2.0 / 3.0]);
        // What a cycle explains hangs together from block to block; most series end here.
        let rest = bent.residual(&y);
        if dot(&rest[1..], &rest[..rest.len() - 1]) < TOGETHER_MIN * dot(&rest, &rest) {
            return Season::default();
        }
        let most = CYCLES_MANY.min(u.len() as f64 / BLOCKS_PER_CYCLE);
        let tried: Vec<f64> = match period {
            Period::Known(Some(seconds)) => vec![span_seconds / seconds],
            _ => (0..CYCLES)
                .map(|i| CYCLES_FEW * (most / CYCLES_FEW).max(1.0).powf(i as f64 / (CYCLES - 1) as f64))
                .collect(),
        };
        let (best_gain, best_cycles) = tried
            .into_iter()
            .filter(|cycles| *cycles >= CYCLES_FEW)
            .map(|cycles| (gain(&bent, cycles), cycles))
            .fold((0.0, 0.0), |best, one| if one.0 > best.0 { one } else { best });
        let days = span_seconds / DAY_SECONDS;
        let mut cycles = (best_gain > EXPLAINED_MIN).then_some(best_cycles);
        if (1.25..=most).contains(&days) {
            let straight = gain(&bend(&[]), days);
            if straight > DAY_EXPLAINED_MIN && (cycles.is_none() || gain(&bent, days) > best_gain - 0.08) {
                cycles = Some(days);
            }
        }
        let Some(cycles) = cycles else { return Season::default() };
        let order = if cycles > 2.5 && u.len() as f64 / cycles > 8.0 { 3 } else { 2 };
        Season { columns: harmonics(&u, cycles, order), period_seconds: Some(span_seconds / cycles) }
    }

    /// The same from a block on.
    pub(super) fn since(&self, from: usize) -> Season {
        Season { columns: self.columns.iter().map(|column| column[from..].to_vec()).collect(), ..*self }
    }

    /// `y` without it; the level and the trend stay.
    pub(super) fn take_off(&self, y: &[f64]) -> Vec<f64> {
        let mut line = Basis::constant(y.len());
        line.add(&(0..y.len()).map(|i| i as f64).collect::<Vec<_>>());
        let mut basis = line.clone();
        self.columns.iter().for_each(|column| basis.add(column));
        // The residual of both, plus what the line alone explains.
        let rest = basis.residual(y);
        let without_line = line.residual(y);
        y.iter().zip(&without_line).zip(&rest).map(|((y, detrended), rest)| y - detrended + rest).collect()
    }
}

/// Sine and cosine of each harmonic; the higher ones by the sum of angles, which is cheaper than the functions.
fn harmonics(u: &[f64], cycles: f64, order: u32) -> Vec<Vec<f64>> {
    let base: Vec<(f64, f64)> = u.iter().map(|u| (TAU * cycles * u).sin_cos()).collect();
    let mut current = base.clone();
    let mut columns = Vec::with_capacity(2 * order as usize);
    for _ in 0..order {
        columns.push(current.iter().map(|angle| angle.0).collect());
        columns.push(current.iter().map(|angle| angle.1).collect());
        for ((sin, cos), (base_sin, base_cos)) in current.iter_mut().zip(&base) {
            (*sin, *cos) = (*sin * base_cos + *cos * base_sin, *cos * base_cos - *sin * base_sin);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::super::trend::tests::noise;
    use super::*;

    fn blocks(y: impl Fn(f64) -> f64) -> Vec<Block> {
        (0..96).map(|i| (f64::from(i) + 0.5) / 96.0).map(|u| Block { u, floor: y(u), median: y(u) }).collect()
    }

    #[test]
    fn days_are_found_under_a_trend_and_taken_off() {
        let day = |u: f64| 30.0 * u + 10.0 * (TAU * 4.0 * u).sin();
        let season = Season::find(&blocks(day), 4.0 * DAY_SECONDS, Period::Any);
        let period = season.period_seconds.unwrap();
        assert!((period / DAY_SECONDS - 1.0).abs() < 0.05, "{period}");
        let y: Vec<f64> = blocks(day).iter().map(|block| block.floor).collect();
        let free = season.take_off(&y);
        assert!(free.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 2.0), "{free:?}");
    }

    #[test]
    fn a_line_and_noise_do_not_repeat() {
        assert_eq!(Season::find(&blocks(|u| 5.0 * u), 1e6, Period::Any).period_seconds, None);
        assert_eq!(Season::find(&blocks(|u| noise((u * 1e6) as u64)), 1e6, Period::Any).period_seconds, None);
    }
}
