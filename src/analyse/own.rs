//! Which frames are the user's own code.

use crate::model::Stack;

/// Rules by which frames are told.
#[derive(Clone, Debug, Default)]
pub struct Rules(());

impl Rules {
    /// Sets [`own`](crate::model::Frame::own) on every frame.
    pub fn mark(&self, stack: &mut Stack) {
        let is_foreign = |path: &str| path.starts_with("/usr/") || path.contains("site-packages");
        for frame in &mut stack.frames {
            frame.own = frame.file.as_deref().is_some_and(|file| !is_foreign(file));
        }
    }

    /// How the frame that matters is called.
    pub fn label(&self, stack: &Stack) -> String {
        let Some(frame) = stack.named() else { return "unknown code".to_owned() };
        let function = frame.function.as_deref().unwrap_or("?");
        match (frame.file.as_deref(), frame.line) {
            (Some(file), Some(line)) => format!("{function} ({}:{line})", file.rsplit('/').next().unwrap_or(file)),
            _ => function.to_owned(),
        }
    }
}
