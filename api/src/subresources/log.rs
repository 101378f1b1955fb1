//! GET `pods/<name>/log`: a container's output, streamed from the nodelet of the pod's node.
//!
//! - [`function`]: the same of a FunctionRevision, which has no pods.
//!
//! The nodelet serves it at `/containerLogs/<namespace>/<pod>/<container>` with the options below.

mod function;

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use store::ResourceKey;
use tokio::time::timeout;

use crate::{
    error::{Error, Subject},
    proxy::NodeTarget,
    subresources::container,
    verbs::{call::Call, get, view},
};

/// How long a nodelet may take to start its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How much of a nodelet's error is read.
const ERROR_BYTES: usize = 16 * 1024;
/// The port of a nodelet that does not say.
const NODELET_PORT: u16 = 10250;

const NUMBERS: &[&str] = &["tailLines", "sinceSeconds", "limitBytes"];
const FLAGS: &[&str] = &["follow", "timestamps", "previous"];

pub(crate) async fn serve(call: &Call, method: &Method) -> Result<Response, Error> {
    if call.resource.kind.names().group == function_kinds::GROUP {
        return function::serve(call, method).await;
    }
    if *method != Method::GET {
        return Err(Error::MethodNotAllowed);
    }
    get::reach(call).await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    let pod = view::parse(&item.decoded.value)?;
    let container = container::choose(&pod, &call.name, call.query.text("container"))?;
    check_started(&pod, &call.name, container)?;
    let node = node(call, pod["spec"]["nodeName"].as_str().unwrap_or_default())?;
    let path = format!(
        "/containerLogs/{}/{}/{container}{}",
        call.namespace,
        call.name,
        options(call)?
    );
    let request = Request::get(path)
        .body(Body::empty())
        .map_err(Error::internal)?;
    let unavailable = |source: Option<crate::error::Source>| Error::Unavailable {
        message: format!(
            "node {:?} of pod {:?} does not answer",
            node.name, call.name
        ),
        source,
    };
    let response = timeout(DEADLINE, call.server.node_proxy.request(&node, request))
        .await
        .map_err(|_| unavailable(None))?
        .map_err(|error| unavailable(Some(error.into())))?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let mut answer = response.into_body().into_response();
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// The options for the nodelet, checked, as a query.
fn options(call: &Call) -> Result<String, Error> {
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("{name}={value}"));
    };
    for &name in NUMBERS {
        if let Some(number) = call.query.integer(name)? {
            let least = i64::from(name != "tailLines");
            if number < least {
                return Err(Error::BadRequest(format!(
                    "{name}: Invalid value: {number}: must be greater than or equal to {least}"
                )));
            }
            add(name, &number.to_string());
        }
    }
    for &name in FLAGS {
        if call.query.flag(name)? == Some(true) {
            add(name, "true");
        }
    }
    if let Some(time) = call.query.text("sinceTime") {
        if call.query.text("sinceSeconds").is_some() {
            return Err(Error::BadRequest(
                "at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned(),
            ));
        }
        let since: jiff::Timestamp = time.parse().map_err(|_| {
            Error::BadRequest(format!(
                "sinceTime: Invalid value: {time:?}: must be an RFC 3339 time"
            ))
        })?;
        add("sinceTime", &since.to_string());
    }
    match call.query.text("stream") {
        None | Some("" | "All") => {}
        Some(stream @ ("Stdout" | "Stderr")) => {
            if call.query.text("tailLines").is_some() {
                return Err(Error::BadRequest(format!(
                    "stream: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now: {stream:?}"
                )));
            }
            add("stream", stream);
        }
        Some(other) => {
            return Err(Error::BadRequest(format!(
                "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
            )));
        }
    }
    Ok(query)
}

/// A container that never ran has no output.
fn check_started(pod: &Value, name: &str, container: &str) -> Result<(), Error> {
    if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        return Err(Error::BadRequest(format!(
            "pod {name} does not have a host assigned"
        )));
    }
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let status = lists
        .iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == container);
    let waiting = status.map(|status| &status["state"]["waiting"]);
    let ran = status.is_some_and(|status| {
        status["lastState"]["terminated"].is_object()
            || status["restartCount"].as_i64().unwrap_or_default() > 0
    });
    let reason = match waiting {
        Some(waiting) if waiting.is_object() && !ran => {
            waiting["reason"].as_str().unwrap_or("ContainerCreating")
        }
        _ => return Ok(()),
    };
    Err(Error::BadRequest(format!(
        "container {container:?} in pod {name:?} is waiting to start: {reason}"
    )))
}

/// Where the node's nodelet listens.
pub(crate) fn node(call: &Call, name: &str) -> Result<NodeTarget, Error> {
    let key = ResourceKey::new("", "nodes").key("", name);
    let item = call.server.cache.get(&key).ok_or_else(|| {
        Error::NotFound(Subject {
            resource: "nodes",
            kind: "Node",
            name: name.to_owned(),
            ..Subject::default()
        })
    })?;
    Ok(target(name, &view::parse(&item.decoded.value)?))
}

/// The same of a node that is at hand.
pub(crate) fn target(name: &str, node: &Value) -> NodeTarget {
    let address = ["InternalIP", "ExternalIP", "Hostname"]
        .iter()
        .find_map(|kind| {
            node["status"]["addresses"]
                .as_array()?
                .iter()
                .find(|address| address["type"] == *kind)?["address"]
                .as_str()
        });
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    NodeTarget {
        name: name.to_owned(),
        address: address.unwrap_or(name).to_owned(),
        port: port.unwrap_or(NODELET_PORT),
    }
}

/// A nodelet's refusal, in its own words.
async fn refusal(response: http::Response<Body>) -> Error {
    let status = response.status();
    let body = timeout(
        DEADLINE,
        Limited::new(response.into_body(), ERROR_BYTES).collect(),
    )
    .await;
    let text = match body {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        _ => String::new(),
    };
    let text = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|status| Some(status["message"].as_str()?.to_owned()))
        .unwrap_or(text);
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Error::BadRequest(text),
        _ => Error::internal(format!("the nodelet answered {status}: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pod: &Value, expected: Expect) {
        expected.assert_eq(&match check_started(pod, "web", "a") {
            Ok(()) => "it has".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn a_container_that_never_ran_has_no_log() {
        let mut waits = json!({"spec": {"nodeName": "n1", "containers": [{"name": "a"}]}});
        let mut unbound = waits.clone();
        waits["status"]["containerStatuses"] = json!([{"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]);
        check(
            &waits,
            expect![[r#"container "a" in pod "web" is waiting to start: ContainerCreating"#]],
        );
        waits["status"]["containerStatuses"][0]["restartCount"] = 1.into();
        check(&waits, expect!["it has"]);
        unbound["spec"]["nodeName"] = Value::Null;
        check(&unbound, expect!["pod web does not have a host assigned"]);
    }
}
