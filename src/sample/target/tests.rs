use super::*;
use std::fs;
use std::path::Path;

/// A tree of processes that a case changes as it goes.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Machine(tempfile::tempdir().expect("a scratch folder"))
    }

    fn proc(&self) -> ProcFs {
        ProcFs::at(self.0.path().to_owned())
    }

    fn folder(&self, pid: u32) -> std::path::PathBuf {
        self.0.path().join(pid.to_string())
    }

    /// A process of that name, or what has become of it by exec.
    fn runs(&self, pid: u32, name: &str) -> &Self {
        self.child(pid, 1, name, 0)
    }

    fn child(&self, pid: u32, parent: u32, name: &str, flags: u32) -> &Self {
        let stat = format!("{pid} ({name}) S {parent} 7 7 0 -1 {flags} 1 0 0 0 3 4 0 0 20 0 5 0 {pid} 1000 200 0");
        self.file(pid, "stat", &stat).file(pid, "cgroup", "0::/\n").file(pid, "cmdline", &format!("{name}\0"))
    }

    fn file(&self, pid: u32, name: &str, text: &str) -> &Self {
        let path = self.folder(pid).join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("made");
        fs::write(path, text).expect("written");
        self
    }

    fn ends(&self, pid: u32) -> &Self {
        fs::remove_dir_all(self.folder(pid)).expect("was there");
        self
    }

    /// The pids that a rule selects.
    fn selected(&self, rule: Rule) -> Vec<u32> {
        pids(&mut TargetProcesses::by_rule(&self.proc(), rule, false).expect("is a rule"))
    }
}

fn pids(target: &mut TargetProcesses) -> Vec<u32> {
    target.members().iter().map(|member| member.pid).collect()
}

fn commands(texts: &[&str]) -> Rule {
    let commands = texts.iter().map(|text| Pattern::command(text).expect("is a pattern")).collect();
    Rule { commands, ..Rule::default() }
}

#[test]
fn names_begin_and_expressions_are_found() {
    let machine = Machine::new();
    machine
        .runs(4_000_001, "nginx")
        .runs(4_000_002, "nginx-debug")
        .runs(4_000_003, "python3")
        .runs(4_000_004, "Orders");
    machine.file(4_000_003, "cmdline", "python3\0/srv/billing/main.py\0--port\080\0");
    let selected =
        |texts: &[&str]| machine.selected(commands(texts)).iter().map(|pid| pid - 4_000_000).collect::<Vec<_>>();
    assert_eq!(selected(&["nginx"]), [1, 2]);
    assert_eq!(selected(&["nginx", "py"]), [1, 2, 3], "ORed");
    assert_eq!(selected(&["/^nginx$/"]), [1]);
    assert_eq!(selected(&["/orders/"]), [0u32; 0]);
    assert_eq!(selected(&["/orders/i"]), [4]);
    assert_eq!(selected(&["/billing.*port 80$/"]), [3], "the command line, with blanks");
    assert_eq!(selected(&["nginx", "^nginx-d"]), [1]);
    assert_eq!(selected(&["^nginx", "^/python/"]), [4], "all the others");
}

#[test]
fn a_name_longer_than_the_kernel_keeps_is_found_by_its_file() {
    let machine = Machine::new();
    machine.runs(4_000_001, "orders-api-serv").file(4_000_001, "cmdline", "/opt/orders-api-server\0-v\0");
    machine.runs(4_000_002, "orders-api-serv").file(4_000_002, "cmdline", "/opt/orders-api-service\0");
    assert_eq!(machine.selected(commands(&["orders-api-server"])), [4_000_001]);
    assert_eq!(machine.selected(commands(&["orders-api-serv"])), [4_000_001, 4_000_002]);
}

#[test]
fn patterns_that_mean_nothing_are_told() {
    let error = |text: &str| Pattern::command(text).expect_err("means nothing").to_string();
    assert!(error("/(/").contains("/(/ is not a regular expression"), "{}", error("/(/"));
    assert!(error("/api").contains("no / at its end"));
    assert!(error("/api/g").contains("no modifier 'g'"));
    for empty in ["", "//", "^"] {
        assert!(error(empty).contains("no letters"), "{empty}");
    }
    let error = Pattern::user("no such user").expect_err("is none").to_string();
    assert!(error.contains("no such user"), "{error}");
    assert_eq!(format!("{:?}", Pattern::user("^12").expect("an id")), "Pattern { excludes: true, of: 12 }");
}

#[test]
fn kinds_are_anded_and_several_of_one_kind_ored() {
    let machine = Machine::new();
    for (pid, name, cgroup) in [
        (4_000_001, "web", "0::/system.slice/shop.service\n"),
        (4_000_002, "worker", "0::/system.slice/shop.service\n"),
        (4_000_003, "web", "1:name=systemd:/system.slice/blog.service\n0::/\n"),
    ] {
        machine.runs(pid, name).file(pid, "cgroup", cgroup);
    }
    let of = |units: &[&str], rule: Rule| {
        machine
            .selected(Rule { units: units.iter().map(|unit| crate::sample::UnitName::parse(unit)).collect(), ..rule })
    };
    assert_eq!(of(&["shop"], Rule::default()), [4_000_001, 4_000_002]);
    assert_eq!(of(&["shop", "blog.service"], Rule::default()), [4_000_001, 4_000_002, 4_000_003]);
    assert_eq!(of(&["shop"], commands(&["web"])), [4_000_001]);
    assert_eq!(of(&["shop"], Rule { pids: vec![4_000_002, 4_000_003], ..Rule::default() }), [4_000_002]);
    let own = rustix::process::geteuid().as_raw();
    let users = |text: &str| Rule { users: vec![Pattern::user(text).expect("an id")], ..Rule::default() };
    assert_eq!(of(&["shop"], users(&own.to_string())), [4_000_001, 4_000_002]);
    assert_eq!(of(&["shop"], users(&format!("^{own}"))), [0u32; 0]);
    assert_eq!(of(&["shop"], users(&(own + 1).to_string())), [0u32; 0]);
}

#[test]
fn a_container_is_told_from_another_by_enough_digits() {
    let machine = Machine::new();
    let (a, b) = ("ab12".repeat(16), format!("ab12cc{}", "0".repeat(58)));
    for (pid, id) in [(4_000_001, &a), (4_000_002, &b)] {
        machine.runs(pid, "web").file(
            pid,
            "cgroup",
            &format!("5:pids:/docker/{id}\n0::/system.slice/docker-{id}.scope\n"),
        );
    }
    let rule = |id: &str| Rule { containers: vec![id.to_owned()], ..Rule::default() };
    assert_eq!(machine.selected(rule(&a[..5])), [4_000_001]);
    assert_eq!(machine.selected(rule(&format!("docker://{b}"))), [4_000_002]);
    let error = |id| TargetProcesses::by_rule(&machine.proc(), rule(id), false).expect_err("is no choice").to_string();
    assert!(error("ab12").contains(&a) && error("ab12").contains(&b), "{}", error("ab12"));
    assert!(error("web-1").contains("is not a container's id"));
    let mut target = TargetProcesses::by_rule(&machine.proc(), rule("dd34"), false).expect("may come yet");
    assert!(target.is_empty() && target.waits_for_more());
    machine.runs(4_000_003, "web").file(4_000_003, "cgroup", &format!("0::/docker/{}\n", "dd34".repeat(16)));
    assert_eq!(pids(&mut target), [4_000_003]);
}

#[test]
fn new_ones_join_ended_ones_leave_and_changed_ones_are_seen_later() {
    let machine = Machine::new();
    machine.runs(4_000_001, "web").runs(4_000_002, "shell");
    let mut target = TargetProcesses::by_rule(&machine.proc(), commands(&["web"]), false).expect("is a rule");
    assert_eq!(pids(&mut target), [4_000_001]);
    machine.runs(4_000_003, "web").ends(4_000_001);
    assert_eq!(pids(&mut target), [4_000_003]);
    // By exec: the one is still of the target, the other is when all are asked again.
    machine.runs(4_000_003, "shell").runs(4_000_002, "web");
    assert_eq!(pids(&mut target), [4_000_003]);
    target.search.as_mut().expect("it searches").again = Instant::now();
    assert_eq!(pids(&mut target), [4_000_002, 4_000_003]);
    machine.ends(4_000_002).ends(4_000_003);
    assert_eq!(pids(&mut target), [0u32; 0]);
    machine.runs(4_000_004, "web");
    assert_eq!(pids(&mut target), [4_000_004], "after a pause with none");
}

#[test]
fn neither_we_nor_what_we_start_nor_the_kernel_is_selected() {
    let machine = Machine::new();
    let own = std::process::id();
    machine.child(own, 4_000_001, "web", 0).child(4_000_002, own, "web", 0).child(4_000_003, 2, "web", 0x20_8040);
    // What started us has in its arguments what we were asked for.
    machine.runs(4_000_001, "sudo").file(4_000_001, "cmdline", "sudo\0unclosed\0-c\0/web/\0");
    machine.runs(4_000_004, "sudo").file(4_000_004, "cmdline", "sudo\0web\0");
    assert_eq!(machine.selected(commands(&["web"])), [0u32; 0]);
    assert_eq!(machine.selected(commands(&["/web/"])), [4_000_004]);
    assert_eq!(machine.selected(commands(&["/sudo/"])), [4_000_001, 4_000_004], "by its name it is");
    assert_eq!(machine.selected(Rule { pids: vec![own], ..commands(&["web"]) }), [own], "named by its pid");
    let children = format!("{own} 4000005");
    machine.file(4_000_001, "task/4000001/children", &children).runs(4_000_005, "other");
    let mut target = TargetProcesses::named(&machine.proc(), &[4_000_001], true).expect("runs");
    assert_eq!(pids(&mut target), [4_000_001, 4_000_005], "nor as a descendant");
}

#[test]
fn there_is_room_for_so_many_and_the_rest_is_counted() {
    let machine = Machine::new();
    let all = 4_000_000..4_000_000 + MEMBERS_MAX as u32 + 7;
    for pid in all.clone() {
        machine.child(pid, 1, "web", 0);
    }
    let mut target = TargetProcesses::by_rule(&machine.proc(), commands(&["web"]), false).expect("is a rule");
    assert_eq!((target.members().len(), target.left_out), (MEMBERS_MAX, 7));
    assert_eq!((target.members().len(), target.left_out), (MEMBERS_MAX, 7), "nor at the next look");
}
