//! One look at what is open, as `lsof` shows it.

use super::detail::detail_words;
use super::table::{self, Align};
use crate::model::{Address, Detail, Holder, Kind, Lifetime, Process, SocketType, State, Target};
use std::io::{self, Write};

/// How an address is written: as numbers, or by name.
pub type AddressWriter<'a> = &'a dyn Fn(&Address) -> String;

const COLUMNS: [(&str, Align); 8] = [
    ("COMMAND", Align::Left),
    ("PID", Align::Right),
    ("USER", Align::Left),
    ("FD", Align::Right),
    ("TYPE", Align::Left),
    ("NODE", Align::Right),
    ("SILENT", Align::Right),
    ("NAME", Align::Left),
];

/// The table, a row per descriptor.
pub fn text(out: &mut dyn Write, target: &Target, open: &[Lifetime], address: AddressWriter) -> io::Result<()> {
    let rows: Vec<Vec<String>> = rows(target, open)
        .into_iter()
        .map(|row| {
            let ([command, pid, user, fd, access], (_, it)) = (whose(&row), row);
            let silent = it.resource.activity.silent_seconds.map(crate::model::duration_words);
            vec![
                command,
                pid,
                user,
                format!("{fd}{access}"),
                type_name(it).to_owned(),
                node(it),
                silent.unwrap_or_default(),
                [name(it, address), detail(it)].join(" ").trim_end().to_owned(),
            ]
        })
        .collect();
    table::write(out, &COLUMNS, &rows, 0)
}

/// The same as CSV with a heading.
pub fn csv(out: &mut dyn Write, target: &Target, open: &[Lifetime], address: AddressWriter) -> io::Result<()> {
    writeln!(
        out,
        "command,pid,user,fd,access,kind,type,node,local,remote,state,silent_seconds,bytes_sent,bytes_received,name,detail"
    )?;
    for row in rows(target, open) {
        let ([command, pid, user, fd, access], (_, it)) = (whose(&row), row);
        let resource = &it.resource;
        let number = |value: Option<u64>| value.map(|it| it.to_string()).unwrap_or_default();
        let end = |end: &Option<Address>| end.as_ref().map(address).unwrap_or_default();
        let cells = [
            command,
            pid,
            user,
            fd,
            access,
            resource.kind.name().to_owned(),
            type_name(it).to_owned(),
            node(it),
            end(&resource.local),
            end(&resource.remote),
            resource.state.map(|it| it.name().to_owned()).unwrap_or_default(),
            resource.activity.silent_seconds.map(|it| format!("{it:.3}")).unwrap_or_default(),
            number(resource.activity.bytes_sent),
            number(resource.activity.bytes_received),
            name(it, address),
            resource.detail.as_deref().map(detail_words).unwrap_or_default(),
        ];
        writeln!(out, "{}", cells.map(|cell| table::csv_cell(&cell)).join(","))?;
    }
    Ok(())
}

/// A descriptor with its process, where these are known, and what it refers to.
type Row<'a> = (Option<(&'a Process, &'a Holder)>, &'a Lifetime);

/// Every descriptor in the order of processes and numbers; then what nobody is known to hold.
fn rows<'a>(target: &'a Target, open: &'a [Lifetime]) -> Vec<Row<'a>> {
    let held = |it: &'a Lifetime| {
        let holders = it.holders.iter().filter_map(|holder| Some((target.processes.get(&holder.process)?, holder)));
        holders.map(move |holder| (Some(holder), it))
    };
    let mut rows: Vec<Row> = open.iter().flat_map(held).collect();
    rows.sort_by_key(|(holder, _)| holder.map(|(_, holder)| (holder.process, holder.fd)));
    rows.extend(open.iter().filter(|it| it.holders.is_empty()).map(|it| (None, it)));
    rows
}

/// Command, pid, user, descriptor and access; of what nobody is known to hold the user alone, where the socket tells it.
fn whose((held, lifetime): &Row) -> [String; 5] {
    let Some((process, holder)) = held else {
        let uid = lifetime.resource.detail.as_ref().and_then(|detail| detail.uid);
        let user = uid.map(|uid| uid.to_string()).unwrap_or_default();
        return [String::new(), String::new(), user, String::new(), String::new()];
    };
    let access = holder.access.map(|it| it.letter().to_owned()).unwrap_or_default();
    [process.name.clone(), process.id.pid.to_string(), process.user.clone(), holder.fd.to_string(), access]
}

/// lsof's TYPE.
fn type_name(lifetime: &Lifetime) -> &'static str {
    let resource = &lifetime.resource;
    match resource.kind {
        // A socket that was never bound or connected stands in no table: lsof calls it so, too.
        Kind::Tcp | Kind::Udp | Kind::Raw if resource.local.is_none() => "sock",
        Kind::Tcp | Kind::Udp | Kind::Raw if resource.ipv6 => "IPv6",
        Kind::Tcp | Kind::Udp | Kind::Raw => "IPv4",
        Kind::Unix => "unix",
        Kind::Netlink => "netlink",
        Kind::Packet => "pack",
        Kind::Socket => "sock",
        Kind::Pipe => "FIFO",
        Kind::File | Kind::Memfd => "REG",
        Kind::Directory => "DIR",
        Kind::CharDevice => "CHR",
        Kind::BlockDevice => "BLK",
        _ => "a_inode",
    }
}

/// lsof's NODE: the protocol of an internet socket, else the inode.
fn node(lifetime: &Lifetime) -> String {
    let resource = &lifetime.resource;
    match resource.kind {
        Kind::Tcp if resource.local.is_some() => "TCP".to_owned(),
        Kind::Udp if resource.local.is_some() => "UDP".to_owned(),
        Kind::Raw if resource.local.is_some() => "RAW".to_owned(),
        _ => resource.inode.map(|inode| inode.to_string()).unwrap_or_default(),
    }
}

/// What the table says behind the NAME: all but a socket's, whose NAME is full, and what the NAME says already.
fn detail(lifetime: &Lifetime) -> String {
    let resource = &lifetime.resource;
    if resource.socket_type.is_some() || resource.local.is_some() {
        return String::new();
    }
    let Some(detail) = resource.detail.as_deref() else { return String::new() };
    detail_words(&Detail { deleted: None, ..detail.clone() })
}

/// lsof's NAME: `10.0.0.1:43162->10.0.0.5:5432 (ESTABLISHED)`; of a Unix socket its name, its type and its peer.
fn name(lifetime: &Lifetime, address: AddressWriter) -> String {
    let resource = &lifetime.resource;
    let state = resource.state.map(|state| format!(" ({})", State::name(state))).unwrap_or_default();
    match (resource.kind, &resource.local, &resource.remote) {
        (Kind::Unix, local, remote) => {
            let socket_type = resource.socket_type.unwrap_or(SocketType::Stream).name();
            let own = local.as_ref().map(|it| format!("{} ", address(it))).unwrap_or_default();
            let peer = resource.peer.as_ref().map(|peer| {
                let owner = peer.owner.map(|(pid, fd)| format!(" pid {pid} fd {fd}")).unwrap_or_default();
                let name = remote.as_ref().map(|it| format!(" {}", address(it))).unwrap_or_default();
                format!(" -> {}{owner}{name}", peer.inode)
            });
            format!("{own}type={socket_type}{}{state}", peer.unwrap_or_default())
        }
        (Kind::Tcp | Kind::Udp | Kind::Raw, Some(local), Some(remote)) => {
            format!("{}->{}{state}", bound(local, address), address(remote))
        }
        (Kind::Tcp | Kind::Udp | Kind::Raw, Some(local), None) => format!("{}{state}", bound(local, address)),
        _ => resource.name.clone().unwrap_or_else(|| resource.kind.name().to_owned()),
    }
}

/// Our own end; any address is `*`, any port too.
fn bound(local: &Address, address: AddressWriter) -> String {
    match local {
        Address::Inet(inet) if inet.ip().is_unspecified() => {
            let port = if inet.port() == 0 { "*".to_owned() } else { inet.port().to_string() };
            format!("*:{port}")
        }
        other => address(other),
    }
}
