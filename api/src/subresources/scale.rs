//! `…/scale`: how many replicas there are and should be, as autoscaling/v1 `Scale`.
//!
//! For kinds with `spec.replicas`, `status.replicas` and a label selector in `spec.selector`.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    error::{Error, Subject},
    field::{FieldErrors, Path},
    object, schema,
    verbs::{
        answer::Answer,
        apply::{self, Config},
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
        Method::PATCH if apply::is_apply(call) => applied(call, body).await?,
        Method::PATCH => {
            let patch = Patch::read(call, body)?;
            // A Scale holds no lists: a strategic merge is a merge.
            set(call, |old| patch.apply(None, old)).await?
        }
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(Answer::json(StatusCode::OK, &scale(&owner)).into_response())
}

/// Applies the replicas of a Scale: whoever applies it owns them.
async fn applied(call: &Call, body: &Bytes) -> Result<Value, Error> {
    let schema = schema::builtin("io.k8s.api.autoscaling.v1.Scale")
        .expect("a Scale is in the facts of Kubernetes");
    let mut config = Config::read(call, body, &schema, "autoscaling/v1", "Scale")?;
    if !config.object["spec"]["replicas"].is_null() {
        replicas(call, &config.object)?;
    }
    config.object["apiVersion"] = call.resource.api_version().into();
    config.object["kind"] = call.resource.names().kind.into();
    if let Some(fields) = config.object.as_object_mut() {
        fields.remove("status");
    }
    let changed = config.change(call, Part::Main).await?;
    view::parse(&changed.bytes)
}

/// Writes the replicas that the edited Scale wants.
async fn set(call: &Call, edit: impl Fn(Value) -> Result<Value, Error>) -> Result<Value, Error> {
    let changed = change(call, &call.name, Part::Main, |old| {
        let scale = edit(scale(old))?;
        let replicas = replicas(call, &scale)?;
        let mut object = old.clone();
        object["spec"]["replicas"] = replicas.into();
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
fn scale(owner: &Value) -> Value {
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
        "spec": {"replicas": owner["spec"]["replicas"].as_i64().unwrap_or_default()},
        "status": {
            "replicas": owner["status"]["replicas"].as_i64().unwrap_or_default(),
            "selector": selector(&owner["spec"]["selector"]),
        },
    })
}

/// A label selector as text: `app=web,tier in (a,b),!old`. A ReplicationController's is only labels.
fn selector(selector: &Value) -> String {
    let is_selector =
        selector["matchLabels"].is_object() || selector["matchExpressions"].is_array();
    let labels = if is_selector {
        &selector["matchLabels"]
    } else {
        selector
    };
    let mut parts: Vec<String> = labels
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
        assert_eq!(selector(&json!({"app": "web"})), "app=web");
        assert_eq!(selector(&Value::Null), "");
    }
}
