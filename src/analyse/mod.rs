//! Pure functions: no clock, no I/O. State takes ticks one by one; a replay is the same fold.

mod census;
mod fold;

pub use census::Census;
pub use fold::Fold;

use crate::model::{Judged, Limit, Population, Series, SeriesKey, Timestamp};
/// stub
#[derive(Debug, Default)]
pub struct Analysis;
#[allow(missing_docs)]
impl Analysis {
    pub fn add_series(&mut self, _: &Series) {}
    pub fn observe(&mut self, _: Timestamp, _: &[(SeriesKey, f64)]) {}
    pub fn restart(&mut self, _: Timestamp) {}
    pub fn judge(&self, _: Timestamp, _: &Population, _: &[Limit]) -> Judged {
        Judged::default()
    }
}
