//! A request until its answer has ended: it is counted, its connection is not idle, and then it may be logged.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Version, header::HOST};
use tokio::time::Instant;

use super::{
    link::{Active, Link},
    metrics,
};

/// The target of the access log's lines, which are of level INFO.
pub const ACCESS_LOG: &str = "access";

/// A request that was not answered to the end yet.
pub(super) struct Underway {
    _in_flight: metrics::InFlight,
    _active: Active,
    line: Option<Box<Line>>,
}

/// What the access log says.
struct Line {
    client: IpAddr,
    method: Method,
    host: String,
    /// Without the query, which may have secrets.
    path: String,
    version: Version,
    id: HeaderValue,
    begun: Instant,
    status: u16,
    bytes: u64,
}

impl Underway {
    pub(super) fn new<B>(
        link: &Arc<Link>,
        active: Active,
        request: &Request<B>,
        id: &HeaderValue,
        begun: Instant,
    ) -> Self {
        let line = || {
            let uri = request.uri();
            let host = request.headers().get(HOST);
            let host = host.and_then(|host| host.to_str().ok());
            let host = uri.authority().map(|it| it.as_str()).or(host);
            Box::new(Line {
                client: link.client.ip,
                method: request.method().clone(),
                host: host.unwrap_or_default().to_owned(),
                path: uri.path().to_owned(),
                version: request.version(),
                id: id.clone(),
                begun,
                status: 0,
                bytes: 0,
            })
        };
        Self {
            _in_flight: metrics::InFlight::new(begun),
            _active: active,
            line: link.shared.config.access_log.then(line),
        }
    }

    /// It is answered with that status from now on.
    pub(super) fn answered(&mut self, status: u16) {
        if let Some(line) = &mut self.line {
            line.status = status;
        }
    }

    /// So much of the answer is on its way.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.bytes += bytes as u64;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Some(line) = &self.line else {
            return;
        };
        tracing::info!(
            target: ACCESS_LOG,
            client = %line.client,
            method = %line.method,
            host = line.host,
            path = line.path,
            version = ?line.version,
            // 0: the client went away first.
            status = line.status,
            bytes = line.bytes,
            seconds = line.begun.elapsed().as_secs_f64(),
            request = line.id.to_str().unwrap_or_default(),
        );
    }
}
