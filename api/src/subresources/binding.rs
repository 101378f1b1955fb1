//! POST `pods/<name>/binding`: says on which node a pod runs, once.
//!
//! The only way `spec.nodeName` is set after a pod was made.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admission::{self, Review},
    error::{Error, Subject},
    field::{FieldErrors, Path},
    object, time,
    verbs::{
        answer::Answer,
        call::Call,
        change::{Part, change},
        decode,
    },
};

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    if *method != Method::POST {
        return Err(Error::MethodNotAllowed);
    }
    let mut binding = decode::body(call, body, "v1", "Binding")?.value;
    let review = Review::create(call, &call.name)?;
    admission::mutate(&review, Some(&mut binding), None).await?;
    let node = check(call, &binding)?;
    admission::validate(&review, Some(&binding), None).await?;
    let now = time::seconds(call.server.now());
    change(call, &call.name, Part::System, |pod| {
        bind(call, pod, &binding, node, &now)
    })
    .await?;
    let subject = subject(call);
    Ok(Answer::success(StatusCode::CREATED, &subject, "").into_response())
}

/// POST `bindings`: the same for the pod that the Binding is named after.
pub(crate) async fn create(call: Call, body: &Bytes) -> Result<Response, Error> {
    if call.namespace.is_empty() {
        return Err(Error::MethodNotAllowed);
    }
    let binding = decode::body(&call, body, "v1", "Binding")?.value;
    let pods = call.server.find("", "v1", "pods");
    let resource = pods.ok_or(Error::NoSuchPath)?.clone();
    let name = object::name(&binding).to_owned();
    if name.is_empty() {
        return Err(Error::BadRequest(
            "name must be provided: the Binding has the name of its pod".to_owned(),
        ));
    }
    let call = Call {
        resource,
        name,
        ..call
    };
    serve(&call, &Method::POST, body).await
}

fn subject(call: &Call) -> Subject {
    Subject {
        resource: "pods/binding",
        kind: "Binding",
        ..call.subject(&call.name)
    }
}

/// The node that a binding names.
fn check<'a>(call: &Call, binding: &'a Value) -> Result<&'a str, Error> {
    let target = Path::root("target");
    let mut errors = FieldErrors::default();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !["", "Node"].contains(&kind) {
        errors.not_supported(&target.field("kind"), kind, &["Node", "<empty>"]);
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        errors.required(&target.field("name"), "");
    }
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: subject(call),
            errors,
        });
    }
    let name = object::name(binding);
    if !name.is_empty() && name != call.name {
        return Err(Error::BadRequest(format!(
            "name in URL does not match name in Binding object: {} != {name}",
            call.name
        )));
    }
    Ok(node)
}

/// The pod on its node.
fn bind(call: &Call, pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Error> {
    let conflict = |message: String| {
        Err(Error::Conflict {
            subject: subject(call),
            message,
        })
    };
    let name = object::name(pod);
    let (wanted, uid) = (object::uid(binding), object::uid(pod));
    if !wanted.is_empty() && wanted != uid {
        return conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if object::deleting(pod) {
        return conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let bound = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !bound.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {bound:?}"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    if let Some(added) = binding["metadata"]["annotations"].as_object() {
        for (key, value) in added {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
    set_scheduled(&mut pod, now);
    Ok(pod)
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": now,
    });
    let conditions = &mut pod["status"]["conditions"];
    match conditions.as_array_mut() {
        Some(conditions) => {
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => *conditions = json!([condition]),
    }
}
