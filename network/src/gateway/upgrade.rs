//! Tunnels: what a connection becomes after `101 Switching Protocols`, a WebSocket for one.

use http::{HeaderMap, HeaderValue, Response, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::{
    body::{Held, Outgoing},
    headers,
    link::State,
};

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
            // Whatever ends it, both ends see it end.
            let _ =
                copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(endpoint)).await;
        }
        drop(permit);
    }));
    let (mut parts, _) = response.into_parts();
    headers::remove_hop_by_hop(&mut parts.headers);
    ask(&mut parts.headers, &agreed.unwrap_or(wanted.protocol));
    Response::from_parts(parts, Outgoing::empty())
}
