//! `watch` in a real terminal: one screen that is drawn anew, and the terminal as it was once it ends.

use crate::act::{Folder, Run, has, skip, until};
use crate::leakers::Churn;

/// A terminal of its own server of tmux.
pub(crate) struct Terminal {
    folder: Folder,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let terminal = Terminal { folder: Folder::new() };
        terminal.tmux(&["new-session", "-d", "-x", "100", "-y", "30", "env PS1='prompt> ' TERM=screen sh"]);
        terminal.shows("the prompt", |screen| screen.contains("prompt>"));
        terminal
    }

    pub(crate) fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.file("socket").display().to_string();
        Run::program("tmux", ["-f", "/dev/null", "-S", &socket].iter().chain(arguments)).done().ok().out
    }

    pub(crate) fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so, and returns it.
    pub(crate) fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        until(&format!("{what} on the screen"), || Some(self.screen()).filter(|screen| wanted(screen)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn the_screen_is_drawn_anew_and_ctrl_c_gives_the_terminal_back() {
    if !has("tmux") {
        skip!("there is no tmux");
    }
    let churn = Churn::with("--leak-per-second 10");
    let terminal = Terminal::open();
    terminal.types("echo what was there before");
    terminal.shows("its answer", |screen| screen.lines().any(|line| line == "what was there before"));
    let file = terminal.folder.file("w.unclosed").display().to_string();
    let program = env!("CARGO_BIN_EXE_unclosed");
    terminal.types(&format!("{program} watch -p {} --every 100ms --output {file}", churn.pid));

    let first = terminal.shows("the view", |screen| screen.contains(" ticks") && screen.contains("connections "));
    assert!(first.contains("python3") && first.contains("undecided"), "{first}");
    assert!(!first.contains("what was there before"), "it is a screen of its own:\n{first}");
    assert!(first.contains(&churn.endpoint()), "{first}");
    let head = |screen: &str| screen.lines().next().unwrap_or_default().to_owned();
    let ticks = head(&first);
    terminal.shows("a later tick", |screen| head(screen) != ticks && head(screen).contains(" ticks"));
    // One screen: nothing runs off its top.
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on}"]).trim(), "1");

    terminal.tmux(&["send-keys", "C-c"]);
    let last = terminal.shows("the summary and the prompt", |screen| {
        screen.contains("Next:") && screen.trim_end().ends_with("prompt>")
    });
    assert!(last.contains("what was there before"), "{last}");
    assert!(last.contains("undecided") && last.contains("unclosed show "), "{last}");
    assert_eq!(terminal.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
    // The terminal takes what is typed again.
    terminal.types("echo it is $((6 * 7))");
    terminal.shows("what is typed", |screen| screen.contains("it is 42"));
}

#[test]
fn a_small_terminal_is_not_overrun() {
    if !has("tmux") {
        skip!("there is no tmux");
    }
    let churn = Churn::with("--leak-per-second 20");
    let terminal = Terminal::open();
    terminal.tmux(&["resize-window", "-x", "50", "-y", "10"]);
    let file = terminal.folder.file("w.unclosed").display().to_string();
    let program = env!("CARGO_BIN_EXE_unclosed");
    terminal.types(&format!("{program} watch -p {} --every 100ms --output {file}", churn.pid));
    let screen = terminal.shows("the view", |screen| screen.contains(" ticks"));
    let head = screen.lines().next().unwrap();
    assert!(head.starts_with("python3"), "the head is not scrolled away:\n{screen}");
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.shows("the prompt", |screen| screen.trim_end().ends_with("prompt>"));
}
