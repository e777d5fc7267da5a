//! The rows of lifetimes: what a tick writes of them, and how one is read back.

use super::code;
use super::gone::Gone;
use crate::model::{
    Access, Address, Holder, Identity, Kind, Lifetime, LifetimeId, Resource, SocketType, State, Tick, Timestamp,
    Traffic, UnixPeer,
};
use rusqlite::{CachedStatement, Row, Transaction, params};

/// Writes what a tick tells of lifetimes, but for what it would put in and take out again.
pub(super) fn write(transaction: &Transaction, tick: &Tick) -> rusqlite::Result<()> {
    let gone = Gone::of(tick);
    let mut write = transaction.prepare_cached(
        "INSERT OR REPLACE INTO lifetime VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut activity = transaction.prepare_cached("INSERT OR REPLACE INTO activity VALUES (?, ?, ?, ?)")?;
    let mut forget_holders = transaction.prepare_cached("DELETE FROM holder WHERE lifetime = ?")?;
    let mut hold = transaction.prepare_cached("INSERT OR REPLACE INTO holder VALUES (?, ?, ?, ?)")?;
    let mut code = code::Statements::prepare(transaction)?;
    for lifetime in tick.opened.iter().filter(|lifetime| !gone.has(lifetime.id)) {
        write_row(&mut write, lifetime)?;
        write_activity(&mut activity, lifetime)?;
        write_holders(&mut hold, lifetime)?;
        code.write(lifetime)?;
    }
    for lifetime in tick.changed.iter().filter(|lifetime| !gone.has(lifetime.id)) {
        write_row(&mut write, lifetime)?;
        write_activity(&mut activity, lifetime)?;
        forget_holders.execute([lifetime.id.0 as i64])?;
        write_holders(&mut hold, lifetime)?;
        code.write(lifetime)?;
    }
    for traffic in tick.traffic.iter().filter(|traffic| !gone.has(traffic.id)) {
        write_traffic(&mut activity, traffic)?;
    }
    for usage in tick.used.iter().filter(|usage| !gone.has(usage.id)) {
        code.write_last_use(usage.id, &usage.last)?;
    }
    for lifetime in tick.closed.iter().map(|closing| &closing.lifetime).filter(|lifetime| !gone.has(lifetime.id)) {
        write_row(&mut write, lifetime)?;
        code.write(lifetime)?;
    }
    gone.written().try_for_each(|id| forget(transaction, id))
}

/// Reads a row of all its columns, with `detail` and `label` or what stands for them behind those of its activity.
pub(super) fn read(row: &Row, holders: Vec<Holder>) -> rusqlite::Result<Lifetime> {
    let text = |column: usize| row.get::<_, Option<String>>(column);
    let time = |column: usize| row.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    let count = |column: usize| row.get::<_, Option<i64>>(column).map(|count| count.map(|count| count as u64));
    let identity = Identity(row.get::<_, i64>(17)? as u64, row.get::<_, i64>(18)? as u64);
    let mut resource = Resource::new(identity, Kind::parse(&row.get::<_, String>(1)?));
    resource.ipv6 = row.get(2)?;
    resource.socket_type = text(3)?.and_then(|name| match name.as_str() {
        "stream" => Some(SocketType::Stream),
        "dgram" => Some(SocketType::Datagram),
        "seqpacket" => Some(SocketType::Seqpacket),
        _ => None,
    });
    resource.inode = count(4)?;
    resource.name = text(5)?;
    let address = |text: String| if resource.kind == Kind::Unix { Address::Unix(text) } else { Address::parse(&text) };
    resource.local = text(6)?.map(address);
    resource.remote = text(7)?.map(address);
    resource.peer = count(8)?.map(|inode| UnixPeer { inode, owner: None });
    resource.state = text(9)?.as_deref().and_then(State::parse);
    resource.activity.bytes_sent = count(19)?;
    resource.activity.bytes_received = count(20)?;
    // One that is no detail was written by somebody else: it is unknown, and nothing else is lost by it.
    resource.detail = text(22)?.and_then(|detail| serde_json::from_str(&detail).ok());
    resource.label = text(23)?.map(String::into_boxed_str);
    Ok(Lifetime {
        id: LifetimeId(row.get::<_, i64>(0)? as u64),
        resource,
        holders,
        accepted_by: text(10)?,
        opened_after: time(11)?,
        opened: Timestamp(row.get(12)?),
        opened_exact: row.get(13)?,
        last_seen: Timestamp(row.get(14)?),
        closed: time(15)?,
        ended_with_process: row.get(16)?,
        opener: None,
        last_use: None,
        last_active: time(21)?,
    })
}

fn write_row(statement: &mut CachedStatement, lifetime: &Lifetime) -> rusqlite::Result<usize> {
    let resource = &lifetime.resource;
    let socket_type = resource.socket_type.map(|it| match it {
        SocketType::Stream => "stream",
        SocketType::Datagram => "dgram",
        SocketType::Seqpacket => "seqpacket",
    });
    statement.execute(params![
        lifetime.id.0 as i64,
        resource.kind.name(),
        resource.ipv6,
        socket_type,
        resource.inode.map(|inode| inode as i64),
        resource.name,
        resource.local.as_ref().map(ToString::to_string),
        resource.remote.as_ref().map(ToString::to_string),
        resource.peer.as_ref().map(|peer| peer.inode as i64),
        resource.state.map(State::name),
        lifetime.accepted_by,
        lifetime.opened_after.map(|at| at.0),
        lifetime.opened.0,
        lifetime.opened_exact,
        lifetime.last_seen.0,
        lifetime.closed.map(|at| at.0),
        lifetime.ended_with_process,
        resource.identity.0 as i64,
        resource.identity.1 as i64,
        // A detail is plain names and numbers: it always has a JSON.
        resource.detail.as_ref().and_then(|detail| serde_json::to_string(detail).ok()),
        resource.label
    ])
}

fn write_activity(statement: &mut CachedStatement, lifetime: &Lifetime) -> rusqlite::Result<()> {
    let Lifetime { id, last_active, .. } = *lifetime;
    write_traffic(statement, &Traffic { id, activity: lifetime.resource.activity, last_active })
}

fn write_traffic(statement: &mut CachedStatement, traffic: &Traffic) -> rusqlite::Result<()> {
    let Traffic { id, activity, last_active } = traffic;
    let (sent, received) = (activity.bytes_sent.map(|it| it as i64), activity.bytes_received.map(|it| it as i64));
    if sent.is_some() || received.is_some() || last_active.is_some() {
        statement.execute(params![id.0 as i64, sent, received, last_active.map(|at| at.0)])?;
    }
    Ok(())
}

fn write_holders(statement: &mut CachedStatement, lifetime: &Lifetime) -> rusqlite::Result<()> {
    for holder in &lifetime.holders {
        let access = holder.access.map(Access::letter);
        statement.execute(params![lifetime.id.0 as i64, holder.process.0, holder.fd, access])?;
    }
    Ok(())
}

fn forget(transaction: &Transaction, id: LifetimeId) -> rusqlite::Result<()> {
    let id = id.0 as i64;
    transaction.prepare_cached("DELETE FROM lifetime WHERE id = ?")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM activity WHERE lifetime = ?")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM holder WHERE lifetime = ?")?.execute([id])?;
    code::forget(transaction, id)
}
