//! Where a socket is bound or connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An end of a socket: an internet address with its port, or a Unix socket's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP or UDP. A v4-mapped IPv6 address is held as IPv4.
    Inet(SocketAddr),
    /// A Unix socket's path; an abstract name begins with `@`.
    Unix(String),
}

impl Address {
    /// An internet address, v4-mapped ones turned into IPv4.
    pub fn inet(ip: IpAddr, port: u16) -> Self {
        let ip = match ip {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
            v4 @ IpAddr::V4(_) => v4,
        };
        Address::Inet(SocketAddr::new(ip, port))
    }

    /// Reads back what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Address::Unix(text.to_owned()), Address::Inet)
    }

    /// The port of an internet address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Inet(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    /// `10.0.0.1:5432`, `[::1]:5432`, or the Unix socket's name as it is.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(out),
            Address::Unix(name) => out.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(Address::inet(mapped, 5432).to_string(), "10.0.0.1:5432");
        assert_eq!(Address::inet(IpAddr::V6(Ipv6Addr::LOCALHOST), 80).to_string(), "[::1]:80");
    }

    #[test]
    fn parse_reads_what_display_wrote() {
        for text in ["10.0.0.1:5432", "[::1]:80", "/run/pg/.s.PGSQL.5432", "@dbus"] {
            assert_eq!(Address::parse(text).to_string(), text);
        }
    }
}
