//! The headers that a gateway takes away and adds.
//!
//! What a client says about itself is not believed: X-Forwarded-For, -Proto and -Host are the gateway's own words.
//! X-Request-Id is kept if it is a plain word; traceparent (W3C Trace Context, version 00) is kept with a new parent.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
        UPGRADE,
    },
};

use super::link::Client;

pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Characters that a request's id may have.
const ID: usize = 128;

/// The id of a request: the client's, or a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        (1..=ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    let kept = headers.get(&REQUEST_ID).filter(plain).cloned();
    kept.unwrap_or_else(|| hexadecimal(&rand::random::<[u8; 16]>()))
}

fn hexadecimal(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&hex(bytes)).expect("digits are a header's value")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// What a request asks the connection to become.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(UPGRADE)?;
    let options = headers.get_all(CONNECTION).iter();
    let mut options = options.filter_map(|value| value.to_str().ok());
    let asked =
        options.any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")));
    asked.then(|| upgrade.clone())
}

fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Removes what is about one connection alone.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let options = headers.get_all(CONNECTION).iter();
        let options: Vec<HeaderName> = options
            .filter_map(|value| value.to_str().ok())
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Hop by hop or not, these say where a request goes and how long it is.
            .filter(|name| *name != HOST && *name != http::header::CONTENT_LENGTH)
            .collect();
        for name in options {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TRANSFER_ENCODING,
        &UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Makes a client's headers those of the request that goes on.
pub(super) fn forward(
    headers: &mut HeaderMap,
    id: &HeaderValue,
    client: &Client,
    authority: Option<&str>,
) {
    let trailers = headers.get_all(TE).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        tokens(value).any(|token| token.eq_ignore_ascii_case("trailers"))
    });
    remove_hop_by_hop(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // The gateway has said it, if it was needed.
    headers.remove(EXPECT);
    headers.remove(&FORWARDED);
    if let Some(authority) = authority
        && let Ok(value) = HeaderValue::from_str(authority)
    {
        headers.insert(HOST, value);
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST.clone(), host);
    }
    headers.insert(FORWARDED_FOR.clone(), client.shown.clone());
    let proto = HeaderValue::from_static(if client.tls { "https" } else { "http" });
    headers.insert(FORWARDED_PROTO.clone(), proto);
    headers.insert(REQUEST_ID.clone(), id.clone());
    trace(headers, rand::random());
}

/// Makes the gateway the parent in a trace, or begins one.
fn trace(headers: &mut HeaderMap, random: [u8; 24]) {
    let (new_trace, parent) = random.split_at(16);
    let given = headers.get(&TRACEPARENT).and_then(|it| it.to_str().ok());
    let (trace, flags) = match given.and_then(parse_trace) {
        Some((trace, flags)) => (trace.to_owned(), flags.to_owned()),
        None => {
            headers.remove(&TRACESTATE);
            (hex(new_trace), "01".to_owned())
        }
    };
    let value = format!("00-{trace}-{}-{flags}", hex(parent));
    let value = HeaderValue::from_str(&value).expect("digits are a header's value");
    headers.insert(TRACEPARENT.clone(), value);
}

/// Trace and flags of a traceparent that is one.
fn parse_trace(value: &str) -> Option<(&str, &str)> {
    let mut parts = value.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let something = |text: &str| text.bytes().any(|byte| byte != b'0');
    let whole = hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && hex(trace, 32)
        && something(trace)
        && hex(parent, 16)
        && something(parent)
        && hex(flags, 2);
    whole.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], expected: Expect) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let ends = ["192.0.2.7:5000", "192.0.2.1:80"].map(|end| end.parse().unwrap());
        let client = Client::new(ends[0], ends[1], false);
        let id = request_id(&headers);
        forward(&mut headers, &id, &client, None);
        let mut seen: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
            .filter(|line| !line.starts_with("traceparent") && !line.starts_with("x-request-id"))
            .collect();
        seen.sort();
        expected.assert_eq(&seen.concat());
    }

    #[test]
    fn what_is_about_a_connection_stays_with_it() {
        check(
            &[
                ("host", "a.b:80"),
                ("connection", "close, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "secret"),
                ("te", "gzip, trailers"),
                ("expect", "100-continue"),
                ("accept", "*/*"),
            ],
            expect![[r#"
                accept: */*
                host: a.b:80
                te: trailers
                x-forwarded-for: 192.0.2.7
                x-forwarded-host: a.b:80
                x-forwarded-proto: http
            "#]],
        );
    }

    #[test]
    fn a_client_does_not_say_where_it_came_from() {
        check(
            &[
                ("x-forwarded-for", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
                ("x-forwarded-proto", "https"),
            ],
            expect![[r#"
                x-forwarded-for: 192.0.2.7
                x-forwarded-proto: http
            "#]],
        );
    }

    #[test]
    fn a_connection_option_takes_neither_host_nor_length() {
        check(
            &[
                ("host", "a"),
                ("connection", "host, content-length"),
                ("content-length", "3"),
            ],
            expect![[r#"
                content-length: 3
                host: a
                x-forwarded-for: 192.0.2.7
                x-forwarded-host: a
                x-forwarded-proto: http
            "#]],
        );
    }

    #[test]
    fn a_trace_is_kept_with_a_new_parent() {
        let traced = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&TRACEPARENT, HeaderValue::from_static(value));
            headers.insert(&TRACESTATE, HeaderValue::from_static("a=b"));
            trace(&mut headers, [7; 24]);
            let state = headers.contains_key(&TRACESTATE);
            let value = headers[&TRACEPARENT].to_str().unwrap().to_owned();
            (value, state)
        };
        assert_eq!(
            traced("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
            (
                "00-0af7651916cd43dd8448eb211c80319c-0707070707070707-00".to_owned(),
                true
            )
        );
        for wrong in [
            "garbage",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let (value, state) = traced(wrong);
            assert_eq!(
                value,
                "00-07070707070707070707070707070707-0707070707070707-01"
            );
            assert!(!state, "the state of a trace that is not one");
        }
    }

    #[test]
    fn an_id_is_kept_if_it_is_a_plain_word() {
        let id = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(&REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers)
        };
        assert_eq!(id("abc-1"), "abc-1");
        assert_eq!(id("two words").len(), 32);
        assert_eq!(id("").len(), 32);
    }
}
