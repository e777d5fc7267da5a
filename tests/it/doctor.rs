//! `doctor`: each line is true, for root, for the target's user and for a stranger, and what it advises mends the line.

use crate::act::{AS_NOBODY, Done, Folder, Run, has, is_root, skip};
use crate::leakers::Churn;
use serde_json::Value;
use std::path::Path;

/// `doctor` by that program as nobody.
fn as_nobody(program: &Path, flags: &str, pid: u32) -> Done {
    Run::shell(&format!("{AS_NOBODY} {flags} {} doctor {pid} -o json", program.display())).done()
}

/// What is said of that source.
pub(crate) fn source<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let all = diagnosis["sources"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {diagnosis:#}"))
}

/// Its first remedy.
pub(crate) fn remedy<'a>(diagnosis: &'a Value, name: &str) -> &'a str {
    source(diagnosis, name)["mends"][0]["command"].as_str().unwrap_or_default()
}

#[test]
fn of_our_own_process_the_descriptors_are_counted_as_the_kernel_does() {
    let churn = Churn::with("--leak-per-second 1");
    let done = Run::it(format!("doctor {} -o json", churn.pid)).done().ok().json();
    for name in ["descriptors", "descriptor_count", "sockets", "activity", "network_namespace"] {
        assert_eq!(source(&done, name)["works"], "yes", "{done:#}");
    }
    assert_eq!(done["target"]["pid"], churn.pid);
    let text = Run::it(format!("doctor {}", churn.pid)).done().ok();
    text.says(&["✓ descriptors", " openers ", "This target will be read by: "]);
    Run::it("doctor").done().ok().says(&["✓ descriptors", "other users"]);
    Run::it("doctor 4194304").done().fails(5, &["there is no process", "hidepid"]);
}

#[test]
fn what_doctor_advises_mends_the_line() {
    if !is_root() || !has("setpriv") || !has("setcap") {
        skip!("only root can become somebody else and give capabilities");
    }
    let folder = Folder::new();
    let program = folder.program_for_all();
    let churn = Churn::with("--leak-per-second 1");
    let before = as_nobody(&program, "", churn.pid).ok().json();
    assert_eq!(source(&before, "descriptors")["works"], "no");
    assert_eq!(source(&before, "sockets")["works"], "partly");
    assert_eq!(before["target"]["read_by"], "outside");
    let file = folder.path().display();
    assert_eq!(
        remedy(&before, "descriptors"),
        format!("sudo setcap cap_dac_read_search,cap_sys_ptrace+ep {file}/unclosed")
    );
    for name in ["descriptors", "file_iterator", "other_users", "stacks", "payloads", "tls"] {
        if source(&before, name)["mends"][0]["place"] != "here" {
            skip!("this machine can't give {name} to a program: {:#}", source(&before, name));
        }
        let setcap = remedy(&before, name).trim_start_matches("sudo ");
        Run::shell(setcap).done().ok();
        let after = as_nobody(&program, "", churn.pid).ok().json();
        assert_eq!(source(&after, name)["works"], "yes", "{setcap}: {after:#}");
    }
    // All at once, and then nothing is left to mend.
    Run::shell(before["mends"][0]["command"].as_str().unwrap().trim_start_matches("sudo ")).done().ok();
    let after = as_nobody(&program, "", churn.pid).ok().json();
    assert_eq!(after["mends"], serde_json::json!([]), "{after:#}");
    assert_eq!(after["target"]["read_by"], "file_iterator");
    // The very program lists what was closed to it.
    let nobody = format!("{AS_NOBODY} {}", program.display());
    Run::shell(&format!("{nobody} list -p {}", churn.pid)).done().ok().says(&["ESTABLISHED"]);
}

#[test]
fn setcap_is_not_advised_where_it_can_not_help() {
    if !is_root() || !has("setpriv") || !has("setcap") {
        skip!("only root can become somebody else and give capabilities");
    }
    let folder = Folder::new();
    let program = folder.program_for_all();
    let own = std::process::id();
    let locked = as_nobody(&program, "--no-new-privs", own).ok().json();
    assert!(remedy(&locked, "descriptors").contains("no_new_privs"), "{locked:#}");
    let withheld = as_nobody(&program, "--bounding-set=-sys_ptrace", own).ok().json();
    assert!(!remedy(&withheld, "descriptors").contains("setcap"), "{withheld:#}");
    // And so it is: the kernel doesn't start a program whose file has what the session is denied.
    Run::program("setcap", ["cap_sys_ptrace+ep"]).file(&program).done().ok();
    as_nobody(&program, "--bounding-set=-sys_ptrace", own).code(126).complains(&["not permitted"]);
}

#[test]
fn a_network_namespace_is_entered_by_those_who_may() {
    if !is_root() || !has("setpriv") || !has("unshare") {
        skip!("only root can make a network namespace and become somebody else");
    }
    let folder = Folder::new();
    let program = folder.program_for_all();
    let mut away = Run::shell(&format!("unshare -n {AS_NOBODY} sh -c 'echo $$; exec sleep 3600'")).start();
    let pid = away.line_that("its pid", |line| line.parse::<u32>().is_ok()).parse().unwrap();
    let root = Run::it(format!("doctor {pid} -o json")).done().ok().json();
    assert_eq!(source(&root, "network_namespace")["works"], "yes", "{root:#}");
    let same_user = as_nobody(&program, "", pid).ok().json();
    assert_eq!(source(&same_user, "network_namespace")["works"], "no", "{same_user:#}");
    assert_eq!(source(&same_user, "sockets")["works"], "partly");
    assert!(remedy(&same_user, "network_namespace").contains("cap_sys_admin+ep"), "{same_user:#}");
}

#[test]
fn a_watch_says_in_a_line_what_is_missing() {
    if !is_root() || !has("setpriv") {
        skip!("only root can become somebody else");
    }
    let folder = Folder::new();
    let program = folder.program_for_all();
    let line = format!("{AS_NOBODY} sh -c 'exec {} watch -p $$ --for 1s'", program.display());
    let done = Run::shell(&line).env("HOME", "/nonexistent").env("XDG_STATE_HOME", "/nonexistent").done().ok();
    done.complains(&["✓ descriptors", "✗ fastest way", "unclosed doctor", "tells what mends it"]);
}
