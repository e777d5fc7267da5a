//! Single keys, as they are pressed: a terminal without lines and without echo for as long as this lives.

use super::wake::Wake;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, Read};
use std::sync::mpsc::Sender;
use std::thread;

/// Gives the terminal its lines and echo back when it is dropped.
#[derive(Debug)]
pub(crate) struct Keys {
    before: Option<Termios>,
}

impl Keys {
    /// Ends the loop at `q`. Ctrl-C stays a signal. Without a terminal at stdin there are no keys.
    pub(crate) fn end_at_q(wake: Sender<Wake>) -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut single = before.clone();
            single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Where that is refused keys come a line at a time, which does as well.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &single);
            // It waits for a key until the program ends.
            thread::spawn(move || {
                if io::stdin().lock().bytes().map_while(Result::ok).any(|key| key == b'q') {
                    let _ = wake.send(Wake::Over);
                }
            });
        }
        Keys { before }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
