//! What was closed, as it happened.

use super::Ledger;
use super::records::{self, Ended, How, Opening, Told};
use super::uses::Said;
use crate::model::{Activity, Address, Descriptor, Identity, LastUse, Passed, Resource, Snapshot, Witnessed};

/// Closings of connections that are told with their messages, at a tick; about.
const WITH_MESSAGES_PER_TICK: u32 = 200;

/// What of an ended one isn't in its opening.
#[derive(Debug, Default)]
struct Remains {
    local: Option<Address>,
    remote: Option<Address>,
    bytes: Option<(u64, u64)>,
    last_use: Option<LastUse>,
}

impl Ledger {
    /// Adds what was closed since the last call, and takes what concerns processes into account.
    pub(super) fn add_endings(&mut self, snapshot: &mut Snapshot) {
        let mut with_use = 0;
        while let Some(record) = self.hooks.endings.next() {
            match records::told(record) {
                Some(Told::Ended(ended)) => {
                    with_use += u32::from(ended.last_use.is_some());
                    self.end(*ended, snapshot);
                }
                Some(Told::LookAgain { tgid, at }) => self.look_again.push((tgid, at)),
                Some(Told::Executed { tgid, at }) => {
                    self.look_again.push((tgid, at));
                    self.targets.has_executed(&self.hooks, tgid);
                }
                Some(Told::Exited { tgid, at }) => {
                    self.look_again.push((tgid, at));
                    self.targets.has_ended(tgid);
                }
                None => {}
            }
        }
        // An array's only place always has room.
        let _ = self.hooks.one_in.update(&0_u32, &(with_use / WITH_MESSAGES_PER_TICK).max(1));
        self.go_through_openings(snapshot);
    }

    fn end(&mut self, ended: Ended, snapshot: &mut Snapshot) {
        let said = Said {
            object: ended.object,
            inode: ended.opening.inode,
            prepared: ended.prepared,
            is_whole: true,
            writes: &ended.writes,
            peer: ended.remote.as_ref(),
        };
        let messages = self.messages(&said);
        let last_use = ended.last_use.map(|who| LastUse { by: self.by(who), messages, whereabouts: None });
        let Ended { at, object, opening, local, remote, bytes, .. } = ended;
        self.close(object, &opening, at, Remains { local, remote, bytes, last_use }, snapshot);
    }

    /// Tells a closing: of what the snapshots know, or of what passed between two of them.
    fn close(&mut self, object: u64, opening: &Opening, at: u64, remains: Remains, snapshot: &mut Snapshot) {
        let closed = self.clock.moment(at);
        let known = self.by_object.get(&object).and_then(|identity| self.known.get(identity));
        if let Some(known) = known.filter(|known| known.inode == opening.inode) {
            snapshot.witnessed.push(Witnessed { identity: known.identity, at: closed, last_use: remains.last_use });
            return;
        }
        // What is closed by the end of its process was neither closed by the program nor is it open any more.
        let runs = self.targets.get_mut(opening.by.tgid).filter(|watched| watched.runs());
        let Some(process) = runs.map(|watched| watched.id.clone()) else { return };
        self.passed += 1;
        let mut resource = Resource::new(Identity(u64::MAX, self.passed), opening.kind);
        resource.inode = Some(opening.inode);
        resource.ipv6 = opening.is_ipv6;
        (resource.local, resource.remote) = (remains.local, remains.remote);
        resource.name = opening.path.as_ref().and_then(|(folder, path)| self.paths.whole(process.pid, *folder, path));
        resource.activity = Activity {
            bytes_sent: remains.bytes.map(|bytes| bytes.0),
            bytes_received: remains.bytes.map(|bytes| bytes.1),
            silent_seconds: None,
        };
        snapshot.passed.push(Passed {
            resource,
            holder: Descriptor { process, fd: opening.fd.cast_signed(), access: None },
            accepted: opening.how == How::Accepted,
            opener: self.by(opening.by),
            closed,
            last_use: remains.last_use,
        });
    }

    /// Where descriptors were closed that nobody looked at one by one: what was opened before then and that no snapshot since
    /// has.
    fn go_through_openings(&mut self, snapshot: &mut Snapshot) {
        let begun = self.clock.ns(snapshot.at);
        let due: Vec<(u32, u64)> = self.look_again.extract_if(.., |(_, at)| *at < begun).collect();
        if due.is_empty() {
            return;
        }
        for object in self.objects_with_openings() {
            let opening = self.hooks.openings.get(&object).ok().map(|bytes| Opening::new(&bytes));
            let Some(opening) = opening.filter(|_| !self.by_object.contains_key(&object)) else { continue };
            let closed = due.iter().find(|(tgid, at)| *tgid == opening.by.tgid && *at > opening.by.at);
            if let Some((_, at)) = closed {
                self.forget(object, opening.inode);
                self.close(object, &opening, *at, Remains::default(), snapshot);
            }
        }
    }

    fn objects_with_openings(&self) -> Vec<u64> {
        let (openings, mut all) = (&self.hooks.openings, Vec::new());
        let mut next = openings.key_after::<u64>(None).unwrap_or(None);
        // The table changes meanwhile: no more than it has room for.
        while let Some(object) = next.filter(|_| all.len() < openings.entries_max() as usize) {
            all.push(object);
            next = openings.key_after(Some(object)).unwrap_or(None);
        }
        all
    }

    /// Forgets what nobody holds any more, here and in the kernel.
    pub(super) fn forget_gone(&mut self, snapshot: &Snapshot) {
        for identity in &snapshot.gone {
            let Some(known) = self.known.remove(identity) else { continue };
            if self.by_object.get(&known.object) == Some(identity) {
                self.by_object.remove(&known.object);
            }
            self.forget(known.object, known.inode);
        }
    }

    /// Takes out what the kernel's side keeps of a socket or file, unless its address is another's by now.
    fn forget(&mut self, object: u64, inode: u64) {
        let opening = self.hooks.openings.get(&object).ok().map(|bytes| Opening::new(&bytes));
        if opening.is_none_or(|opening| opening.inode == inode) {
            // What isn't there needs no taking out.
            let _ = self.hooks.openings.delete(&object);
            let _ = self.hooks.uses.delete(&object);
        }
    }
}
