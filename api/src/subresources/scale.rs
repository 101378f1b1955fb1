//! `…/scale`: how many replicas there are and should be, as autoscaling/v1 `Scale`.
//!
//! Most kinds have `spec.replicas`, `status.replicas` and a label selector in `spec.selector`; a custom
//! kind says where it has them.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admission::{self, Review},
    error::{Error, Subject},
    field::{FieldErrors, Path},
    kinds::{Column, ScalePaths, column},
    object, schema,
    verbs::{
        accept::View,
        answer::Answer,
        apply::{self, Config},
        call::Call,
        change::{Part, change},
        decode, get,
        patch::Patch,
        view,
    },
};

/// What a Scale says of its owner that must be so.
const IDENTITY: [&str; 3] = ["resourceVersion", "uid", "name"];

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
    let scale = scale(call.resource.kind.scale_paths(), &owner);
    Ok(Answer::json(StatusCode::OK, &shown(call, scale)?).into_response())
}

const COLUMNS: &[Column] = &[
    column::NAME,
    column::count("Desired", "How many replicas there should be"),
    column::count("Available", "How many replicas there are"),
    column::AGE,
];

/// A Scale in the shape that the client asked for.
fn shown(call: &Call, scale: Value) -> Result<Value, Error> {
    match call.view {
        View::Object => Ok(scale),
        View::Metadata(version) => {
            view::parse(&view::metadata(scale.to_string().as_bytes(), version)?)
        }
        View::Table(version) => {
            let cells = vec![
                column::name(&scale),
                scale["spec"]["replicas"].clone(),
                scale["status"]["replicas"].clone(),
                column::age(&scale, call.server.now()),
            ];
            view::one_row(call, version, column::definitions(COLUMNS), cells, &scale)
        }
    }
}

/// Applies the replicas of a Scale: whoever applies it owns them.
async fn applied(call: &Call, body: &Bytes) -> Result<Value, Error> {
    let schema = schema::builtin("io.k8s.api.autoscaling.v1.Scale")
        .expect("a Scale is in the facts of Kubernetes");
    let mut config = Config::read(call, body, &schema, "autoscaling/v1", "Scale")?;
    if !config.object["spec"]["replicas"].is_null() {
        let applied = &config.object["spec"]["replicas"];
        let edit = |mut scale: Value| {
            scale["spec"]["replicas"] = applied.clone();
            Ok(scale)
        };
        if let Some((_, given)) = admit(call, edit).await? {
            config.object["spec"] = given;
        }
    }
    let asked = &config.object;
    let mut object = json!({
        "apiVersion": call.resource.api_version(),
        "kind": call.resource.names().kind,
    });
    for field in IDENTITY {
        let said = object::text(asked, field);
        if !said.is_empty() {
            object::set(&mut object, field, said);
        }
    }
    if !asked["spec"]["replicas"].is_null() {
        let replicas = replicas(call, asked)?;
        let paths = call.resource.kind.scale_paths();
        set_number(&mut object, &paths.spec_replicas, replicas);
    }
    config.object = object;
    let changed = config.change(call, Part::Main).await?;
    view::parse(&changed.bytes)
}

/// Writes the replicas that the edited Scale wants.
async fn set(call: &Call, edit: impl Fn(Value) -> Result<Value, Error>) -> Result<Value, Error> {
    let admitted = admit(call, &edit).await?;
    let changed = change(call, &call.name, Part::Main, |old| {
        let paths = call.resource.kind.scale_paths();
        let mut scale = edit(scale(paths, old))?;
        if let Some((asked, given)) = &admitted {
            // Somebody changed it since it was admitted, and the edit means something else now.
            if scale["spec"] != *asked {
                return Err(Error::modified(call.subject(&call.name)));
            }
            scale["spec"] = given.clone();
        }
        let replicas = replicas(call, &scale)?;
        let mut object = old.clone();
        set_number(&mut object, &paths.spec_replicas, replicas);
        // What the client says about the object's version and identity holds for its owner.
        for field in IDENTITY {
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

/// Brings the edited Scale through admission, if anybody is to be asked: its spec as it was edited, and
/// as it is after that.
async fn admit(
    call: &Call,
    edit: impl Fn(Value) -> Result<Value, Error>,
) -> Result<Option<(Value, Value)>, Error> {
    let review = Review::update(call, &call.name)?;
    if !admission::calls_out(&review) {
        return Ok(None);
    }
    call.server.cache.fresh().await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    let current = call.resource.served(item.decoded.value.clone()).await?;
    let old = scale(call.resource.kind.scale_paths(), &view::parse(&current)?);
    let mut new = edit(old.clone())?;
    let asked = new["spec"].clone();
    admission::mutate(&review, Some(&mut new), Some(&old)).await?;
    admission::validate(&review, Some(&new), Some(&old)).await?;
    Ok(Some((asked, new["spec"].take())))
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
