//! What every process of the machine holds, counted and not listed: for a look at all of them at once.

/// What one process holds. A descriptor counts, so a socket that two of them lead to counts twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessHoldings {
    /// The process, by its pid at that moment.
    pub pid: u32,
    /// Its descriptors.
    pub descriptors: Option<u64>,
    /// Those of them that lead to sockets of any family.
    pub sockets: Option<u64>,
    /// Those of its sockets that have a peer: TCP past the listening, connected UDP and Unix sockets.
    pub connections: Option<u64>,
    /// Its TCP connections that carried no byte either way for longer than was asked for.
    pub silent: Option<u64>,
    /// Its TCP connections that the peer has closed and the process has not.
    pub close_wait: Option<u64>,
    /// Its TCP sockets that listen.
    pub listening: Option<u64>,
}
