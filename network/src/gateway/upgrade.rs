//! Tunnels: what a connection becomes after `101 Switching Protocols`, a WebSocket for one, and what a stream of HTTP/2
//! becomes by an extended CONNECT (RFC 8441). One that carries nothing for long ends, and with it its place in the pod.
//!
//! To the endpoint both are an upgrade of HTTP/1.1.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{self, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};

use super::{
    activity::{Activity, Noted},
    answer::Refusal,
    body::{Held, Outgoing},
    headers,
    link::State,
};

/// A tunnel, or an endpoint's answer, that carries nothing for so long ends.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// A quiet connection's other end is asked for a sign of life after so many seconds.
const ALIVE: u32 = 60;

/// Has the kernel notice that the other end is gone; a socket that refuses still works.
pub(super) fn keep_alive(stream: &TcpStream) {
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &ALIVE);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &(ALIVE / 4));
}

/// Carries bytes both ways until either end closes or neither has sent any for [`IDLE`].
async fn carry<C, E>(client: C, mut endpoint: E)
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::new();
    // What the endpoint sends passes here too.
    let mut client = Noted {
        inner: client,
        activity: activity.clone(),
    };
    // Whatever ends it, both ends see it end.
    let carried = copy_bidirectional(&mut client, &mut endpoint);
    if activity.within(IDLE, carried).await.is_none() {
        tracing::debug!("an idle tunnel was closed");
    }
}

/// What a client wants its connection, or its stream, to become, and its end of it.
pub(super) struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
    over: Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    Connection,
    /// A stream of HTTP/2: there may be others beside it.
    Stream,
}

impl Wanted {
    /// What a request wants. An extended CONNECT becomes the GET that it means.
    pub(super) fn of(request: &mut Request<Incoming>) -> Result<Option<Self>, Refusal> {
        let (protocol, over) = if request.method() == Method::CONNECT {
            let protocol = request.extensions().get::<Protocol>();
            if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
                return Err(Refusal::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "CONNECT is only for WebSockets over HTTP/2",
                ));
            }
            *request.method_mut() = Method::GET;
            let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
            let key = HeaderValue::from_str(&key).expect("letters are a header's value");
            request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
            (HeaderValue::from_static("websocket"), Over::Stream)
        } else if request.version() == Version::HTTP_11 {
            match headers::upgrade(request.headers()) {
                Some(protocol) => (protocol, Over::Connection),
                None => return Ok(None),
            }
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            protocol,
            client: hyper::upgrade::on(&mut *request),
            over,
        }))
    }

    /// Says so to the endpoint.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Whether it is a request without it, too.
    pub(super) fn is_optional(&self) -> bool {
        self.over == Over::Connection
    }

    /// Whether an answer, passed on, would be taken for an agreement that it is not.
    pub(super) fn is_mistaken(&self, status: StatusCode) -> bool {
        self.over == Over::Stream && status.is_success()
    }
}

/// Joins both ends once the endpoint agreed.
pub(super) fn join(
    mut response: Response<Incoming>,
    wanted: Wanted,
    held: Held,
    state: &State,
) -> Response<Outgoing> {
    let agreed = response.headers().get(header::UPGRADE).cloned();
    let endpoint = hyper::upgrade::on(&mut response);
    let Wanted {
        protocol,
        client,
        over,
    } = wanted;
    let tunnel = Box::pin(async move {
        let Held { lease, permit } = held;
        let _task = lease.into_task();
        let (client, endpoint) = tokio::join!(client, endpoint);
        if let (Ok(client), Ok(endpoint)) = (client, endpoint) {
            carry(TokioIo::new(client), TokioIo::new(endpoint)).await;
        }
        drop(permit);
    });
    let (mut parts, _) = response.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    match over {
        Over::Connection => {
            state.tunnel(tunnel);
            let agreed = agreed.unwrap_or(protocol);
            let connection = HeaderValue::from_static("upgrade");
            parts.headers.insert(header::CONNECTION, connection);
            parts.headers.insert(header::UPGRADE, agreed);
        }
        Over::Stream => {
            state.tunnel_beside(tunnel);
            parts.status = StatusCode::OK;
            parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            parts.headers.remove(header::CONTENT_LENGTH);
        }
    }
    Response::from_parts(parts, Outgoing::empty())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_ends_once_it_carried_nothing_for_long() {
        let (mut client, its_end) = duplex(64);
        let (mut endpoint, other_end) = duplex(64);
        let begun = Instant::now();
        let speak = async {
            for _ in 0..3 {
                advance(IDLE / 2).await;
                endpoint.write_all(b"x").await.unwrap();
                client.read_exact(&mut [0]).await.unwrap();
            }
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        tokio::join!(speak, carry(its_end, other_end));
        assert!(begun.elapsed() >= IDLE * 5 / 2);
    }
}
