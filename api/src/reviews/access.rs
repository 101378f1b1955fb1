//! SubjectAccessReview, LocalSubjectAccessReview and SelfSubjectAccessReview.

use serde_json::{Value, json};

use super::texts;
use crate::{
    auth::{Attributes, User, authorizer::Resource},
    error::Error,
    field::{FieldErrors, Path},
    selector::FieldSelector,
    verbs::call::Call,
};

/// About the user that the review names.
pub(super) fn of_anyone(call: &Call, review: &Value) -> Result<Value, Error> {
    let spec = &review["spec"];
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        ..User::default()
    };
    let mut errors = FieldErrors::default();
    if user.name.is_empty() && user.groups.is_empty() {
        errors.invalid(
            &Path::root("spec").field("user"),
            "",
            "at least one of user or group must be specified",
        );
    }
    decide(call, spec, &user, errors)
}

/// About the user who asks.
pub(super) fn of_oneself(call: &Call, review: &Value) -> Result<Value, Error> {
    decide(call, &review["spec"], &call.user, FieldErrors::default())
}

fn decide(call: &Call, spec: &Value, user: &User, mut errors: FieldErrors) -> Result<Value, Error> {
    validate(call, spec, &mut errors);
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: call.subject(""),
            errors,
        });
    }
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    fn text<'a>(part: &'a Value, field: &str) -> &'a str {
        part[field].as_str().unwrap_or_default()
    }
    let fields = selector(&resource["fieldSelector"]);
    let asked = if resource.is_object() {
        let asked = Resource {
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            fields: fields.as_ref(),
        };
        Attributes::resource(text(resource, "verb"), asked)
    } else {
        Attributes::path(text(path, "verb"), text(path, "path"))
    };
    let decision = call.server.authorizer.decide(user, &asked);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

/// What `FieldSelectorAttributes` require. What they do not say with one value narrows nothing, as in Kubernetes:
/// the answer is that for more objects.
fn selector(attributes: &Value) -> Option<FieldSelector> {
    if let Some(raw) = attributes["rawSelector"].as_str() {
        return FieldSelector::parse(raw).ok();
    }
    let required = attributes["requirements"].as_array()?.iter();
    let required = required.filter_map(|required| {
        let key = required["key"].as_str()?.to_owned();
        match (
            required["operator"].as_str()?,
            texts(&required["values"]).as_slice(),
        ) {
            ("In", [value]) => Some((key, true, value.clone())),
            ("NotIn", [value]) => Some((key, false, value.clone())),
            _ => None,
        }
    });
    Some(FieldSelector::of(required.collect()))
}

fn validate(call: &Call, spec: &Value, errors: &mut FieldErrors) {
    let path = Path::root("spec");
    let (resource, plain) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let local = call.resource.names().namespaced;
    match (resource.is_object(), plain.is_object()) {
        (true, true) => errors.invalid(
            &path.field("nonResourceAttributes"),
            plain.clone(),
            "cannot be specified in combination with resourceAttributes",
        ),
        (false, false) => errors.invalid(
            &path.field("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (false, true) if local => errors.invalid(
            &path.field("nonResourceAttributes"),
            plain.clone(),
            "disallowed on this kind of request",
        ),
        (true, false) if local && resource["namespace"] != call.namespace.as_str() => errors
            .invalid(
                &path.field("resourceAttributes").field("namespace"),
                resource["namespace"].clone(),
                "must match metadata.namespace",
            ),
        _ => {}
    }
}
