//! What a proxy passes on and what it does not. Pure.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// Headers that are about one connection (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The protocol that a request or an answer wants to change to.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    wants
        .then(|| headers.get(header::UPGRADE).cloned())
        .flatten()
}

/// Takes out what is about the connection that the message came by.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|word| word.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Takes out who asks.
pub(super) fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let impersonating: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in impersonating {
        headers.remove(name);
    }
}

/// Says where the request came from.
pub(super) fn forward(headers: &mut HeaderMap, uri: &Uri, client: Option<SocketAddr>) {
    let host = headers.get(header::HOST).cloned();
    let host = host.or_else(|| HeaderValue::from_str(uri.authority()?.as_str()).ok());
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host.clone());
        headers.insert(header::HOST, host);
    }
    if let Ok(path) = HeaderValue::from_str(uri.path()) {
        headers.insert("x-forwarded-uri", path);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(client) = client
        && let Ok(address) = HeaderValue::from_str(&client.ip().to_string())
    {
        headers.append("x-forwarded-for", address);
    }
}

/// A redirection to the backend itself becomes one below `own`, the proxy's path.
pub(super) fn rewrite_location(headers: &mut HeaderMap, own: &str, host: &str) {
    let Some(location) = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let rewritten = match location.parse::<Uri>() {
        Ok(uri) if uri.authority().is_none_or(|own| own.as_str() == host) => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            // A relative one stays so: it is resolved against the proxy's path.
            if !path.starts_with('/') || location.starts_with(own) {
                return;
            }
            format!("{own}{path}")
        }
        _ => return,
    };
    if let Ok(value) = HeaderValue::from_str(&rewritten) {
        headers.insert(header::LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn what_is_about_a_connection_or_the_user_is_not_passed_on() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("authorization", "Bearer token"),
            ("impersonate-user", "jane"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut headers);
        strip_credentials(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["cookie"]);
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let both = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&both), Some(HeaderValue::from_static("websocket")));
        assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade(&headers(&[("connection", "upgrade")])), None);
    }

    #[track_caller]
    fn check_location(location: &str, expected: Expect) {
        let mut headers = headers(&[("location", location)]);
        rewrite_location(
            &mut headers,
            "/api/v1/namespaces/a/services/web/proxy",
            "10.0.0.1:80",
        );
        expected.assert_eq(headers["location"].to_str().expect("text"));
    }

    #[test]
    fn a_redirection_stays_behind_the_proxy() {
        check_location(
            "/login?next=%2F",
            expect!["/api/v1/namespaces/a/services/web/proxy/login?next=%2F"],
        );
        check_location(
            "http://10.0.0.1:80/x",
            expect!["/api/v1/namespaces/a/services/web/proxy/x"],
        );
        check_location("https://example.com/x", expect!["https://example.com/x"]);
        check_location("next", expect!["next"]);
        check_location(
            "/api/v1/namespaces/a/services/web/proxy/x",
            expect!["/api/v1/namespaces/a/services/web/proxy/x"],
        );
    }
}
