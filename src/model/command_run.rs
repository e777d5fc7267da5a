//! A command that was started under us, to be judged at its end.

use super::{Address, Kind, Lifetime, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a run is judged by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandRun {
    /// What outlives the command is looked at again this long after its end.
    pub settle_seconds: f64,
    /// Known pools.
    pub allowed: Vec<Allowance>,
    /// When the command was found to have ended; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// True where the kernel told of each process what it held as it ended. Without that, what was closed after the last
    /// tick looks as if it had been left open.
    pub has_last_look: bool,
    /// What its processes may have left open unseen, and why: one sentence each, with what was lost so far. With any, the
    /// run can't be called clean.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// A pool that may be open at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// `tcp`, `udp` or `unix`.
    pub kind: String,
    /// `:5432`, `10.0.0.5:5432`, a Unix socket's path; empty: all of the kind.
    pub endpoint: String,
    /// So many of them.
    pub most: usize,
}

impl Allowance {
    /// Reads `tcp:5432<=5`, `tcp:10.0.0.5:5432<=5`, `unix:/run/db.sock<=2` and `unix<=3`; says what is wrong with others.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (pool, most) = text.split_once("<=").ok_or("there is no <= in it")?;
        let most = most.trim().parse().map_err(|_| format!("{most:?} is not a number of connections"))?;
        let (kind, endpoint) = pool.trim().split_once(':').unwrap_or((pool.trim(), ""));
        if !["tcp", "udp", "unix"].contains(&kind) {
            return Err(format!("{kind:?} is none of tcp, udp and unix"));
        }
        let endpoint = if kind == "unix" || endpoint.is_empty() {
            endpoint.to_owned()
        } else if let Ok(port) = endpoint.parse::<u16>() {
            format!(":{port}")
        } else {
            match Address::parse(endpoint) {
                address @ Address::Inet(_) => address.to_string(),
                _ => return Err(format!("{endpoint:?} is neither a port nor ADDRESS:PORT")),
            }
        };
        Ok(Allowance { kind: kind.to_owned(), endpoint, most })
    }

    /// True of a connection of the pool.
    pub fn covers(&self, lifetime: &Lifetime) -> bool {
        let remote = lifetime.resource.remote.as_ref().map(Address::to_string).unwrap_or_default();
        Kind::parse(&self.kind) == lifetime.resource.kind
            && match self.endpoint.strip_prefix(':') {
                Some(_) => remote.ends_with(&self.endpoint),
                None => self.endpoint.is_empty() || self.endpoint == remote,
            }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.trim_start_matches(':');
        let colon = if endpoint.is_empty() { "" } else { ":" };
        write!(out, "{}{colon}{endpoint}<={}", self.kind, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_and_nonsense_is_refused() {
        for text in ["tcp:5432<=5", "tcp:10.0.0.5:5432<=0", "unix:/run/db.sock<=2", "unix<=3", "udp:[::1]:53<=1"] {
            assert_eq!(Allowance::parse(text).map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in ["tcp:5432", "tcp:5432<=", "tcp:5432<=-1", "file<=3", "tcp:db<=3", "tcp:99999<=1", ""] {
            assert!(Allowance::parse(text).is_err(), "{text}");
        }
    }
}
