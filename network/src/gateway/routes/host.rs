//! A request's host: from its target or its Host header, in lower case, without port and final dot.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header::HOST};

/// The host that a request names; `None` if it names none, or two.
pub(crate) fn of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<Cow<'a, str>> {
    if let Some(authority) = uri.authority() {
        return Some(canonical(authority.as_str()));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    match hosts.next() {
        Some(_) => None,
        None => Some(canonical(host)),
    }
}

/// Without user, port and final dot, in lower case.
fn canonical(authority: &str) -> Cow<'_, str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, _)) => ip,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port_no_final_dot_and_no_capitals() {
        for (given, wanted) in [
            ("Hello.Default.localhost:8080", "hello.default.localhost"),
            ("example.org.", "example.org"),
            ("[::1]:80", "::1"),
            ("eve@example.org", "example.org"),
        ] {
            assert_eq!(canonical(given), wanted);
        }
    }
}
