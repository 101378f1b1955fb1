//! `tcpSocket`: whether a port takes connections.

use k8s_openapi::api::core::v1::TCPSocketAction;
use tokio::time::{Instant, timeout_at};

use super::{Target, attempt::Outcome, dial};

/// Connects, and closes at once.
pub(super) async fn probe(target: &Target, action: &TCPSocketAction, deadline: Instant) -> Outcome {
    let port = match target.port(&action.port) {
        Ok(port) => port,
        Err(message) => return Outcome::unknown(message),
    };
    let own = target.address.ip.to_string();
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let host = host.unwrap_or(&own);
    match timeout_at(deadline, dial::tcp(host, port)).await {
        Ok(Ok(_)) => Outcome::Success(String::new()),
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!("dial tcp {}: i/o timeout", dial::join(host, port))),
    }
}
