//! `list` on the zoo, held against `lsof` descriptor by descriptor, and against `ss` where lsof is silent.

use crate::act::{Folder, Run, has, skip};
use crate::leakers::Zoo;
use crate::lsof_fields::{self, Record};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What lsof says of the zoo with these flags, by descriptor.
fn lsof(zoo: &Zoo, flags: &str) -> BTreeMap<i32, Record> {
    let pid = zoo.pid.to_string();
    let flags = flags.split(' ').chain(["-a", "-p", &pid, "-n", "-P", "+c", "0", "-F"]);
    // lsof ends with 1 where a selection found nothing anywhere: that is no failure.
    let told = Run::program("lsof", flags).done().out;
    lsof_fields::parse(&told).into_iter().map(|record| (record.fd, record)).collect()
}

/// What we say, by descriptor: a resource that two descriptors refer to is there twice.
pub(crate) fn ours(zoo: &Zoo, flags: &str) -> BTreeMap<i32, Value> {
    let told = Run::it(format!("list -p {} {flags} -o json", zoo.pid)).done().ok().json();
    let mut rows = BTreeMap::new();
    for resource in told["resources"].as_array().unwrap() {
        for holder in resource["holders"].as_array().unwrap() {
            assert_eq!(holder["pid"], zoo.pid);
            rows.insert(holder["fd"].as_i64().unwrap() as i32, resource.clone());
        }
    }
    rows
}

/// The rows of the CSV, by descriptor, each a map by the heading's names.
fn csv(zoo: &Zoo, flags: &str) -> BTreeMap<i32, BTreeMap<String, String>> {
    let told = Run::it(format!("list -p {} {flags} -o csv", zoo.pid)).done().ok().out;
    let mut records = cells(&told).into_iter();
    let heading = records.next().unwrap();
    let rows = records.map(|cells| heading.iter().cloned().zip(cells).collect::<BTreeMap<_, _>>());
    rows.map(|row| (row["fd"].parse().unwrap(), row)).collect()
}

/// CSV by RFC 4180.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            letter => cell.push(letter),
        }
    }
    records
}

/// Text of a JSON value; `None` for null.
fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

#[test]
fn internet_sockets_are_told_as_lsof_tells_them() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "-i");
    let theirs = lsof(&zoo, "-i");
    assert!(theirs.len() >= 25, "{theirs:?}");
    for (fd, record) in &theirs {
        let member = zoo.member(*fd);
        let row = ours.get(fd).unwrap_or_else(|| panic!("we don't tell {member}: {record:?}"));
        assert_eq!(text(&row["access"]), record.access.map(String::from).as_deref(), "access of {member}");
        assert_eq!(text(&row["kind"]), Some(record.kind()), "kind of {member}");
        assert_eq!(text(&row["family"]), Some(record.type_name.as_str()), "family of {member}");
        assert_eq!(row["inode"].as_u64(), record.inode, "inode of {member}");
        assert_eq!(text(&row["local"]), record.local().as_deref(), "local end of {member}");
        assert_eq!(text(&row["remote"]), record.remote().as_deref(), "remote end of {member}");
        assert_eq!(text(&row["state"]), record.kernel_state(), "state of {member}");
    }
    // What lsof leaves out: sockets that stand in no table of the kernel's.
    let more: BTreeSet<i32> = ours.keys().filter(|fd| !theirs.contains_key(fd)).copied().collect();
    let expected = zoo.fds(|name| {
        let fresh = ["_fresh", "_reset"].iter().any(|end| name.ends_with(end)) && !name.starts_with("unix");
        fresh || name == "tcp4_bound" || name == "tcp6_bound"
    });
    let names = |fds: &BTreeSet<i32>| fds.iter().map(|fd| zoo.member(*fd).to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&more), names(&expected));
}

#[test]
fn table_and_csv_have_the_columns_of_lsof() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let table = Run::it(format!("list -p {} -i", zoo.pid)).done().ok().out;
    let csv = csv(&zoo, "-i");
    for (fd, record) in lsof(&zoo, "-i") {
        let member = zoo.member(fd);
        let access = record.access.map(String::from).unwrap_or_default();
        let state = record.state.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
        let name = format!("{}{state}", record.name);

        let row = &csv[&fd];
        let cells = ["command", "pid", "user", "access", "type", "node", "name"].map(|column| row[column].as_str());
        let pid = zoo.pid.to_string();
        let expected = [&record.command, &pid, &record.user, &access, &record.type_name, &record.node, &name];
        assert_eq!(cells, expected.map(String::as_str), "{member}");

        let begin =
            format!("{} {pid} {} {fd}{access} {} {} ", record.command, record.user, record.type_name, record.node);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = table.lines().map(words).find(|line| line.starts_with(&begin));
        let line = line.unwrap_or_else(|| panic!("no row {begin:?} in:\n{table}"));
        assert!(line.ends_with(&format!(" {name}")), "{member}: {line:?} for {name:?}");
    }
}

#[test]
fn unix_sockets_are_told_as_lsof_tells_them() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "-U");
    let csv = csv(&zoo, "-U");
    let theirs = lsof(&zoo, "-U");
    assert!(theirs.len() >= 25, "{theirs:?}");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (fd, record) in &theirs {
        let (member, row) = (zoo.member(*fd), &ours[fd]);
        assert_eq!(text(&row["access"]), record.access.map(String::from).as_deref(), "access of {member}");
        assert_eq!(text(&row["kind"]), Some("unix"), "{member}");
        assert_eq!(row["inode"].as_u64(), record.inode, "inode of {member}");
        assert_eq!(text(&row["type"]), record.socket_type(), "type of {member}");
        assert_eq!(text(&row["state"]), record.kernel_state(), "state of {member}");
        // lsof cuts a path at its first blank.
        let name = text(&row["local"]).map(|name| name.split(' ').next().unwrap());
        assert_eq!(name, record.unix_name(), "name of {member}");
        assert_eq!((csv[fd]["type"].as_str(), csv[fd]["node"].as_str()), ("unix", record.node.as_str()), "{member}");
    }
    let bound = zoo.fd("unix_stream_bound").unwrap();
    assert!(text(&ours[&bound]["local"]).is_some_and(|name| name.ends_with("/bound only")), "a path has blanks");
}

/// A Unix socket as ss has it: the inode of its peer (0 for none) and its own and its peer's process and descriptor.
struct SsRow {
    peer: u64,
    holder: (u64, u64),
}

/// What ss knows of every Unix socket, by inode.
fn ss() -> BTreeMap<u64, SsRow> {
    let told = Run::program("ss", ["-xapeH"]).done().ok().out;
    let mut rows = BTreeMap::new();
    for line in told.lines() {
        let Some((ends, rest)) = line.split_once("users:((") else { continue };
        let mut ends = ends.split_whitespace().rev();
        let peer = ends.next().and_then(|peer| peer.parse().ok()).unwrap();
        let inode: u64 = ends.nth(1).and_then(|inode| inode.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let number = |key: &str| {
            let (_, digits) = rest.split_once(key).unwrap();
            digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        rows.insert(inode, SsRow { peer, holder: (number("pid="), number("fd=")) });
    }
    rows
}

#[test]
fn peers_of_unix_sockets_are_told_as_ss_tells_them() {
    if !has("ss") {
        skip!("there is no ss");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "-U");
    let theirs = ss();
    let mut told = 0;
    for (fd, row) in &ours {
        let member = zoo.member(*fd);
        let its = &theirs[&row["inode"].as_u64().unwrap()];
        assert_eq!(row["peer"]["inode"].as_u64().unwrap_or(0), its.peer, "peer of {member}");
        let owner = row["peer"]["pid"].as_u64().zip(row["peer"]["fd"].as_u64());
        assert_eq!(owner, theirs.get(&its.peer).map(|peer| peer.holder), "who holds the peer of {member}");
        told += usize::from(owner.is_some());
    }
    assert!(told >= 15, "{told} peers");
    let client = zoo.fd("unix_stream_named_client").unwrap();
    assert!(text(&ours[&client]["remote"]).is_some_and(|name| name.ends_with("/named")), "{}", ours[&client]);
}

#[test]
fn all_other_kinds_are_told_as_lsof_tells_them() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let ours = ours(&zoo, "--all");
    let csv = csv(&zoo, "--all");
    let theirs = lsof(&zoo, "-d 0-99999");
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let mut kinds = BTreeSet::new();
    for (fd, record) in &theirs {
        let (member, row) = (zoo.member(*fd), &ours[fd]);
        let kind = text(&row["kind"]).unwrap();
        kinds.insert(kind.to_owned());
        assert_eq!(kind, record.kind(), "kind of {member}: {record:?}");
        assert_eq!(row["inode"].as_u64(), record.inode, "inode of {member}");
        // lsof says `u` of an O_PATH descriptor, which can be neither read nor written.
        if member != "file_path_only" {
            assert_eq!(csv[fd]["access"], record.access.map(String::from).unwrap_or_default(), "access of {member}");
        }
        match kind {
            // lsof escapes the line end; JSON and CSV need no such thing.
            "file" | "directory" | "chardev" | "blockdev" => {
                let name = text(&row["name"]).unwrap().replace('\n', "\\n");
                assert_eq!(name, record.name, "name of {member}");
                assert_eq!(csv[fd]["type"], record.type_name, "type of {member}");
                assert_eq!(csv[fd]["node"], record.node, "node of {member}");
            }
            "memfd" => assert_eq!(record.name, format!("/memfd:{} (deleted)", text(&row["name"]).unwrap())),
            "pipe" | "inotify" | "eventfd" | "epoll" | "timerfd" | "signalfd" => {
                assert_eq!(csv[fd]["type"], record.type_name, "type of {member}");
                assert_eq!(csv[fd]["node"], record.node, "node of {member}");
            }
            _ => {}
        }
    }
    for kind in ["tcp", "udp", "unix", "netlink", "socket", "file", "memfd", "directory", "chardev", "pipe", "eventfd"]
    {
        assert!(kinds.contains(kind), "{kind}");
    }
    for kind in ["epoll", "inotify", "timerfd", "signalfd", "pidfd"] {
        assert!(kinds.contains(kind), "{kind}");
    }
    let newline = zoo.fd("file_newline").unwrap();
    assert!(csv[&newline]["name"].ends_with("new\nline"), "{:?}", csv[&newline]);
    let table = Run::it(format!("list --all -p {}", zoo.pid)).done().ok().out;
    assert_eq!(table.lines().count(), 1 + theirs.len(), "a row is a line, whatever a file is called");
}

#[test]
fn the_series_internet_counts_what_the_recipe_counted() {
    if !has("lsof") {
        skip!("there is no lsof");
    }
    let zoo = Zoo::open();
    let pid = zoo.pid;
    let recipe = Run::shell(&format!("lsof -i -a -p {pid} | tail -n +2 | wc -l")).done().ok().out;
    let folder = Folder::new();
    let output = folder.file("zoo.unclosed").display().to_string();
    let mut watch = Run::it(format!("watch -p {pid} -o csv --output {output}")).start();
    let line = watch.line(",");
    assert_eq!(line.split(',').nth(1).unwrap(), recipe.trim(), "{line}");
    watch.interrupt().ok();
}

#[test]
fn terse_prints_the_pids_only() {
    let zoo = Zoo::open();
    let own = std::process::id();
    let both = Run::it(format!("list -t -p {},{own}", zoo.pid)).done().ok().out;
    let mut expected = [zoo.pid, own].map(|pid| pid.to_string());
    expected.sort_by_key(|pid| pid.parse::<u32>().unwrap());
    assert_eq!(both.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_count_alone_is_for_everyone() {
    let zoo = Zoo::open();
    let count = Run::it(format!("list --count -p {}", zoo.pid)).done().ok().out;
    let entries = std::fs::read_dir(format!("/proc/{}/fd", zoo.pid)).unwrap().count();
    assert_eq!(count.trim(), entries.to_string());
}

#[test]
fn resolve_prints_names_and_the_default_numbers() {
    let zoo = Zoo::open();
    let pid = zoo.pid;
    let numbers = Run::it(format!("list -i -n -P -p {pid}")).done().ok().says(&["127.0.0.1:"]);
    assert!(!numbers.out.contains("localhost"), "{}", numbers.out);
    Run::it(format!("list -i --resolve -p {pid}")).done().ok().says(&["localhost:"]);
}

#[test]
fn a_resource_a_line_is_the_same_as_one_document() {
    let zoo = Zoo::open();
    let document = Run::it(format!("list --all -o json -p {}", zoo.pid)).done().ok().json();
    assert_eq!(document["schema"], "unclosed/1");
    assert_eq!(document["target"]["processes"][0]["pid"], zoo.pid);
    let lines = Run::it(format!("list --all -o jsonl -p {}", zoo.pid)).done().ok().out;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // How long a socket has been silent grows meanwhile, and one that connects in vain tries again.
    // The other ends of the standard streams are ours, and those of whatever the cases beside this one are forking.
    let still = |resource: &Value| {
        let mut resource = resource.clone();
        resource["silent_seconds"].take();
        let is_trying = resource["state"] == "SYN_SENT";
        let is_standard_stream = resource["fd"].as_u64() <= Some(2);
        if let Some(detail) = resource["detail"].as_object_mut() {
            detail.remove("retransmits");
            if is_trying {
                detail.remove("congestion_state");
            }
            if is_standard_stream {
                detail.remove("other_end");
            }
        }
        resource
    };
    let document: Vec<Value> = document["resources"].as_array().unwrap().iter().map(still).collect();
    assert_eq!(lines.iter().map(still).collect::<Vec<_>>(), document);
}

#[test]
fn a_process_may_be_named_as_lsof_names_it() {
    let zoo = Zoo::open();
    let told = Run::it("list -c python -t").done().ok().out;
    assert!(told.lines().any(|line| line == zoo.pid.to_string()), "{told}");
    // The flags of lsof that are our default, or have no effect, are taken.
    let rows = Run::it(format!("list -i -a -n -P -p {}", zoo.pid)).done().ok();
    assert!(rows.out.lines().count() > 20);
}
