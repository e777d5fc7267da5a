//! `--on-leak`: a real leak runs a real command, and a command that is no good harms nothing.

use crate::act::{Folder, Run, until};
use crate::leakers::Churn;
use serde_json::Value;
use std::fs;

#[test]
fn a_leak_runs_the_command_once_with_the_finding_on_its_stdin() {
    let folder = Folder::new();
    let (findings, file) = (folder.file("findings"), folder.file("r.unclosed"));
    let churn = Churn::with("--leak-per-second 5");
    let command = format!("sh -c 'cat >> {0}; echo >> {0}; echo told'", findings.display());
    let watch = Run::it(format!("watch -p {} --every 100ms --on-leak", churn.pid)).and_whole(&command).output(&file);
    let mut watch = watch.start();
    until("the command's run", || fs::read_to_string(&findings).ok()?.contains('\n').then_some(()));
    // What it prints is talk, not data.
    watch.complaint("told");
    let done = watch.interrupt().ok();
    assert!(!done.out.contains("told"), "{}", done.out);
    let text = fs::read_to_string(&findings).unwrap();
    let finding: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&finding["schema"], &finding["kind"]), (&"unclosed/1".into(), &"leak".into()), "{finding:#}");
    assert_eq!((&finding["previous"], &finding["target"]["pid"]), (&"undecided".into(), &churn.pid.into()));
    assert_eq!(finding["subject"], format!("tcp {}", churn.endpoint()));
    assert_eq!(finding["file"], file.display().to_string());
    assert!(!finding["evidence"].as_array().unwrap().is_empty());
    // A run for each change, and none beside.
    let history = crate::act::shown(&file)["verdict"]["history"].as_array().unwrap().len();
    assert!(text.lines().count() < history, "{history} changes, of which the first is none: {text}");
}

#[test]
fn a_command_that_fails_is_told_and_the_watch_goes_on() {
    let folder = Folder::new();
    let churn = Churn::with("--leak-per-second 5");
    let line = format!("record -p {} --every 100ms --on-leak", churn.pid);
    let mut record = Run::it(line).and_whole("sh -c 'exit 7'").output(&folder.file("r.unclosed")).start();
    record.complaint("--on-leak sh: it ended with exit code 7");
    record.interrupt().ok().complains(&["LEAK"]);
}

#[test]
fn a_command_that_is_not_there_is_an_error_at_the_start() {
    let folder = Folder::new();
    let own = std::process::id();
    for verb in [format!("watch -p {own}"), format!("record -p {own}")] {
        let file = folder.file("r.unclosed");
        Run::it(verb).output(&file).and("--on-leak no-such-program").done().fails(2, &["no-such-program", "shell"]);
        assert!(!file.exists());
    }
    Run::it("run --on-leak no-such-program -- true").done().fails(2, &["no-such-program"]);
}
