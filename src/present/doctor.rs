//! What can be seen here and what mends the rest, as text and as JSON.

use super::json::SCHEMA;
use super::table::printable;
use crate::model::{Capability, Container, Diagnosis, Lack, Probe, Runtime, Source, Way, Works};
use serde_json::{Value, json};
use std::io::{self, Write};

/// An image that our program runs in: it needs nothing but the C library.
const IMAGE: &str = "debian:stable-slim";

/// What is left of 100 columns beside a mark and a label.
const WHY_COLUMNS: usize = 100 - 23;

/// What mends something, for one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remedy {
    /// Where it is to be done: `here`, `docker`, `kubernetes`, `kernel`, `host`, or on the `program` that is watched.
    place: &'static str,
    /// A command to copy; a comment of the shell where there is none.
    command: String,
}

/// The whole diagnosis.
pub fn text(out: &mut dyn Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let setting = &diagnosis.setting;
    let names: Vec<&str> = setting.effective.iter().map(|it| it.name()).collect();
    let names = if names.is_empty() { "no capability that matters".to_owned() } else { names.join(", ") };
    writeln!(out, "unclosed as uid {} with {names}; Linux {}", setting.uid, printable(&setting.kernel))?;
    if let Some(container) = &setting.container {
        // Without an id there are but the marks that the runtime leaves.
        let by = if container.id.is_some() { "in a container" } else { "by its marks in a container" };
        writeln!(out, "{by} of {}", runtime_words(container.runtime))?;
    }
    if let Some(target) = &diagnosis.target {
        let (name, user) = (printable(&target.name), printable(&target.user));
        let container =
            target.container.as_ref().map(|it| format!(", in a container of {}", runtime_words(it.runtime)));
        writeln!(out, "{name} (pid {}, user {user}{})", target.pid, container.unwrap_or_default())?;
    }
    writeln!(out)?;
    for probe in &diagnosis.probes {
        let why = [probe.why.as_str(), &later_words(probe)].concat();
        let why = printable(&why);
        let mut lines = wrapped(&why).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(out, "  {} {:<18} {first}", mark(probe.works), label(probe.source))?;
        for line in lines {
            writeln!(out, "    {:<18} {line}", "")?;
        }
        let remedies = remedies(diagnosis, &probe.lacks);
        // The containers' variants stand once, at the end, unless they are the only ones.
        let is_here = |it: &&Remedy| !matches!(it.place, "docker" | "kubernetes");
        let only_elsewhere = !remedies.iter().any(|it| is_here(&it));
        for remedy in remedies.iter().filter(|it| is_mendable(probe) && (only_elsewhere || is_here(it))) {
            writeln!(out, "    {:<18} {}", "", printable(&remedy.command))?;
        }
    }
    let all = remedies(diagnosis, &all_lacks(diagnosis));
    if !all.is_empty() {
        writeln!(out, "\nAll that can be mended, at once")?;
        for remedy in &all {
            writeln!(out, "  {:<11} {}", remedy.place, printable(&remedy.command))?;
        }
    }
    if let Some(target) = &diagnosis.target {
        writeln!(out, "\nThis target will be read by: {}", way_words(target.way))?;
    }
    Ok(())
}

/// One line for `watch`: what works and what doesn't; `None` where nothing that this version reads is missing.
pub fn short(diagnosis: &Diagnosis) -> Option<String> {
    let shown = diagnosis.probes.iter().filter(|it| {
        let about_target = !matches!(it.source, Source::OtherUsers | Source::DescriptorCount | Source::IoUring);
        about_target && !it.lacks.contains(&Lack::Version)
    });
    let shown: Vec<&Probe> = shown.collect();
    if shown.iter().all(|probe| probe.works == Works::Yes) {
        return None;
    }
    let words: Vec<String> = shown.iter().map(|it| format!("{} {}", mark(it.works), label(it.source))).collect();
    let pid = diagnosis.target.as_ref().map(|target| format!(" {}", target.pid)).unwrap_or_default();
    Some(format!("{}: unclosed doctor{pid} tells what mends it", words.join("  ")))
}

/// The documented JSON.
pub fn json(diagnosis: &Diagnosis) -> Value {
    let setting = &diagnosis.setting;
    let container =
        |it: &Option<Container>| it.as_ref().map(|it| json!({"runtime": runtime_words(it.runtime), "id": it.id}));
    let written = |remedies: Vec<Remedy>| -> Value {
        remedies.into_iter().map(|it| json!({"place": it.place, "command": it.command})).collect()
    };
    json!({
        "schema": SCHEMA,
        "kernel": setting.kernel,
        "uid": setting.uid,
        "capabilities": setting.effective.iter().map(|it| it.name()).collect::<Vec<_>>(),
        "container": container(&setting.container),
        "target": diagnosis.target.as_ref().map(|it| json!({
            "pid": it.pid, "name": it.name, "user": it.user, "container": container(&it.container),
            "read_by": way_name(it.way),
        })),
        "sources": diagnosis.probes.iter().map(|it| json!({
            "name": it.source.name(),
            "works": match it.works { Works::Yes => "yes", Works::Partly => "partly", Works::No => "no" },
            "why": it.why,
            "lacks": it.lacks.iter().filter(|it| **it != Lack::Version).map(lack_words).collect::<Vec<_>>(),
            "in_this_version": !it.lacks.contains(&Lack::Version),
            "mends": written(if is_mendable(it) { remedies(diagnosis, &it.lacks) } else { Vec::new() }),
        })).collect::<Value>(),
        "mends": written(remedies(diagnosis, &all_lacks(diagnosis))),
    })
}

/// Lines that fit beside the labels; a word that is longer than a line stays whole.
fn wrapped(words: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WHY_COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn mark(works: Works) -> char {
    match works {
        Works::Yes => '✓',
        Works::Partly => '◐',
        Works::No => '✗',
    }
}

fn label(source: Source) -> &'static str {
    match source {
        Source::Descriptors => "descriptors",
        Source::DescriptorCount => "their number",
        Source::Sockets => "sockets",
        Source::Activity => "bytes, silence",
        Source::FileIterator => "fastest way (BPF)",
        Source::NetworkNamespace => "network namespace",
        Source::OtherUsers => "other users",
        Source::MemoryLimit => "memory limit",
        Source::IoUring => "io_uring",
        Source::Stacks => "openers",
        Source::Payloads => "last use, payloads",
        Source::Encrypted => "TLS",
        Source::RuntimeFrames => "runtime's frames",
        Source::Lines => "lines of code",
    }
}

fn runtime_words(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Docker => "docker",
        Runtime::Podman => "podman",
        Runtime::Kubernetes => "kubernetes",
    }
}

fn way_name(way: Way) -> &'static str {
    match way {
        Way::FileIterator => "file_iterator",
        Way::SockDiag => "sock_diag",
        Way::Proc => "proc",
        Way::Outside => "outside",
    }
}

fn way_words(way: Way) -> &'static str {
    match way {
        Way::FileIterator => "a BPF iterator over its files",
        Way::SockDiag => "/proc/PID/fd joined to sock_diag",
        Way::Proc => "/proc alone",
        Way::Outside => "no access to its descriptors; the sockets of its cgroup or user from the netlink table",
    }
}

/// Of what a later version reads, whether it could here.
fn later_words(probe: &Probe) -> String {
    let lacks: Vec<String> = probe.lacks.iter().filter(|it| **it != Lack::Version).map(lack_words).collect();
    match (is_mendable(probe), lacks.is_empty()) {
        (true, _) => String::new(),
        (false, true) => "; kernel and privileges here would allow it".to_owned(),
        (false, false) => format!("; here it would lack {}", lacks.join(", ")),
    }
}

fn lack_words(lack: &Lack) -> String {
    match lack {
        Lack::Version => "a later version".to_owned(),
        Lack::Capability(capability) => capability.name().to_owned(),
        Lack::Kernel(major, minor) => format!("Linux {major}.{minor}"),
        Lack::Btf => "a kernel with BTF".to_owned(),
        Lack::SocketTables(of) => format!("the tables of {}", of.join(", ")),
        Lack::UserNamespace => "privileges outside this user namespace".to_owned(),
        Lack::PtraceScope => "a kernel.yama.ptrace_scope below 3".to_owned(),
        Lack::OutsideContainer => "a place outside this container".to_owned(),
        Lack::Uprobes => "a kernel with uprobes".to_owned(),
        Lack::DebugInformation { path, .. } => format!("debug information of {path}"),
    }
}

/// What a later version needs is mended by nobody who doesn't have that version.
fn is_mendable(probe: &Probe) -> bool {
    !probe.lacks.contains(&Lack::Version)
}

/// What is lacking to all that this version reads, each once; of a target that was named, to reading that one.
fn all_lacks(diagnosis: &Diagnosis) -> Vec<Lack> {
    let mut all = Vec::new();
    let concerns = |probe: &&Probe| diagnosis.target.is_none() || probe.source != Source::OtherUsers;
    for lack in diagnosis.probes.iter().filter(|it| is_mendable(it)).filter(concerns).flat_map(|it| &it.lacks) {
        if !all.contains(lack) {
            all.push(lack.clone());
        }
    }
    all
}

/// What mends these, the least privilege first.
fn remedies(diagnosis: &Diagnosis, lacks: &[Lack]) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    let mut wanted: Vec<Capability> = Vec::new();
    let of_kernel = |command: String| Remedy { place: "kernel", command };
    for lack in lacks {
        match lack {
            Lack::Version | Lack::UserNamespace => {}
            Lack::Capability(capability) => wanted.push(*capability),
            Lack::Kernel(major, minor) => remedies.push(of_kernel(format!("# it takes Linux {major}.{minor} or later"))),
            Lack::Btf => remedies.push(of_kernel(
                "grep CONFIG_DEBUG_INFO_BTF= /boot/config-$(uname -r)  # it takes a kernel with y, as distributions build it"
                    .to_owned(),
            )),
            Lack::SocketTables(of) => {
                let modules: Vec<String> = of.iter().map(|name| format!("{name}_diag")).collect();
                remedies.push(of_kernel(format!("sudo modprobe -a {}", modules.join(" "))));
            }
            Lack::PtraceScope => {
                remedies.push(of_kernel("# kernel.yama.ptrace_scope=3 holds until the machine is started anew".into()));
            }
            Lack::Uprobes => remedies.push(of_kernel(
                "grep CONFIG_UPROBE_EVENTS= /boot/config-$(uname -r)  # it takes a kernel with y".to_owned(),
            )),
            Lack::DebugInformation { path, package } => {
                remedies.push(Remedy { place: "program", command: with_lines(path, package.as_deref()) });
            }
            Lack::OutsideContainer => remedies.push(Remedy { place: "host", command: on_the_host(diagnosis) }),
        }
    }
    if lacks.contains(&Lack::UserNamespace) {
        // Whatever we were given here would count in this namespace only.
        remedies.push(Remedy { place: "host", command: on_the_host(diagnosis) });
    } else if !wanted.is_empty() {
        if wanted.contains(&Capability::SysAdmin) {
            // It has both.
            wanted.retain(|it| !matches!(it, Capability::Perfmon | Capability::Bpf));
        }
        remedies.extend(capability_remedies(diagnosis, &wanted));
    }
    remedies
}

/// What gives a program or library its lines.
fn with_lines(path: &str, package: Option<&str>) -> String {
    match package {
        Some(package) => format!("sudo apt install {package}-dbgsym  # from the distribution's debug archive"),
        None => format!("# build {path} with -g, not stripped, or put its debug file below /usr/lib/debug"),
    }
}

fn on_the_host(diagnosis: &Diagnosis) -> String {
    let why = if diagnosis.setting.user_namespace { "user namespace" } else { "container" };
    format!("sudo unclosed doctor PID  # outside this {why}, where the process has another PID")
}

fn capability_remedies(diagnosis: &Diagnosis, wanted: &[Capability]) -> Vec<Remedy> {
    let setting = &diagnosis.setting;
    let mut remedies = Vec::new();
    let here = |command: String| Remedy { place: "here", command };
    let program = quoted(&setting.program.display().to_string());
    // setcap replaces what the file has: what we have by it stays.
    let mut all = wanted.to_vec();
    all.extend(setting.effective.iter().filter(|_| setting.uid != 0));
    all.sort_unstable();
    all.dedup();
    let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
    let names = names.join(",");
    let container = diagnosis.target.as_ref().and_then(|it| it.container.as_ref()).or(setting.container.as_ref());
    if !wanted.iter().all(|it| setting.bounding.contains(it)) {
        if container.is_none() {
            let command =
                format!("# {names} are withheld from this session, from root too: CapabilityBoundingSet= of its unit");
            remedies.push(here(command));
        }
    } else if setting.no_new_privileges {
        let command =
            "# no_new_privs is set: start it where NoNewPrivileges=no, or allowPrivilegeEscalation: true".to_owned();
        remedies.push(here(command));
    } else if setting.nosuid {
        let copy = "/usr/local/bin/unclosed";
        remedies.push(here(format!("sudo install {program} {copy} && sudo setcap {names}+ep {copy}")));
    } else {
        remedies.push(here(format!("sudo setcap {names}+ep {program}")));
    }
    if let Some(container) = container {
        remedies.push(in_docker(diagnosis, container, wanted, &program));
        remedies.push(in_kubernetes(diagnosis, container, wanted));
        if container.runtime == Runtime::Kubernetes {
            // Whoever is in a pod has no docker.
            remedies.retain(|it| it.place != "docker");
        }
    }
    remedies
}

/// A container beside the one that is looked at, in its pid and network namespaces, so that none has to be entered.
fn in_docker(diagnosis: &Diagnosis, container: &Container, wanted: &[Capability], program: &str) -> Remedy {
    let runtime = if container.runtime == Runtime::Podman { "podman" } else { "docker" };
    let id =
        container.id.as_deref().map_or_else(|| diagnosis.setting.host.clone(), |id| id[..12.min(id.len())].to_owned());
    let grants: Vec<String> = docker_names(wanted).iter().map(|name| format!("--cap-add {name}")).collect();
    let command = format!(
        "{runtime} run --rm -it --pid=container:{id} --network=container:{id} {} -v {program}:/unclosed:ro {IMAGE} /unclosed doctor 1",
        grants.join(" ")
    );
    Remedy { place: "docker", command }
}

fn in_kubernetes(diagnosis: &Diagnosis, container: &Container, wanted: &[Capability]) -> Remedy {
    let command = match container.runtime {
        Runtime::Kubernetes if diagnosis.setting.container.as_ref() == Some(container) => {
            let pod = quoted(&diagnosis.setting.host);
            format!("kubectl debug -it {pod} --image={IMAGE} --target=CONTAINER --profile=sysadmin")
        }
        Runtime::Kubernetes => format!("kubectl debug -it POD --image={IMAGE} --target=CONTAINER --profile=sysadmin"),
        Runtime::Docker | Runtime::Podman => {
            format!("securityContext: {{capabilities: {{add: [{}]}}}}", docker_names(wanted).join(", "))
        }
    };
    Remedy { place: "kubernetes", command }
}

/// Capabilities as container runtimes write them: `SYS_PTRACE`.
fn docker_names(wanted: &[Capability]) -> Vec<String> {
    wanted.iter().map(|it| it.name().trim_start_matches("cap_").to_ascii_uppercase()).collect()
}

fn quoted(word: &str) -> String {
    // A path with a NUL in it is none.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProbedTarget, Setting};

    /// A stranger without privileges whose target's descriptors are closed to it.
    fn stranger() -> Diagnosis {
        let everything = Capability::in_mask(u64::MAX);
        let lacks = vec![Lack::Capability(Capability::DacReadSearch), Lack::Capability(Capability::SysPtrace)];
        Diagnosis {
            setting: Setting {
                program: "/opt/a b/unclosed".into(),
                kernel: "6.1.0".into(),
                has_btf: true,
                uid: 1000,
                effective: Vec::new(),
                bounding: everything,
                no_new_privileges: false,
                nosuid: false,
                user_namespace: false,
                hidepid: None,
                container: None,
                host: "pod-1".into(),
            },
            target: Some(ProbedTarget {
                pid: 7,
                name: "a\u{1b}]0;b".into(),
                user: "root".into(),
                container: None,
                way: Way::Outside,
            }),
            probes: vec![Probe { source: Source::Descriptors, works: Works::No, why: "closed".into(), lacks }],
        }
    }

    /// Each remedy as `place: command`.
    fn told(diagnosis: &Diagnosis) -> Vec<String> {
        let all = remedies(diagnosis, &all_lacks(diagnosis));
        all.iter().map(|it| format!("{}: {}", it.place, it.command)).collect()
    }

    #[test]
    fn the_least_privilege_is_told_for_where_we_are() {
        let mut it = stranger();
        let setcap = "here: sudo setcap cap_dac_read_search,cap_sys_ptrace+ep";
        assert_eq!(told(&it), [format!("{setcap} '/opt/a b/unclosed'")]);
        // What the file has already stays.
        it.setting.effective = vec![Capability::Bpf];
        let [all] = told(&it).try_into().expect("one");
        assert!(all.contains("cap_dac_read_search,cap_sys_ptrace,cap_bpf+ep"), "{all}");
        it.setting.effective.clear();
        it.setting.nosuid = true;
        assert!(told(&it)[0].contains("install '/opt/a b/unclosed' /usr/local/bin/unclosed && sudo setcap"));
        it.setting.no_new_privileges = true;
        assert!(told(&it)[0].contains("NoNewPrivileges"));
        it.setting.bounding.clear();
        assert!(told(&it)[0].contains("CapabilityBoundingSet"));
        it.setting.user_namespace = true;
        it.probes[0].lacks = vec![Lack::UserNamespace];
        assert!(told(&it)[0].starts_with("host: sudo unclosed doctor"));
    }

    #[test]
    fn lines_are_mended_by_a_package_or_a_build() {
        let mut it = stranger();
        let lack = |package: Option<&str>| Lack::DebugInformation {
            path: "/usr/bin/app".into(),
            package: package.map(str::to_owned),
        };
        it.probes[0].lacks = vec![lack(Some("app-server"))];
        assert!(told(&it)[0].starts_with("program: sudo apt install app-server-dbgsym "), "{:?}", told(&it));
        it.probes[0].lacks = vec![lack(None)];
        assert!(told(&it)[0].contains("build /usr/bin/app with -g"), "{:?}", told(&it));
    }

    #[test]
    fn one_capability_is_not_asked_for_where_another_has_it() {
        let mut it = stranger();
        let all = [Capability::SysAdmin, Capability::Bpf, Capability::Perfmon];
        it.probes[0].lacks = all.into_iter().map(Lack::Capability).collect();
        assert_eq!(told(&it), ["here: sudo setcap cap_sys_admin+ep '/opt/a b/unclosed'"]);
    }

    #[test]
    fn words_are_wrapped_beside_the_labels_and_none_is_lost() {
        let words = "one two-three ".repeat(20) + &"x".repeat(120);
        let lines = wrapped(&words);
        assert_eq!(lines.join(" "), words);
        let (long, lines) = lines.split_last().expect("lines");
        assert!(lines.iter().all(|line| line.len() <= WHY_COLUMNS) && long.len() == 120);
    }

    #[test]
    fn containers_get_the_commands_of_their_runtime() {
        let mut it = stranger();
        it.setting.bounding.clear();
        let of = |runtime| Some(Container { runtime, id: Some("0123456789abcdef".into()) });
        it.setting.container = of(Runtime::Podman);
        let [podman, pod] = told(&it).try_into().expect("two");
        assert!(podman.contains("podman run") && podman.contains("--pid=container:0123456789ab "), "{podman}");
        assert!(podman.contains("--cap-add DAC_READ_SEARCH --cap-add SYS_PTRACE "), "{podman}");
        assert!(pod.contains("add: [DAC_READ_SEARCH, SYS_PTRACE]"), "{pod}");
        it.setting.container = of(Runtime::Kubernetes);
        let [debug] = told(&it).try_into().expect("one");
        assert!(debug.contains("kubectl debug -it pod-1 ") && debug.contains("--profile=sysadmin"), "{debug}");
    }

    #[test]
    fn a_later_version_mends_nothing_and_names_drive_no_terminal() {
        let mut it = stranger();
        it.probes[0].lacks.insert(0, Lack::Version);
        assert!(told(&it).is_empty() && short(&it).is_none());
        let mut out = Vec::new();
        text(&mut out, &it).expect("memory takes it");
        let out = String::from_utf8(out).expect("text");
        assert!(!out.contains('\u{1b}') && out.contains("here it would lack cap_dac_read_search"), "{out}");
    }
}
