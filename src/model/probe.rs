//! What can be seen here, what can't, and what is lacking: the facts that `doctor` tells.

use std::path::PathBuf;

/// A thing that can be known of a target, or a way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Each of its descriptors, by `/proc/PID/fd`.
    Descriptors,
    /// How many descriptors it has, by the size of that folder.
    DescriptorCount,
    /// Addresses and states of its sockets, by `sock_diag`.
    Sockets,
    /// Bytes and silence of its connections, by `TCP_INFO`.
    Activity,
    /// All of these in one pass, by a BPF iterator over its files.
    FileIterator,
    /// Its network namespace, where that is another one than ours.
    NetworkNamespace,
    /// Processes of other users.
    OtherUsers,
    /// The limit of memory that its cgroups set.
    MemoryLimit,
    /// What it does through rings of io_uring, which pass by the hooks of the ledger.
    IoUring,
    /// The stacks that opened what is open.
    Stacks,
    /// Who used a connection last, and what was said on it.
    Payloads,
    /// The same of what it encrypts.
    Encrypted,
    /// The frames of its runtime: of an interpreter, a scheduler, a virtual machine.
    RuntimeFrames,
    /// Files and lines of its compiled code.
    Lines,
}

impl Source {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Source::Descriptors => "descriptors",
            Source::DescriptorCount => "descriptor_count",
            Source::Sockets => "sockets",
            Source::Activity => "activity",
            Source::FileIterator => "file_iterator",
            Source::NetworkNamespace => "network_namespace",
            Source::OtherUsers => "other_users",
            Source::MemoryLimit => "memory_limit",
            Source::IoUring => "io_uring",
            Source::Stacks => "stacks",
            Source::Payloads => "payloads",
            Source::Encrypted => "tls",
            Source::RuntimeFrames => "runtime_frames",
            Source::Lines => "lines",
        }
    }
}

/// Whether it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Works {
    /// It does.
    Yes,
    /// Some of it does.
    Partly,
    /// It doesn't.
    No,
}

/// A capability of capabilities(7) that something here may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Lists folders that are another user's: `/proc/PID/fd` has mode 0500.
    DacReadSearch,
    /// Follows the links in them, and reads memory.
    SysPtrace,
    /// Enters a network namespace.
    SysAdmin,
    /// Lets BPF programs read the kernel's structures (Linux 5.8; before it is `CAP_SYS_ADMIN`).
    Perfmon,
    /// Loads BPF programs (Linux 5.8; before it is `CAP_SYS_ADMIN`).
    Bpf,
}

impl Capability {
    /// Each with its bit in the masks of `/proc/PID/status` and its name (`linux/capability.h`).
    const ALL: [(Capability, u32, &'static str); 5] = [
        (Capability::DacReadSearch, 2, "cap_dac_read_search"),
        (Capability::SysPtrace, 19, "cap_sys_ptrace"),
        (Capability::SysAdmin, 21, "cap_sys_admin"),
        (Capability::Perfmon, 38, "cap_perfmon"),
        (Capability::Bpf, 39, "cap_bpf"),
    ];

    /// Its name as `setcap` takes it.
    pub fn name(self) -> &'static str {
        Capability::ALL.iter().find(|(it, _, _)| *it == self).map_or("", |(_, _, name)| name)
    }

    /// Those whose bits are set in a mask.
    pub fn in_mask(mask: u64) -> Vec<Capability> {
        Capability::ALL.iter().filter(|(_, bit, _)| mask >> bit & 1 == 1).map(|(it, _, _)| *it).collect()
    }
}

/// What keeps a source from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// This version doesn't read it.
    Version,
    /// A capability that we don't have.
    Capability(Capability),
    /// The kernel is older than this.
    Kernel(u32, u32),
    /// The kernel doesn't describe its types: it was built without `CONFIG_DEBUG_INFO_BTF`.
    Btf,
    /// The kernel has no `sock_diag` table of these protocols: tcp, udp, raw, unix.
    SocketTables(Vec<&'static str>),
    /// Our capabilities count in a user namespace only that is not the target's.
    UserNamespace,
    /// `kernel.yama.ptrace_scope` is 3: nobody reads memory until the machine is started anew.
    PtraceScope,
    /// It lies outside the container that we are in.
    OutsideContainer,
    /// The kernel can't look at single instructions: it was built without `CONFIG_UPROBE_EVENTS`.
    Uprobes,
    /// A program or library says nowhere which line its code came from.
    DebugInformation {
        /// Its path in the target's root.
        path: String,
        /// The package of the distribution that it came with; `None` for what is of the user's own.
        package: Option<String>,
    },
}

/// One source, tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Which.
    pub source: Source,
    /// Whether it works.
    pub works: Works,
    /// What was found, in words.
    pub why: String,
    /// What it would take, the least.
    pub lacks: Vec<Lack>,
}

impl Probe {
    /// One that works.
    pub fn found(source: Source, why: impl Into<String>) -> Self {
        Probe { source, works: Works::Yes, why: why.into(), lacks: Vec::new() }
    }

    /// One of which some works.
    pub fn partly(source: Source, why: impl Into<String>, lacks: Vec<Lack>) -> Self {
        Probe { source, works: Works::Partly, why: why.into(), lacks }
    }

    /// One that doesn't work.
    pub fn missing(source: Source, why: impl Into<String>, lacks: Vec<Lack>) -> Self {
        Probe { source, works: Works::No, why: why.into(), lacks }
    }
}

/// Who makes containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Docker, or one that takes its commands.
    Docker,
    /// Podman.
    Podman,
    /// A kubelet.
    Kubernetes,
}

/// A container that a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Whose it is.
    pub runtime: Runtime,
    /// Its id; `None` where nothing tells.
    pub id: Option<String>,
}

/// Where and as whom we run: what decides which remedy is a remedy.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// This program's file.
    pub program: PathBuf,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub has_btf: bool,
    /// Our effective user's id.
    pub uid: u32,
    /// The capabilities that we have.
    pub effective: Vec<Capability>,
    /// Those that we could be given by the file's: beyond them `setcap` makes the program fail to start.
    pub bounding: Vec<Capability>,
    /// The file's capabilities are ignored, for some program before us set `no_new_privs`.
    pub no_new_privileges: bool,
    /// The file's capabilities are ignored, for its file system is mounted `nosuid`.
    pub nosuid: bool,
    /// We are in a user namespace that somebody has made.
    pub user_namespace: bool,
    /// The option of `/proc` that hides processes, where it is set.
    pub hidepid: Option<String>,
    /// The container that we are in.
    pub container: Option<Container>,
    /// The pod's or container's host name.
    pub host: String,
}

impl Setting {
    /// Which of these capabilities we don't have.
    pub fn lacking(&self, needed: &[Capability]) -> Vec<Lack> {
        let has = |it: &Capability| self.effective.contains(it);
        needed.iter().filter(|it| !has(it)).map(|it| Lack::Capability(*it)).collect()
    }

    /// What a BPF program that reads typed kernel structures lacks here, which takes a kernel of this version.
    pub fn lacks_for_bpf(&self, at_least: (u32, u32)) -> Vec<Lack> {
        let mut lacks = Vec::new();
        if kernel_version(&self.kernel).is_some_and(|version| version < at_least) {
            lacks.push(Lack::Kernel(at_least.0, at_least.1));
        }
        if !self.has_btf {
            lacks.push(Lack::Btf);
        }
        if !self.effective.contains(&Capability::SysAdmin) {
            lacks.extend(self.lacking(&[Capability::Bpf, Capability::Perfmon]));
        }
        // Both are asked for in the first user namespace, wherever we are.
        if self.user_namespace {
            lacks.push(Lack::UserNamespace);
        }
        lacks
    }
}

/// Major and minor of a release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// How a target will be read, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a BPF iterator over its files.
    FileIterator,
    /// By `/proc/PID/fd`, joined to `sock_diag`.
    SockDiag,
    /// By `/proc` alone.
    Proc,
    /// Without its descriptors: the sockets of its cgroup or user.
    Outside,
}

/// The process that was asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedTarget {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its effective user.
    pub user: String,
    /// The container it is in, where it is not in ours.
    pub container: Option<Container>,
    /// How it will be read.
    pub way: Way,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Where and as whom we run.
    pub setting: Setting,
    /// The process that was asked about.
    pub target: Option<ProbedTarget>,
    /// Each source that there is something to say of, in the order of [`Source`].
    pub probes: Vec<Probe>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_a_major_and_a_minor() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.4-rc1"), Some((5, 4)));
        assert_eq!(kernel_version(""), None);
    }
}
