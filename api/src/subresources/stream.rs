//! What exec, attach and port-forward share: a request whose connection becomes one to the pod's nodelet.
//!
//! The nodelet ends the protocols (SPDY/3.1, WebSocket): what the client sends after its request goes there
//! as it is, and so does what comes back. Asks admission with the request's options, as a `CONNECT`.
//! Passes on no headers but those of the upgrade: never who asks.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::log;
use crate::{
    admission::{self, Review},
    auth::{self, Attributes},
    error::Error,
    kinds::Subresource,
    proxy::Answer,
    server::{joined, resources},
    verbs::{call::Call, get, view},
};

/// How long a nodelet may take to start its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of a nodelet's refusal is read.
const REFUSAL_BYTES: usize = 64 * 1024;

/// Headers of an upgrade, in requests and answers; which of its versions of SPDY's streams a client speaks.
const PASSED: [HeaderName; 6] = [
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::UPGRADE,
    HeaderName::from_static("x-stream-protocol-version"),
];

/// What a nodelet speaks that does not speak what the client asked for.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// A request, but for what [`Call`] has.
pub(crate) struct Opening {
    pub(crate) method: Method,
    /// The client's side of the connection, if it can be upgraded.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// True for the subresources that are served here.
pub(crate) fn leads_into_a_pod(part: Subresource) -> bool {
    matches!(
        part,
        Subresource::Attach | Subresource::Exec | Subresource::PortForward
    )
}

/// Asks whether the user may `create` what the call is for. Since Kubernetes 1.35 (KEP-4006) a GET, which is how
/// WebSockets begin, asks for no less than a POST.
pub(crate) async fn may_create(call: &Call) -> Result<(), Error> {
    let names = call.resource.names();
    let asked = auth::authorizer::Resource {
        group: names.group,
        resource: names.plural,
        subresource: call.subresource.map_or("", Subresource::path),
        namespace: &call.namespace,
        name: &call.name,
        fields: None,
    };
    let asked = Attributes::resource("create", asked);
    resources::allow(&call.server, &call.user, &asked).await
}

/// Asks admission about a connection with these options; answers them as they are then.
pub(crate) async fn admit(call: &Call, mut options: Value) -> Result<Value, Error> {
    let owner = call.resource.names().kind;
    let kind = call.subresource.and_then(|part| part.options_kind(owner));
    options["kind"] = kind.into();
    options["apiVersion"] = "v1".into();
    let review = Review::connect(call);
    admission::mutate(&review, Some(&mut options), None).await?;
    admission::validate(&review, Some(&options), None).await?;
    Ok(options)
}

/// Opens a connection to a pod's nodelet and joins it to the client's. `path` makes the nodelet's path and
/// query of the pod and the options.
pub(crate) async fn open(
    call: &Call,
    opening: Opening,
    options: Value,
    path: impl FnOnce(&Value, &Value) -> Result<String, Error>,
) -> Result<Response, Error> {
    match opening.method {
        Method::GET => may_create(call).await?,
        Method::POST => {}
        _ => return Err(Error::MethodNotAllowed),
    }
    let options = admit(call, options).await?;
    get::reach(call).await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    let pod = view::parse(&item.decoded.value)?;
    let path = path(&pod, &options)?;
    let node = match pod["spec"]["nodeName"].as_str() {
        Some(node) if !node.is_empty() => log::node(call, node)?,
        _ => {
            let message = format!("pod {} does not have a host assigned", call.name);
            return Err(Error::BadRequest(message));
        }
    };
    let wanted = call.headers.contains_key(header::UPGRADE);
    let Some(client) = opening.upgrade.filter(|_| wanted) else {
        return Err(Error::BadRequest("Upgrade request required".to_owned()));
    };
    let mut request = Request::new(Body::empty());
    *request.method_mut() = opening.method;
    *request.uri_mut() = path.parse().map_err(Error::internal)?;
    *request.headers_mut() = passed(&call.headers);
    let unavailable = |source: Option<crate::error::Source>| Error::Unavailable {
        message: format!(
            "node {:?} of pod {:?} does not answer",
            node.name, call.name
        ),
        source,
    };
    let answer = timeout(DEADLINE, call.server.node_proxy.upgrade(&node, request))
        .await
        .map_err(|_| unavailable(None))?
        .map_err(|error| unavailable(Some(error.into())))?;
    match answer {
        Answer::Upgraded(mut answer) => {
            let headers = passed(answer.headers());
            *answer.headers_mut() = headers;
            Ok(joined::join(call, client, answer))
        }
        Answer::Other(response) => Ok(refusal(response).await),
    }
}

/// What is passed on of a request's or an answer's headers, and that it is about an upgrade.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in &PASSED {
        for value in headers.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    passed
}

/// A nodelet's refusal: the `Status` that it is, or one of its code and words.
async fn refusal(response: http::Response<Body>) -> Response {
    let code = response.status();
    let accepted = response.headers().get(&ACCEPTED).cloned();
    let body = Limited::new(response.into_body(), REFUSAL_BYTES).collect();
    let text = match timeout(DEADLINE, body).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        _ => String::new(),
    };
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    let is_status = status["kind"] == "Status";
    let word = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let refused = match code {
        code if code.is_client_error() || code.is_server_error() => Error::Refused {
            code,
            message: if is_status { word("message") } else { text },
            reason: if is_status {
                word("reason")
            } else {
                reason(code).to_owned()
            },
            details: status["details"].clone(),
        },
        code => Error::internal(format!("the nodelet answered {code} to an upgrade")),
    };
    let mut refused = refused.into_response();
    if let Some(accepted) = accepted {
        refused.headers_mut().insert(ACCEPTED, accepted);
    }
    refused
}

/// What Kubernetes calls a failure that says nothing but its code.
fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        code if code.is_server_error() => "InternalError",
        _ => "Unknown",
    }
}

/// The streams that exec and attach ask for, and the container.
pub(crate) fn streams(call: &Call) -> Result<Value, Error> {
    let mut options = json!({});
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.flag(name)? == Some(true) {
            options[name] = true.into();
        }
    }
    if let Some(container) = call.query.text("container") {
        options["container"] = container.into();
    }
    Ok(options)
}

/// The same in the nodelet's words, as the beginning of a query; never empty.
pub(crate) fn streams_query(options: &Value) -> String {
    let mut query = String::new();
    for (name, own) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        query.push(if query.is_empty() { '?' } else { '&' });
        let asked = options[name] == true;
        query.push_str(&format!("{own}={}", u8::from(asked)));
    }
    query
}

/// A text as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_headers_of_the_upgrade_are_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer token"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let passed = passed(&headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["connection", "upgrade", "x-stream-protocol-version"]
        );
        assert_eq!(passed["connection"], "Upgrade");
        assert_eq!(
            passed.get_all("x-stream-protocol-version").iter().count(),
            2
        );
    }

    #[test]
    fn the_nodelet_is_asked_for_streams_in_its_own_words() {
        let options = json!({"stdin": true, "stdout": true});
        assert_eq!(streams_query(&options), "?input=1&output=1&error=0&tty=0");
    }

    #[tokio::test]
    async fn a_refusal_stays_what_it_is() {
        for (code, body, expected) in [
            (404, "pod does not exist\n", "NotFound pod does not exist"),
            (
                400,
                r#"{"kind":"Status","reason":"BadRequest","message":"no such container"}"#,
                "BadRequest no such container",
            ),
            (200, "hello", "InternalError Internal error occurred"),
        ] {
            let mut response = http::Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(code).expect("a code");
            let refused = refusal(response).await.into_body().collect().await;
            let status: Value =
                serde_json::from_slice(&refused.expect("a body").to_bytes()).expect("a Status");
            let said = format!(
                "{} {}",
                status["reason"].as_str().unwrap_or_default(),
                status["message"].as_str().unwrap_or_default()
            );
            assert_eq!(said, expected);
        }
    }
}
