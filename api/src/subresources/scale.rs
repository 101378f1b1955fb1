//! `…/scale`: how many replicas there are and should be, as autoscaling/v1 `Scale`.
//!
//! Most kinds have `spec.replicas`, `status.replicas` and a label selector in `spec.selector`; a custom
//! kind says where it has them.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    error::{Error, Subject},
    field::{FieldErrors, Path},
    kinds::ScalePaths,
    object,
    verbs::{
        answer::Answer,
        call::Call,
        change::{Part, change},
        decode, get,
        patch::Patch,
        view,
    },
};

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    let owner = match *method {
        Method::GET => {
            get::reach(call).await?;
            let item = call.server.cache.get(&call.key(&call.name));
            let item = item.ok_or_else(|| call.not_found(&call.name))?;
            view::parse(&call.resource.served(item.decoded.value.clone()).await?)?
        }
        Method::PUT => {
            let scale = decode::body(call, body, "autoscaling/v1", "Scale")?.value;
            set(call, |_| Ok(scale.clone())).await?
        }
        Method::PATCH => {
            let patch = Patch::read(call, body)?;
            // A Scale holds no lists: a strategic merge is a merge.
            set(call, |old| patch.apply(None, old)).await?
        }
        _ => return Err(Error::MethodNotAllowed),
    };
    let paths = call.resource.kind.scale_paths();
    Ok(Answer::json(StatusCode::OK, &scale(paths, &owner)).into_response())
}

/// Writes the replicas that the edited Scale wants.
async fn set(call: &Call, edit: impl Fn(Value) -> Result<Value, Error>) -> Result<Value, Error> {
    let changed = change(call, &call.name, Part::Main, |old| {
        let paths = call.resource.kind.scale_paths();
        let scale = edit(scale(paths, old))?;
        let replicas = replicas(call, &scale)?;
        let mut object = old.clone();
        set_number(&mut object, &paths.spec_replicas, replicas);
        // What the client says about the object's version and identity holds for its owner.
        for field in ["resourceVersion", "uid", "name"] {
            let said = object::text(&scale, field);
            if !said.is_empty() {
                object::set(&mut object, field, said);
            }
        }
        Ok(object)
    })
    .await?;
    view::parse(&changed.bytes)
}

/// The replicas that a Scale asks for; none is 0, as Kubernetes has it.
fn replicas(call: &Call, scale: &Value) -> Result<i64, Error> {
    let value = &scale["spec"]["replicas"];
    let complaint = match value.as_i64() {
        None if value.is_null() => return Ok(0),
        None => "must be an integer",
        Some(0..=0x7fff_ffff) => return Ok(value.as_i64().unwrap_or_default()),
        Some(_) => "must be greater than or equal to 0 and fit 32 bits",
    };
    let mut errors = FieldErrors::default();
    errors.invalid(
        &Path::root("spec").field("replicas"),
        value.clone(),
        complaint,
    );
    Err(Error::Invalid {
        subject: Subject {
            group: "autoscaling",
            kind: "Scale",
            name: call.name.clone(),
            ..Subject::default()
        },
        errors,
    })
}

/// The Scale of an object.
fn scale(paths: &ScalePaths, owner: &Value) -> Value {
    let number = |pointer: &str| {
        owner
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    let selector = match owner.pointer(&paths.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(found) if !paths.selector.is_empty() => selector(found),
        _ => String::new(),
    };
    let mut metadata = json!({});
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        metadata[field] = object::text(owner, field).into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)},
        "status": {
            "replicas": number(&paths.status_replicas),
            "selector": selector,
        },
    })
}

/// Sets a number, making the objects above it.
fn set_number(object: &mut Value, pointer: &str, number: i64) {
    let mut at = object;
    for step in pointer.split('/').skip(1) {
        if !at[step].is_object() && !at[step].is_number() {
            at[step] = json!({});
        }
        at = &mut at[step];
    }
    *at = number.into();
}

/// A label selector as text: `app=web,tier in (a,b),!old`.
fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.sort();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_clients_send_them() {
        let value = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "zone", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(selector(&value), "!zone,app=web,tier in (a,b)");
        assert_eq!(selector(&Value::Null), "");
    }
}
