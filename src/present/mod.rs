//! What a person or a program is shown.

pub mod page;
