//! Pure functions: no clock, no I/O. State takes ticks one by one; a replay is the same fold.

mod census;

pub use census::Census;
