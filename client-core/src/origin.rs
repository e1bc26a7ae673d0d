//! Web origins, as far as the core must understand them: where a relay is, and whether the way
//! there is one on which nobody can sit in between unnoticed.
//!
//! Strict on purpose: what two URL parsers could read differently (user names, backslashes,
//! control characters) is refused, so that the host checked here is the host a driver dials.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest origin: a 253-byte host name with room for scheme and port.
pub const ORIGIN_BYTES_MAX: usize = 300;

/// `scheme://host[:port]` with nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    text: String,
    secure: bool,
    loopback: bool,
}

/// A text that should have been an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a relay address: expected http://host:port or https://host, with nothing behind it")]
pub struct NotAnOrigin;

impl Origin {
    /// Parses an origin; one trailing slash is forgiven. Scheme and host come out in lower case.
    ///
    /// # Errors
    /// [`NotAnOrigin`].
    pub fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        let (origin, rest) = Self::split(text)?;
        if matches!(rest, "" | "/") { Ok(origin) } else { Err(NotAnOrigin) }
    }

    /// Parses the origin in front of a URL; the second value is what stands behind it.
    ///
    /// # Errors
    /// [`NotAnOrigin`].
    pub fn split(url: &str) -> Result<(Self, &str), NotAnOrigin> {
        let (scheme, rest) = url.split_once("://").ok_or(NotAnOrigin)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnOrigin),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        let host = Host::parse(host)?;
        let scheme = if secure { "https" } else { "http" };
        // The scheme's own port is not written, so that equal origins are equal texts.
        let port = match port {
            Some(443) if secure => None,
            Some(80) if !secure => None,
            other => other,
        };
        let text = match port {
            Some(port) => format!("{scheme}://{}:{port}", host.text),
            None => format!("{scheme}://{}", host.text),
        };
        if text.len() > ORIGIN_BYTES_MAX {
            return Err(NotAnOrigin);
        }
        Ok((Self { text, secure, loopback: host.loopback }, rest))
    }

    /// Normal form, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the first contact may trust the key it finds: TLS vouches for the host, or there is
    /// no network in between.
    #[must_use]
    pub fn allows_trust_on_first_use(&self) -> bool {
        self.secure || self.loopback
    }
}

struct Host {
    text: String,
    loopback: bool,
}

impl Host {
    fn parse(text: &str) -> Result<Self, NotAnOrigin> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']').and_then(|inner| inner.parse().ok()).ok_or(NotAnOrigin)?;
            return Ok(Self { text: format!("[{address}]"), loopback: address.is_loopback() });
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self { text: address.to_string(), loopback: address.is_loopback() });
        }
        let is_name = !text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
            // A last label of digits is an IPv4 address in a spelling that parsers disagree about.
            && !text.rsplit('.').next().is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit()))
            && text.split('.').all(|label| !label.is_empty());
        if !is_name {
            return Err(NotAnOrigin);
        }
        let text = text.to_ascii_lowercase();
        let loopback = text == "localhost";
        Ok(Self { text, loopback })
    }
}

/// `host[:port]`; the colons of a bracketed IPv6 address are not ports.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), NotAnOrigin> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].split_once(':') {
        None => Ok((authority, None)),
        Some((name, port)) => {
            let is_number = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|_| is_number).ok_or(NotAnOrigin)?;
            Ok((&authority[..host_end + name.len()], Some(port)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        Origin::parse(text).ok().map(|origin| origin.text)
    }

    #[test]
    fn equal_origins_have_one_spelling() {
        assert_eq!(parse("HTTPS://Relay.Example:443/").as_deref(), Some("https://relay.example"));
        assert_eq!(parse("http://[0:0::1]:8080").as_deref(), Some("http://[::1]:8080"));
        assert_eq!(parse("http://127.0.0.1:80").as_deref(), Some("http://127.0.0.1"));
    }

    #[test]
    fn what_parsers_disagree_about_is_refused() {
        for text in [
            "",
            "relay.example",
            "ws://relay.example",
            "https://",
            "https://a b",
            "https://user@relay.example",
            "http://localhost:80@evil.example",
            "http://evil.example\\@localhost",
            "https://relay.example/path",
            "https://relay.example?x",
            "https://relay.example#x",
            "https://relay.example:99999",
            "https://relay.example:",
            "https://relay.example:+1",
            "http://2130706433",
            "http://127.1",
            "http://0x7f.0.0.1",
            "http://[::1",
            "http://::1",
            "https://relay..example",
            "https://ä.example",
            "http://[::1]x:80",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_https_and_loopback_are_trusted_at_first_use() {
        let trusted = |text| Origin::parse(text).expect("an origin").allows_trust_on_first_use();
        for text in ["https://relay.example", "http://localhost:8080", "http://127.8.9.1", "http://[::1]:1"] {
            assert!(trusted(text), "{text}");
        }
        for text in ["http://relay.example", "http://192.168.1.2:8080", "http://localhost.evil.example", "http://[::2]"]
        {
            assert!(!trusted(text), "{text}");
        }
    }

    #[test]
    fn an_origin_ends_where_the_path_begins() {
        let (origin, rest) = Origin::split("https://app.example/pair?x=1").expect("a URL");
        assert_eq!((origin.as_str(), rest), ("https://app.example", "/pair?x=1"));
    }
}
