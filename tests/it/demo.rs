//! `demo`: what a stranger types first.

use crate::act::{Folder, Run, leaked_of, shown};

/// It ends by itself within its time, says that it leaks and what, and leaves a recording and a page behind; what leaks is
/// the path that forgets to close, not the pool that is used.
#[test]
fn the_demo_finds_its_own_leak() {
    let folder = Folder::new();
    let file = folder.file("demo.unclosed");
    let done = Run::it("demo").output(&file).done().ok();
    let done = done.says(&["● LEAK: ", "on tcp 127.0.0.1:", "RLIMIT_NOFILE", "Recording: ", "Page: ", "Next: "]);
    let report = shown(&file);
    assert_eq!(report["verdict"]["kind"], "leak");
    let leaked = leaked_of(&report);
    assert!(leaked.len() >= 20, "{} leaked", leaked.len());
    assert!(leaked.iter().all(|it| it["silent_seconds"].as_f64().unwrap() > 5.0), "a pool that is used is none");
    let page = std::fs::read_to_string(folder.file("demo.html")).unwrap();
    assert!(page.contains("127.0.0.1:") && done.out.contains("demo.html"));
}
