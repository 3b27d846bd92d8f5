//! Where connections go: the URL as the user wrote it, and the address behind it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use crate::failure::Failure;

/// What stands for the number of a path.
pub(crate) const PLACE: &str = "{i}";

/// Longest wait for the one connection that tells whether somebody listens.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections from one source address to one destination: Linux gives about 28,000 ports to connects.
const PORTS_PER_SOURCE: usize = 20_000;

/// What is spoken on a connection. WebSocket is to be the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Sse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) protocol: Protocol,
    /// Host and port as they stand in the `Host` header.
    pub(crate) authority: String,
    host: String,
    port: u16,
    /// Path and query, with the placeholder in it.
    path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: &'static str| Failure::Url {
            url: text.to_owned(),
            why,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("it has to begin with http://"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(Failure::Tls(text.to_owned())),
            "ws" | "wss" => {
                return Err(bad("WebSocket is not supported yet, only SSE over http://"));
            }
            _ => return Err(bad("only http:// is supported")),
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err(bad("a user name or password is not supported"));
        }
        let (host, port) =
            split_port(authority).ok_or_else(|| bad("the port has to be 1 to 65535"))?;
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        if text.contains(|c: char| c.is_control() || c == ' ' || !c.is_ascii()) {
            return Err(bad(
                "spaces and other than ASCII characters have to be percent-encoded",
            ));
        }
        let slash = if path.starts_with('?') { "/" } else { "" };
        Ok(Self {
            protocol: Protocol::Sse,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    /// The URL that `text` means beside this one: a path alone is one of the same server.
    pub(crate) fn join(&self, text: &str) -> Result<Self, Failure> {
        if text.starts_with('/') {
            return Self::parse(&format!("http://{}{text}", self.authority));
        }
        Self::parse(text)
    }

    pub(crate) fn has_place(&self) -> bool {
        self.path.contains(PLACE)
    }

    /// Path and query as they were given.
    pub(crate) fn pattern(&self) -> &str {
        &self.path
    }

    /// Path and query of the path with this number.
    pub(crate) fn path(&self, number: u32) -> String {
        self.path.replace(PLACE, &number.to_string())
    }

    /// The first of the host's addresses at which somebody listens.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, Failure> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, self.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| Failure::Resolve {
            host: host.to_owned(),
            error,
        })?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, PROBE_TIMEOUT) {
                Ok(_) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(Failure::Connect {
            authority: self.authority.clone(),
            error: last,
        })
    }
}

fn split_port(authority: &str) -> Option<(&str, u16)> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| at + bracket),
        None => authority.rfind(':'),
    };
    let Some(colon) = colon else {
        return Some((authority, 80));
    };
    let port = authority[colon + 1..]
        .parse()
        .ok()
        .filter(|&port| port > 0)?;
    Some((&authority[..colon], port))
}

/// Local addresses, such as `127.0.0.1` or `127.0.0.1-127.0.0.8`.
pub(crate) fn parse_sources(text: &str) -> Result<Vec<IpAddr>, String> {
    let address = |text: &str| {
        text.trim()
            .parse::<IpAddr>()
            .map_err(|_| format!("{text:?} is no IP address"))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let Some((first, last)) = part.split_once('-') else {
            all.push(address(part)?);
            continue;
        };
        match (address(first)?, address(last)?) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                let (first, last) = (u32::from(first), u32::from(last));
                if last - first >= 1 << 16 {
                    return Err("a range has at most 65,536 addresses".to_owned());
                }
                all.extend((first..=last).map(|bits| IpAddr::from(Ipv4Addr::from(bits))));
            }
            _ => {
                return Err(format!(
                    "{part:?} is no range from one IPv4 address to a later one"
                ));
            }
        }
    }
    Ok(all)
}

/// As many loopback addresses as so many connections need, or none where the system can choose by itself.
pub(crate) fn sources_for(target: SocketAddr, connections: usize) -> Vec<IpAddr> {
    // Elsewhere than on Linux the loopback device has but one address.
    if !cfg!(target_os = "linux") || !target.ip().is_loopback() || !target.is_ipv4() {
        return Vec::new();
    }
    match connections.div_ceil(PORTS_PER_SOURCE) {
        0 | 1 => Vec::new(),
        count => (1..=u32::try_from(count).unwrap_or(u32::MAX >> 8))
            .map(|host| IpAddr::from(Ipv4Addr::from(0x7f00_0000 | host)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("http://[::1]:8080/events/{i}?a={i}#x").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 8080));
        assert_eq!(url.path(12), "/events/12?a=12");
        assert!(url.has_place());
        let url = Url::parse("HTTP://example.org").unwrap();
        assert_eq!((url.port, url.path(0).as_str()), (80, "/"));
        assert_eq!(Url::parse("http://h?q").unwrap().path(0), "/?q");
        let joined = url.join("/publish/{i}").unwrap();
        assert_eq!(joined.authority, "example.org");
        assert_eq!(joined.path(3), "/publish/3");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason() {
        for (url, reason) in [
            ("localhost:8080/events", "http://"),
            ("https://localhost/", "TLS"),
            ("ws://localhost/", "WebSocket"),
            ("ftp://localhost/", "only http://"),
            ("http:///events", "host"),
            ("http://localhost:99999/", "port"),
            ("http://me:secret@localhost/", "password"),
            ("http://localhost/a b", "percent-encoded"),
        ] {
            let message = Url::parse(url).unwrap_err().to_string();
            assert!(message.contains(reason), "{url}: {message}");
        }
    }

    #[test]
    fn sources_are_single_or_a_range() {
        let parsed = parse_sources("127.0.0.254-127.0.1.1,::1").unwrap();
        let text: Vec<String> = parsed.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "127.0.0.254",
                "127.0.0.255",
                "127.0.1.0",
                "127.0.1.1",
                "::1"
            ]
        );
        for bad in [
            "",
            "localhost",
            "127.0.0.2-127.0.0.1",
            "::1-::2",
            "0.0.0.0-9.9.9.9",
        ] {
            assert!(parse_sources(bad).is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn many_connections_to_the_loopback_device_get_sources() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        assert_eq!(sources_for(loopback, 20_000), Vec::<IpAddr>::new());
        assert_eq!(sources_for(loopback, 100_000).len(), 5);
        let other = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 80));
        assert_eq!(sources_for(other, 100_000), Vec::<IpAddr>::new());
    }
}
