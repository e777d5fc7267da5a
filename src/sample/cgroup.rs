//! The cgroups of a process, and what their paths tell: its systemd unit, its container, its pod.
//!
//! Formats: cgroups(7) for `/proc/PID/cgroup`; systemd.unit(5) for units. How containers are called was read off the
//! runtimes: `docker-ID.scope` and `/docker/ID`, `libpod-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`,
//! `nerdctl-ID.scope`, `…:cri-containerd:ID`, and `/kubepods/burstable/podUID/ID` or `kubepods-burstable-podUID.slice`.

use super::procfs::ProcFs;

/// Where the hierarchies are mounted everywhere.
const MOUNT: &str = "/sys/fs/cgroup";

/// The kinds of units that have a cgroup of their own.
const UNIT_SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// Digits of a container's id.
const CONTAINER_DIGITS: usize = 64;

/// The cgroups that a process is in: one of version 2, and one of each hierarchy of version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cgroups(Vec<Cgroup>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cgroup {
    /// Controllers with commas between them, or `name=systemd`; empty for version 2.
    hierarchy: String,
    /// From the root of the hierarchy, or of the cgroup namespace that we are in.
    path: String,
}

impl Cgroups {
    /// Those of a process now; none where it has ended.
    pub(super) fn of(proc: &ProcFs, pid: u32) -> Self {
        Cgroups::parse(&proc.text(pid, "cgroup").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let cgroup = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (hierarchy, path) = (parts.next()?.to_owned(), parts.next()?);
            // The kernel's mark on one that was removed under a process that is ending.
            Some(Cgroup { hierarchy, path: path.trim_end_matches(" (deleted)").to_owned() })
        };
        Cgroups(text.lines().filter_map(cgroup).collect())
    }

    /// True where it belongs to that unit, or to one below that slice or manager.
    pub(super) fn has_unit(&self, unit: &UnitName) -> bool {
        let of_systemd = self.0.iter().filter(|it| it.hierarchy.is_empty() || it.hierarchy == "name=systemd");
        // systemd sets `_` before a name that the kernel might take for a file of its own.
        of_systemd.flat_map(|it| it.path.split('/')).any(|part| part.strip_prefix('_').unwrap_or(part) == unit.0)
    }

    /// True where it is in that cgroup or in one below it.
    pub(super) fn is_within(&self, wanted: &CgroupPath) -> bool {
        let within = |path: &str, wanted: &str| {
            path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().any(|it| {
            let mounted = wanted.mounted.as_ref().filter(|(mount, _)| it.is_mounted_as(mount));
            within(&it.path, &wanted.path) || mounted.is_some_and(|(_, path)| within(&it.path, path))
        })
    }

    /// The ids of the containers and the pods it is in, outermost first, each once.
    pub(super) fn containers(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let parts = self.0.iter().flat_map(|it| it.path.split('/'));
        for id in parts.flat_map(|part| [pod_id(part), container_id(part)]).flatten() {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

impl Cgroup {
    /// True where the folder of that name under [`MOUNT`] is this hierarchy's.
    fn is_mounted_as(&self, folder: &str) -> bool {
        match self.hierarchy.as_str() {
            "" => folder == "unified",
            hierarchy => match hierarchy.strip_prefix("name=") {
                Some(name) => folder == name,
                // `cpu,cpuacct` is mounted so, with a link for each of the two.
                None => folder.split(',').all(|wanted| hierarchy.split(',').any(|controller| controller == wanted)),
            },
        }
    }
}

/// A unit's full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

impl UnitName {
    /// Reads it as systemctl does: a name without a suffix is a service's.
    pub fn parse(text: &str) -> Self {
        let is_full = UNIT_SUFFIXES.iter().any(|suffix| text.ends_with(suffix));
        UnitName(if is_full { text.to_owned() } else { format!("{text}.service") })
    }
}

/// A cgroup that a person named, with or without the place where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPath {
    /// From the root of its hierarchy, whichever that is; empty for the root itself.
    path: String,
    /// The same, where what was named may begin with the folder of a hierarchy of version 1: that folder and the rest.
    mounted: Option<(String, String)>,
}

impl CgroupPath {
    /// Reads `/system.slice/x.service`, `/sys/fs/cgroup/system.slice/x.service` or `/sys/fs/cgroup/pids/x`.
    pub fn parse(text: &str) -> Self {
        let inside = text.strip_prefix(MOUNT).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let parts: Vec<&str> = inside.unwrap_or(text).split('/').filter(|part| !part.is_empty()).collect();
        let path = |parts: &[&str]| parts.iter().map(|part| format!("/{part}")).collect::<String>();
        let mounted = parts.split_first().filter(|_| inside.is_some());
        CgroupPath { mounted: mounted.map(|(mount, rest)| ((*mount).to_owned(), path(rest))), path: path(&parts) }
    }
}

/// Reads an id, or its beginning, as docker, crictl and kubectl print it: `containerd://` before it is left out, and a pod's
/// id is written with `-`. `None` for what is no such thing.
pub(super) fn id_prefix(text: &str) -> Option<String> {
    /// With fewer digits it is no choice but a guess.
    const DIGITS_MIN: usize = 4;
    let id = text.rsplit_once("://").map_or(text, |(_, id)| id).to_ascii_lowercase().replace('_', "-");
    let id = id.strip_prefix("pod").unwrap_or(&id);
    let digits = id.chars().filter(char::is_ascii_hexdigit).count();
    let is_id =
        id.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && (DIGITS_MIN..=CONTAINER_DIGITS).contains(&digits);
    is_id.then(|| id.to_owned())
}

/// The container that a part of a path is called after.
fn container_id(part: &str) -> Option<String> {
    // Its monitor stands beside a container, not in it.
    if part.contains("conmon") {
        return None;
    }
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == CONTAINER_DIGITS && id.chars().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// The pod of Kubernetes that a part of a path is called after: `podUID`, or `kubepods-burstable-podUID.slice` with `_` for `-`.
/// Where the runtime puts both into one name, the container's id follows after a colon.
fn pod_id(part: &str) -> Option<String> {
    let name = part.split_once(':').map_or(part, |(name, _)| name);
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let id = name[name.rfind("pod")? + "pod".len()..].replace('_', "-");
    let digits = id.chars().filter(char::is_ascii_hexdigit).count();
    // A UUID; that of a static pod is a hash without its dashes.
    (digits == 32 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4e5d6c7b8a90123f4e5d6c7b8a90123f4e5d6c7b8a90123f4e5d6c7b8a9012";
    const POD: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    fn at(path: &str) -> Cgroups {
        Cgroups::parse(&format!("0::{path}\n"))
    }

    #[test]
    fn a_unit_is_a_part_of_a_path() {
        let in_unit = |text: &str, unit: &str| Cgroups::parse(text).has_unit(&UnitName::parse(unit));
        let v2 = "0::/system.slice/orders.service/worker\n";
        assert!(in_unit(v2, "orders") && in_unit(v2, "orders.service") && in_unit(v2, "system.slice"));
        assert!(!in_unit(v2, "order") && !in_unit(v2, "worker") && !in_unit(v2, "system"));
        let v1 = "5:pids:/a.service\n1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n";
        assert!(in_unit(v1, "session-3.scope") && in_unit(v1, "user-1000.slice") && !in_unit(v1, "a.service"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/orders@eu.service\n";
        assert!(in_unit(user, "orders@eu") && in_unit(user, "user@1000.service") && !in_unit(user, "orders@"));
        assert!(in_unit("0::/system.slice/_cpu.service\n", "cpu.service"));
    }

    #[test]
    fn a_cgroup_is_named_with_or_without_its_mount() {
        let within = |text: &str, path: &str| Cgroups::parse(text).is_within(&CgroupPath::parse(path));
        let v2 = "0::/pool/a/b\n";
        for path in ["/pool/a", "pool/a/", "/pool/a/b", "/sys/fs/cgroup/pool/a", "/", "/sys/fs/cgroup"] {
            assert!(within(v2, path), "{path}");
        }
        for path in ["/pool/a/b/c", "/pool/ab", "/poo", "/a", "/sys/fs/cgroup/unified/a", "/sys/fs/cgroupx/pool"] {
            assert!(!within(v2, path), "{path}");
        }
        let v1 = "8:pids:/pool/a\n7:cpu,cpuacct:/other\n1:name=systemd:/unit\n0::/new\n";
        for path in ["pids/pool", "cpu/other", "cpuacct/other", "cpu,cpuacct/other", "systemd/unit", "unified/new"] {
            assert!(within(v1, &format!("{MOUNT}/{path}")), "{path}");
            assert!(!within(v1, path), "{path} is not below a root");
        }
        assert!(within(v1, "/pool") && within(v1, "other"), "any hierarchy will do");
        assert!(!within(v1, &format!("{MOUNT}/pids/other")), "that is another hierarchy's");
    }

    #[test]
    fn containers_are_found_as_each_runtime_calls_them() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/docker/{ID}/init.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/system.slice/orders.service/libpod-payload-{ID}"),
            format!("/system.slice/nerdctl-{ID}.scope"),
            format!("/default/{ID}"),
            format!("/../../docker-{ID}.scope"),
            format!("/docker/{ID} (deleted)"),
        ] {
            assert_eq!(at(&path).containers(), [ID], "{path}");
        }
        let slice = POD.replace('-', "_");
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope/container"),
            format!("/kubepods/besteffort/pod{POD}/{ID}"),
        ] {
            assert_eq!(at(&path).containers(), [POD, ID], "{path}");
        }
        let colons =
            format!("/system.slice/containerd.service/kubepods-burstable-pod{slice}.slice:cri-containerd:{ID}");
        assert_eq!(at(&colons).containers(), [POD, ID]);
        for path in [
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/system.slice/crio-conmon-{ID}.scope"),
            format!("/docker/{}", &ID[1..]),
            "/system.slice/docker.service".to_owned(),
        ] {
            assert!(at(&path).containers().is_empty(), "{path}");
        }
        let both = format!("8:pids:/docker/{ID}\n0::/docker/{ID}/docker/{}\n", ID.replace('3', "4"));
        assert_eq!(Cgroups::parse(&both).containers(), [ID.to_owned(), ID.replace('3', "4")]);
    }

    #[test]
    fn an_id_is_taken_as_it_is_printed() {
        assert_eq!(id_prefix("3F4e"), Some("3f4e".to_owned()));
        assert_eq!(id_prefix(&format!("containerd://{ID}")), Some(ID.to_owned()));
        assert_eq!(id_prefix("pod0a1b2c3d_1111"), Some("0a1b2c3d-1111".to_owned()));
        for nonsense in ["", "3f4", "orders", "----", "3f4e/..", &format!("{ID}0")] {
            assert_eq!(id_prefix(nonsense), None, "{nonsense}");
        }
    }
}
