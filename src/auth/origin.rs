//! Origins: the pages that may open a WebSocket with a visitor's cookies (RFC 6454, RFC 6455 section 10.2).
//!
//! Comparison is by whole value. There is no pattern, no suffix and no parsing of a stranger's bytes, so there is
//! nothing to be clever with. design: endpoint.md, check origin, threats.md row 1.

use std::net::Ipv6Addr;

/// Whether the value of an Origin field equals an entry of the list, which [`parse_origin`] made.
///
/// Scheme and host are compared in ASCII lower case; the rest of an origin is digits, so the whole can be. A default
/// port that is written out never equals: RFC 6454 section 6.2 leaves it out, and so do browsers.
pub fn origin_allowed(list: &[String], origin: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(origin))
}

/// Reads an origin of the configuration and returns it as browsers send it: lower case, without a default port. The
/// error names its fault.
pub fn parse_origin(text: &str) -> Result<String, &'static str> {
    if text == "null" {
        return Err("null is the origin of every sandboxed page of every site");
    }
    let (scheme, rest) = text.split_once("://").ok_or("an origin is scheme://host or scheme://host:port")?;
    if !is_scheme(scheme) {
        return Err("the scheme may hold letters, digits, plus, hyphen and dot only");
    }
    let (host, port) = split_port(rest)?;
    let scheme = scheme.to_ascii_lowercase();
    let host = parse_host(host)?;
    match port.map(parse_port).transpose()? {
        Some(port) if Some(port) != default_port(&scheme) => Ok(format!("{scheme}://{host}:{port}")),
        _ => Ok(format!("{scheme}://{host}")),
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Splits at the colon before a port, not at one inside an IPv6 address.
fn split_port(rest: &str) -> Result<(&str, Option<&str>), &'static str> {
    if rest.contains('@') {
        return Err("an origin has no user name");
    }
    if rest.contains(['/', '?', '#', '\\']) {
        return Err("an origin has no path, not even a slash at the end");
    }
    let host_end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
    match rest[host_end..].find(':') {
        Some(colon) => Ok((&rest[..host_end + colon], Some(&rest[host_end + colon + 1..]))),
        None => Ok((rest, None)),
    }
}

fn parse_host(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "the address in brackets is not IPv6")?;
        return Ok(format!("[{address}]"));
    }
    if host.contains('*') {
        return Err("an origin has no pattern: list every host");
    }
    if !host.is_ascii() {
        return Err("write an international host in its xn-- form, as browsers send it");
    }
    if host.ends_with('.') {
        return Err("a host does not end with a dot");
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match host.split('.').all(is_label) {
        true => Ok(host.to_ascii_lowercase()),
        false => Err("a host is letters, digits and hyphens with dots between them"),
    }
}

fn parse_port(port: &str) -> Result<u16, &'static str> {
    const BAD: &str = "a port is a number from 1 to 65535";
    if port.starts_with('0') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    port.parse().map_err(|_| BAD)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}
