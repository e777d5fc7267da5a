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
    /// The stacks that opened what is open.
    Stacks,
    /// What was last said on a connection.
    Payloads,
    /// The frames of a Python program.
    PythonFrames,
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
            Source::Stacks => "stacks",
            Source::Payloads => "payloads",
            Source::PythonFrames => "python_frames",
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
    /// Each source, in the order of [`Source`].
    pub probes: Vec<Probe>,
}
