//! Which protocol a request asks for, and the answer to it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What SPDY's clients list, and the answer names.
const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
/// What a refusal lists.
const ACCEPTED_VERSIONS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

/// What the upgraded connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Exec and attach.
    RemoteCommand,
    PortForward,
}

/// How streams are carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// SPDY/3.1 on the connection itself.
    Spdy,
    /// SPDY/3.1 in binary WebSocket messages.
    Tunnel,
    /// A WebSocket message's first byte says which stream.
    Channels(Codec),
}

/// How a channel's message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Codec {
    Binary,
    Base64,
}

/// A protocol for one [`Purpose`]; `version` is that of the remote command protocol.
type Offer = (&'static str, Transport, u8);

const SPDY_COMMANDS: &[Offer] = &[
    ("v5.channel.k8s.io", Transport::Spdy, 5),
    ("v4.channel.k8s.io", Transport::Spdy, 4),
    ("v3.channel.k8s.io", Transport::Spdy, 3),
    ("v2.channel.k8s.io", Transport::Spdy, 2),
    ("channel.k8s.io", Transport::Spdy, 1),
];
const SPDY_PORT_FORWARD: &[Offer] = &[("portforward.k8s.io", Transport::Spdy, 0)];
const WEBSOCKET_COMMANDS: &[Offer] = &[
    ("v5.channel.k8s.io", Transport::Channels(Codec::Binary), 5),
    ("v4.channel.k8s.io", Transport::Channels(Codec::Binary), 4),
    (
        "v4.base64.channel.k8s.io",
        Transport::Channels(Codec::Base64),
        4,
    ),
    ("channel.k8s.io", Transport::Channels(Codec::Binary), 1),
    (
        "base64.channel.k8s.io",
        Transport::Channels(Codec::Base64),
        1,
    ),
];
const WEBSOCKET_PORT_FORWARD: &[Offer] = &[
    ("SPDY/3.1+portforward.k8s.io", Transport::Tunnel, 0),
    ("v4.channel.k8s.io", Transport::Channels(Codec::Binary), 0),
    (
        "v4.base64.channel.k8s.io",
        Transport::Channels(Codec::Base64),
        0,
    ),
    ("portforward.k8s.io", Transport::Channels(Codec::Binary), 0),
];

/// A protocol that both sides speak.
#[derive(Clone, Debug)]
pub struct Negotiated {
    pub(crate) transport: Transport,
    pub(crate) version: u8,
    response: HeaderMap,
}

impl Negotiated {
    /// The answer: `101 Switching Protocols`.
    pub fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = self.response.clone();
        response
    }

    /// Whether the ports to forward come with the request, not with each stream.
    pub fn ports_in_request(&self) -> bool {
        matches!(self.transport, Transport::Channels(_))
    }
}

/// Why a connection is not upgraded.
#[derive(thiserror::Error, Clone, Debug)]
#[error("{message}")]
pub struct Refused {
    pub status: StatusCode,
    /// For the body, in the kubelet's words.
    pub message: String,
    /// To be added to the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refused {
    fn bad(message: impl Into<String>) -> Refused {
        Refused {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            headers: Vec::new(),
        }
    }
}

/// Chooses the first protocol in the client's list that is spoken here.
///
/// # Errors
/// The request asks for no upgrade, or for protocols that are not spoken.
pub fn negotiate(request: &Parts, purpose: Purpose) -> Result<Negotiated, Refused> {
    let headers = &request.headers;
    let asked = |name| {
        tokens(headers, name)
            .map(str::to_ascii_lowercase)
            .collect::<Vec<_>>()
    };
    let upgrade = asked(UPGRADE.as_str());
    let upgrade = |protocol: &str| {
        upgrade
            .iter()
            .any(|asked| asked.eq_ignore_ascii_case(protocol))
    };
    if !asked(CONNECTION.as_str())
        .iter()
        .any(|token| token == "upgrade")
    {
        Err(Refused::bad("Upgrade request required"))
    } else if upgrade("websocket") {
        websocket(request, purpose)
    } else if upgrade(SPDY) {
        spdy(headers, purpose)
    } else {
        Err(Refused::bad(
            "unable to upgrade: only websocket and SPDY/3.1 are spoken here",
        ))
    }
}

fn spdy(headers: &HeaderMap, purpose: Purpose) -> Result<Negotiated, Refused> {
    let offers = match purpose {
        Purpose::RemoteCommand => SPDY_COMMANDS,
        Purpose::PortForward => SPDY_PORT_FORWARD,
    };
    let asked: Vec<_> = tokens(headers, PROTOCOL_VERSION).collect();
    if asked.is_empty() {
        return Err(Refused::bad(
            "unable to upgrade: X-Stream-Protocol-Version is required",
        ));
    }
    let (name, transport, version) = choose(&asked, offers)?;
    let mut response = HeaderMap::new();
    response.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.insert(UPGRADE, HeaderValue::from_static(SPDY));
    response.insert(PROTOCOL_VERSION, HeaderValue::from_static(name));
    Ok(Negotiated {
        transport,
        version,
        response,
    })
}

fn websocket(request: &Parts, purpose: Purpose) -> Result<Negotiated, Refused> {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Err(Refused::bad(
            "unable to upgrade: a WebSocket begins with GET",
        ));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut refused = Refused::bad("unable to upgrade: Sec-WebSocket-Version must be 13");
        let version = HeaderValue::from_static("13");
        refused.headers.push((SEC_WEBSOCKET_VERSION, version));
        return Err(refused);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Refused::bad("unable to upgrade: Sec-WebSocket-Key is required"))?;
    let offers = match purpose {
        Purpose::RemoteCommand => WEBSOCKET_COMMANDS,
        Purpose::PortForward => WEBSOCKET_PORT_FORWARD,
    };
    let mut response = HeaderMap::new();
    let asked: Vec<_> = tokens(headers, SEC_WEBSOCKET_PROTOCOL.as_str()).collect();
    let (transport, version) = if asked.is_empty() {
        // As the kubelet takes it: the oldest protocol.
        (Transport::Channels(Codec::Binary), 1)
    } else {
        let (name, transport, version) = choose(&asked, offers)?;
        response.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        (transport, version)
    };
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).expect("base64 is a header's value");
    response.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(Negotiated {
        transport,
        version,
        response,
    })
}

fn choose(asked: &[&str], offers: &[Offer]) -> Result<Offer, Refused> {
    let spoken = |asked: &&str| offers.iter().find(|(name, ..)| name == asked).copied();
    asked.iter().find_map(spoken).ok_or_else(|| {
        let names: Vec<_> = offers.iter().map(|(name, ..)| *name).collect();
        let header = |name: &&'static str| (ACCEPTED_VERSIONS, HeaderValue::from_static(name));
        let headers = names.iter().map(header).collect();
        Refused {
            status: StatusCode::FORBIDDEN,
            message: format!(
                "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                asked.join(" "),
                names.join(" ")
            ),
            headers,
        }
    })
}

/// The parts of a list that may be spread over several headers.
fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(purpose: Purpose, headers: &[(&str, &str)], expected: Expect) {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        let answer = match negotiate(&request, purpose) {
            Ok(negotiated) => {
                let mut lines = vec![format!("{:?} {}", negotiated.transport, negotiated.version)];
                for (name, value) in negotiated.response().headers() {
                    lines.push(format!("{name}: {}", value.to_str().unwrap()));
                }
                lines.join("\n")
            }
            Err(refused) => format!("{} {refused}", refused.status),
        };
        expected.assert_eq(&answer);
    }

    const WEBSOCKET: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn websocket(protocols: &'static str) -> Vec<(&'static str, &'static str)> {
        [&WEBSOCKET[..], &[("sec-websocket-protocol", protocols)]].concat()
    }

    fn spdy(protocols: &[&'static str]) -> Vec<(&'static str, &'static str)> {
        let versions = protocols
            .iter()
            .map(|name| ("x-stream-protocol-version", *name));
        [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]
            .into_iter()
            .chain(versions)
            .collect()
    }

    #[test]
    fn kubectl_is_answered_with_its_newest_protocol() {
        check(
            Purpose::RemoteCommand,
            &websocket("v5.channel.k8s.io"),
            expect![[r#"
                Channels(Binary) 5
                sec-websocket-protocol: v5.channel.k8s.io
                connection: Upgrade
                upgrade: websocket
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="#]],
        );
        check(
            Purpose::RemoteCommand,
            &spdy(&["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io"]),
            expect![[r#"
                Spdy 5
                connection: Upgrade
                upgrade: SPDY/3.1
                x-stream-protocol-version: v5.channel.k8s.io"#]],
        );
        check(
            Purpose::PortForward,
            &websocket("SPDY/3.1+portforward.k8s.io"),
            expect![[r#"
                Tunnel 0
                sec-websocket-protocol: SPDY/3.1+portforward.k8s.io
                connection: Upgrade
                upgrade: websocket
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="#]],
        );
    }

    #[test]
    fn the_first_protocol_that_is_spoken_is_chosen() {
        let chosen = |purpose, headers: &[(&str, &str)]| {
            let mut request = Request::builder();
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (request, ()) = request.body(()).unwrap().into_parts();
            let negotiated = negotiate(&request, purpose).unwrap();
            format!("{:?} {}", negotiated.transport, negotiated.version)
        };
        let commands = |protocols| chosen(Purpose::RemoteCommand, &websocket(protocols));
        assert_eq!(
            commands("v9.channel.k8s.io, v4.channel.k8s.io"),
            "Channels(Binary) 4"
        );
        assert_eq!(commands("base64.channel.k8s.io"), "Channels(Base64) 1");
        assert_eq!(
            chosen(Purpose::RemoteCommand, &WEBSOCKET),
            "Channels(Binary) 1"
        );
        let ports = |protocols| chosen(Purpose::PortForward, &websocket(protocols));
        assert_eq!(
            ports("v5.channel.k8s.io, v4.channel.k8s.io"),
            "Channels(Binary) 0"
        );
        assert_eq!(
            chosen(Purpose::PortForward, &spdy(&["portforward.k8s.io"])),
            "Spdy 0"
        );
    }

    #[test]
    fn what_is_not_spoken_is_refused() {
        let purpose = Purpose::RemoteCommand;
        check(
            purpose,
            &[],
            expect!["400 Bad Request Upgrade request required"],
        );
        check(
            purpose,
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            expect![
                "400 Bad Request unable to upgrade: only websocket and SPDY/3.1 are spoken here"
            ],
        );
        check(
            purpose,
            &spdy(&[]),
            expect!["400 Bad Request unable to upgrade: X-Stream-Protocol-Version is required"],
        );
        check(
            Purpose::PortForward,
            &spdy(&["a", "b"]),
            expect![
                "403 Forbidden unable to upgrade: unable to negotiate protocol: client supports [a b], server accepts [portforward.k8s.io]"
            ],
        );
        check(
            purpose,
            &WEBSOCKET[..3],
            expect!["400 Bad Request unable to upgrade: Sec-WebSocket-Key is required"],
        );
        check(
            purpose,
            &WEBSOCKET[..2],
            expect!["400 Bad Request unable to upgrade: Sec-WebSocket-Version must be 13"],
        );
    }
}
