//! What a person or a program is shown: text, JSON, CSV, the live screen, the page.

pub mod canvas;
mod code;
mod detail;
pub mod doctor;
mod explain;
pub mod groups;
pub mod json;
pub mod list;
pub mod live;
pub mod page;
mod processes;
pub mod replay;
pub mod table;
pub mod text;
pub mod top;
mod who;
pub mod window;
