//! `…/proxy/…` of Services, pods and nodes: the request goes on to what they serve, and its answer comes back.
//!
//! - [`target`]: whom a name means: an endpoint of a Service, a pod, a node.
//! - [`headers`]: what is passed on and what is not. Pure.
//! - [`exchange`]: the connection: both bodies stream, and an upgraded connection is joined to the client's.
//!
//! Admission is asked first: what it sees, and may change, is the path. Never passes on who asks: credentials and impersonation end here.

mod exchange;
mod headers;
mod target;

use axum::{body::Body, response::Response};
use http::{HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::upgrade::OnUpgrade;
use serde_json::json;

use super::stream;
use crate::{
    error::Error,
    proxy::{Answer, NodeTarget},
    verbs::call::Call,
};
use target::Target;

/// A request as its client sent it, but for what [`Call`] has.
pub(crate) struct Incoming {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// What comes after `…/proxy`: empty or with its leading slash.
    pub(crate) beyond: String,
    pub(crate) body: Body,
    /// The client's side of the connection, if it can be upgraded.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// Passes a request on.
pub(crate) async fn serve(call: Call, mut incoming: Incoming) -> Result<Response, Error> {
    let own = own_path(&incoming.uri, &incoming.beyond);
    incoming.beyond = admit(&call, incoming.beyond).await?;
    if incoming.beyond.is_empty() && matches!(incoming.method, Method::GET | Method::HEAD) {
        return Ok(with_slash(&incoming.uri));
    }
    let target = target::find(&call).await?;
    let outgoing = exchange::Outgoing::new(&call, incoming)?;
    let mut response = match &target {
        Target::Nodelet(node) => to_nodelet(&call, node, outgoing).await?,
        Target::Address { address, tls } => exchange::pass(&call, *address, *tls, outgoing).await?,
    };
    let host = match &target {
        Target::Nodelet(node) => format!("{}:{}", node.address, node.port),
        Target::Address { address, .. } => address.to_string(),
    };
    headers::rewrite_location(response.headers_mut(), &own, &host);
    Ok(response)
}

/// Asks admission about a request for a path; answers the path that it is for.
async fn admit(call: &Call, path: String) -> Result<String, Error> {
    let mut options = json!({});
    if !path.is_empty() {
        options["path"] = path.into();
    }
    let options = stream::admit(call, options).await?;
    Ok(options["path"].as_str().unwrap_or_default().to_owned())
}

/// Links of a page are below it only if its own path ends in a slash.
fn with_slash(uri: &Uri) -> Response {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The path up to and with `proxy`.
fn own_path(uri: &Uri, beyond: &str) -> String {
    let path = uri.path();
    path.strip_suffix(beyond).unwrap_or(path).to_owned()
}

/// The path and query that the backend gets.
fn passed_on(uri: &Uri, beyond: &str) -> Result<Uri, Error> {
    let path = if beyond.is_empty() { "/" } else { beyond };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path: PathAndQuery = text
        .parse()
        .map_err(|error| Error::BadRequest(format!("the path {text:?} cannot be sent: {error}")))?;
    Ok(Uri::from(path))
}

async fn to_nodelet(
    call: &Call,
    node: &NodeTarget,
    outgoing: exchange::Outgoing,
) -> Result<Response, Error> {
    let nodelets = &call.server.node_proxy;
    let answer = if outgoing.client.is_some() {
        // A nodelet's connections run programs: more than reading, whatever the method says.
        stream::may_create(call).await?;
        nodelets.upgrade(node, outgoing.request).await
    } else {
        let answer = nodelets.request(node, outgoing.request).await;
        answer.map(Answer::Other)
    };
    let answer = answer.map_err(|error| unreachable(error.to_string(), Some(error.into())))?;
    exchange::pass_back(call, outgoing.client, answer)
}

fn unreachable(message: String, source: Option<crate::error::Source>) -> Error {
    Error::Unavailable {
        message: format!("error trying to reach service: {message}"),
        source,
    }
}
