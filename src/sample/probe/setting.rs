//! Where and as whom we run: user, capabilities, user namespace, container, the mounts of `/proc` and of this program.
//!
//! Formats: proc(5), capabilities(7), user_namespaces(7), `/proc/self/mountinfo` of proc_pid_mountinfo(5).

use crate::model::{Capability, Container, Runtime, Setting};
use crate::sample::ProcFs;
use std::fs;
use std::path::{Path, PathBuf};

/// The pids that the kernel's first user namespace maps: all of them, to themselves.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// Reads it.
pub(super) fn setting(proc: &ProcFs) -> Setting {
    let text = |name: &str| fs::read_to_string(proc.root().join(name)).unwrap_or_default();
    let status = text("self/status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let mask = |name: &str| Capability::in_mask(u64::from_str_radix(field(name), 16).unwrap_or(0));
    let mounts = text("self/mountinfo");
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("unclosed"));
    Setting {
        kernel: text("sys/kernel/osrelease").trim().to_owned(),
        has_btf: proc.root().with_file_name("sys").join("kernel/btf/vmlinux").exists(),
        uid: field("Uid:").split_ascii_whitespace().nth(1).and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX),
        effective: mask("CapEff:"),
        bounding: mask("CapBnd:"),
        no_new_privileges: field("NoNewPrivs:") == "1",
        nosuid: mount_options(&mounts, &program).iter().any(|option| option == "nosuid"),
        user_namespace: !text("self/uid_map").split_ascii_whitespace().eq(ALL_IDS),
        hidepid: mount_options(&mounts, proc.root())
            .into_iter()
            .find(|option| option.starts_with("hidepid=") && !option.ends_with("=0") && !option.ends_with("=off")),
        container: own_container(&text("self/cgroup"), &mounts),
        host: text("sys/kernel/hostname").trim().to_owned(),
        program,
    }
}

/// The container that a process of these cgroups is in: runtimes name its cgroup by 64 hexadecimal digits.
pub(super) fn container_of(cgroups: &str) -> Option<Container> {
    let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line =
        cgroups.lines().find(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| is_id(&word)))?;
    let id = line.split(|c: char| !c.is_ascii_alphanumeric()).rfind(is_id)?;
    let runtime = match line {
        line if line.contains("kubepods") => Runtime::Kubernetes,
        line if line.contains("libpod") => Runtime::Podman,
        _ => Runtime::Docker,
    };
    Some(Container { runtime, id: Some(id.to_owned()) })
}

/// Ours: a cgroup namespace hides the cgroup's name, but not the marks that runtimes leave.
fn own_container(cgroups: &str, mounts: &str) -> Option<Container> {
    // Docker mounts `/etc/hostname` and its like out of a folder that is named by the id.
    let mounted = mounts.lines().find_map(|line| {
        let id = line.split_once("/containers/")?.1.split('/').next()?;
        container_of(id)?.id
    });
    let marked = |runtime| Some(Container { runtime, id: mounted.clone() });
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return marked(Runtime::Kubernetes);
    }
    container_of(cgroups).or_else(|| match () {
        () if Path::new("/.dockerenv").exists() => marked(Runtime::Docker),
        () if Path::new("/run/.containerenv").exists() => marked(Runtime::Podman),
        () => None,
    })
}

/// The options of the mount that a path lies on, of the mount and of its file system.
fn mount_options(mounts: &str, path: &Path) -> Vec<String> {
    let mount = mounts.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        // A blank in a path is written `\040`.
        let point = fields.next()?.replace("\\040", " ");
        let options = [fields.next()?, system.split(' ').nth(2)?].join(",");
        path.starts_with(&point).then_some((point.len(), options))
    });
    // The innermost; of several on one point the last one is on top.
    let options = mount.max_by_key(|(length, _)| *length).map(|(_, options)| options).unwrap_or_default();
    options.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_container_is_known_by_its_cgroup() {
        let of = |cgroups: &str| container_of(cgroups).map(|it| (it.runtime, it.id));
        let id = Some(ID.to_owned());
        assert_eq!(of(&format!("0::/system.slice/docker-{ID}.scope\n")), Some((Runtime::Docker, id.clone())));
        assert_eq!(of(&format!("4:memory:/docker/{ID}\n0::/\n")), Some((Runtime::Docker, id.clone())));
        assert_eq!(of(&format!("0::/user.slice/libpod-{ID}.scope/c\n")), Some((Runtime::Podman, id.clone())));
        let pod = format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n");
        assert_eq!(of(&pod), Some((Runtime::Kubernetes, id)));
        assert_eq!(of("0::/user.slice/user-1000.slice/session-2.scope\n"), None);
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n\
                      23 22 0:5 / /proc rw,nosuid - proc proc rw,hidepid=invisible,gid=7\n\
                      24 22 0:6 / /srv/a\\040b rw,nosuid,nodev - tmpfs tmpfs rw\n";
        let has = |path: &str, option: &str| mount_options(mounts, Path::new(path)).iter().any(|it| it == option);
        assert!(has("/proc", "hidepid=invisible") && !has("/procfs/x", "nosuid"));
        assert!(has("/srv/a b/unclosed", "nosuid") && !has("/usr/bin/unclosed", "nosuid"));
    }
}
