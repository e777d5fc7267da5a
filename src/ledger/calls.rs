//! What the system calls do that the ledger hooks.

use crate::model::Kind;

/// How many numbers the kernel's side knows: `CALLS_MAX` in `bpf/ledger.h`.
const CALLS_MAX: usize = 512;

/// `enum call` in `bpf/ledger.h`.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Call {
    Creates = 1,
    Opens,
    OpensAt,
    CreatesPipe,
    CreatesPair,
    Accepts,
    Closes,
    ClosesRange,
    Replaces,
    SendsBuffer,
    SendsVector,
    SendsMessage,
    SendsMessages,
    SendsFile,
}

/// What an anonymous inode is, by the number of the call that made it.
pub(super) fn kind(number: u16) -> Kind {
    match libc::c_long::from(number) {
        libc::SYS_inotify_init1 => Kind::Inotify,
        libc::SYS_fanotify_init => Kind::Fanotify,
        libc::SYS_eventfd2 => Kind::Eventfd,
        libc::SYS_epoll_create1 => Kind::Epoll,
        libc::SYS_signalfd4 => Kind::Signalfd,
        libc::SYS_timerfd_create => Kind::Timerfd,
        libc::SYS_memfd_create | libc::SYS_memfd_secret => Kind::Memfd,
        libc::SYS_userfaultfd => Kind::Userfaultfd,
        libc::SYS_perf_event_open => Kind::PerfEvent,
        libc::SYS_io_uring_setup => Kind::IoUring,
        libc::SYS_pidfd_open => Kind::Pidfd,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_inotify_init => Kind::Inotify,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_eventfd => Kind::Eventfd,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_create => Kind::Epoll,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_signalfd => Kind::Signalfd,
        _ => Kind::Other,
    }
}

/// Where a call that this machine lacks would stand.
const NONE: libc::c_long = -1;

#[cfg(target_arch = "x86_64")]
const OLD: [libc::c_long; 9] = [
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_signalfd,
    libc::SYS_eventfd,
    libc::SYS_epoll_create,
    libc::SYS_inotify_init,
    libc::SYS_sendfile,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [libc::c_long; 9] = [NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, libc::SYS_sendfile];

/// What each call does, by its number on this machine.
pub(super) fn table() -> [u8; CALLS_MAX] {
    let [open, creat, pipe, dup2, signalfd, eventfd, epoll_create, inotify_init, sendfile] = OLD;
    let creates = [
        signalfd,
        eventfd,
        epoll_create,
        inotify_init,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_socket,
        libc::SYS_signalfd4,
        libc::SYS_eventfd2,
        libc::SYS_epoll_create1,
        libc::SYS_inotify_init1,
        libc::SYS_fanotify_init,
        libc::SYS_timerfd_create,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_pidfd_open,
    ];
    let others = [
        (open, Call::Opens),
        (creat, Call::Opens),
        (libc::SYS_openat, Call::OpensAt),
        (libc::SYS_openat2, Call::OpensAt),
        (pipe, Call::CreatesPipe),
        (libc::SYS_pipe2, Call::CreatesPipe),
        (libc::SYS_socketpair, Call::CreatesPair),
        (libc::SYS_accept, Call::Accepts),
        (libc::SYS_accept4, Call::Accepts),
        (libc::SYS_close, Call::Closes),
        (libc::SYS_close_range, Call::ClosesRange),
        (dup2, Call::Replaces),
        (libc::SYS_dup3, Call::Replaces),
        (libc::SYS_write, Call::SendsBuffer),
        (libc::SYS_sendto, Call::SendsBuffer),
        (libc::SYS_writev, Call::SendsVector),
        (libc::SYS_sendmsg, Call::SendsMessage),
        (libc::SYS_sendmmsg, Call::SendsMessages),
        (sendfile, Call::SendsFile),
    ];
    let mut table = [0; CALLS_MAX];
    let all = creates.into_iter().map(|number| (number, Call::Creates)).chain(others);
    for (number, call) in all {
        if let Some(place) = usize::try_from(number).ok().and_then(|number| table.get_mut(number)) {
            *place = call as u8;
        }
    }
    table
}

const _: () = assert!(NONE < 0);
