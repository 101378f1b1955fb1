//! Tunnels: what a connection becomes after `101 Switching Protocols`, a WebSocket for one. One that carries nothing for long
//! ends, and with it its place in the pod.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::TcpStream,
};

use super::{
    activity::{Activity, Noted},
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

/// What a client wants the connection to become, and its end of it.
pub(super) struct Wanted {
    pub(super) protocol: HeaderValue,
    pub(super) client: OnUpgrade,
}

/// Says so to the endpoint.
pub(super) fn ask(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}

/// Joins both ends once the endpoint agreed; the client's connection carries it.
pub(super) fn join(
    mut response: Response<Incoming>,
    wanted: Wanted,
    held: Held,
    state: &State,
) -> Response<Outgoing> {
    let agreed = response.headers().get(header::UPGRADE).cloned();
    let endpoint = hyper::upgrade::on(&mut response);
    state.tunnel(Box::pin(async move {
        let Held { lease, permit } = held;
        let _task = lease.into_task();
        let (client, endpoint) = tokio::join!(wanted.client, endpoint);
        if let (Ok(client), Ok(endpoint)) = (client, endpoint) {
            carry(TokioIo::new(client), TokioIo::new(endpoint)).await;
        }
        drop(permit);
    }));
    let (mut parts, _) = response.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    ask(&mut parts.headers, &agreed.unwrap_or(wanted.protocol));
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
