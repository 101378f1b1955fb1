//! PATCH with `application/apply-patch+yaml`: server-side apply.
//!
//! The body is what its manager wants, and all that it wants: what it applied before and leaves out
//! now is removed. Makes the object if there is none. What is owned is decided in
//! [`merge::apply`](crate::schema::merge::apply); here bodies are read and errors worded.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::{
    answer::Answer,
    call::Call,
    change::{Changed, Ownership, Part, change_as},
    create::{self, ATTEMPTS},
    decode, managed,
    query::FieldValidation,
    view,
};
use crate::{
    auth::{Attributes, authorizer},
    encoding,
    error::Error,
    object,
    schema::{
        self, Schema,
        merge::apply::{self as merge, Applied, ApplyError, Managers},
    },
    server::resources,
};

/// The content type of an apply; its body may be JSON.
pub(crate) const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// True for a PATCH that is an apply.
pub(crate) fn is_apply(call: &Call) -> bool {
    decode::media_type(call) == MEDIA_TYPE
}

pub(crate) async fn apply(call: &Call, part: Part, body: &Bytes) -> Result<Answer, Error> {
    let names = call.resource.names();
    let version = call.resource.api_version();
    let config = Config::read(call, body, &call.resource.schema, &version, names.kind)?;
    for _ in 0..ATTEMPTS {
        let changed = match config.change(call, part).await {
            Ok(changed) => changed,
            Err(Error::NotFound(_)) if creates(call) => match config.create(call).await {
                // Somebody else created it just now.
                Err(Error::AlreadyExists(_)) => continue,
                created => return created,
            },
            Err(error) => return Err(error),
        };
        let mut warnings = config.warnings;
        if part == Part::Main {
            warnings.extend(call.resource.kind.warnings(&changed.object));
        }
        return Ok(Answer::ok(view::one(call, changed.bytes)?).with_warnings(warnings));
    }
    Err(Error::modified(call.subject(&call.name)))
}

/// Subresources are never created, nor are kinds that cannot be.
fn creates(call: &Call) -> bool {
    call.subresource.is_none() && call.resource.kind.verbs().contains(&"create")
}

/// What is applied.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) object: Value,
    warnings: Vec<String>,
    force: bool,
}

impl Config {
    /// Reads a body that must be of a version and kind, and fit its schema.
    pub(crate) fn read(
        call: &Call,
        body: &Bytes,
        schema: &Schema,
        version: &str,
        kind: &str,
    ) -> Result<Self, Error> {
        let body = encoding::yaml(body)
            .map_err(|error| Error::BadRequest(format!("error decoding YAML: {error}")))?;
        let text = |field: &str| body.value[field].as_str().unwrap_or_default();
        if (text("apiVersion"), text("kind")) != (version, kind) {
            return Err(Error::BadRequest(format!(
                "invalid object type: {:?}, Kind={:?}: expected {version}, Kind={kind}",
                text("apiVersion"),
                text("kind")
            )));
        }
        if body.value["metadata"]
            .get("managedFields")
            .is_some_and(|value| !value.is_null())
        {
            return Err(Error::BadRequest(
                "metadata.managedFields must be nil".to_owned(),
            ));
        }
        let duplicates = body
            .duplicates
            .iter()
            .map(|path| format!("duplicate field {path:?}"));
        let duplicates: Vec<String> = duplicates.collect();
        let warnings = match call.query.field_validation()? {
            FieldValidation::Strict if !duplicates.is_empty() => {
                return Err(Error::BadRequest(format!(
                    "strict decoding error: {}",
                    duplicates.join(", ")
                )));
            }
            FieldValidation::Ignore => Vec::new(),
            _ => duplicates,
        };
        let checked = schema::check(schema, body.value);
        let problems: BTreeMap<String, String> = checked
            .errors
            .into_iter()
            .map(|error| (error.path.to_string(), error.message))
            .chain(checked.unknown.into_iter().map(|path| {
                let message = "field not declared in schema".to_owned();
                (path, message)
            }))
            .collect();
        if !problems.is_empty() {
            let problems = problems
                .into_iter()
                .map(|(path, message)| format!(".{path}: {message}"));
            return Err(untyped(call, &problems.collect::<Vec<_>>()));
        }
        Ok(Self {
            object: checked.value,
            warnings,
            force: call.query.flag("force")?.unwrap_or(false),
        })
    }

    /// Changes the object that is there.
    pub(crate) async fn change(&self, call: &Call, part: Part) -> Result<Changed, Error> {
        change_as(call, &call.name, part, Ownership::Said, |old| {
            let mut live = old.clone();
            let managers = Managers::stored(object::take(&mut live, "managedFields"));
            let applied = self.onto(call, part, Some(&live), managers)?;
            let mut object = applied.object;
            if let Some(managed_fields) = applied.managers.into_json() {
                object::set(&mut object, "managedFields", managed_fields);
            }
            Ok(object)
        })
        .await
    }

    /// Makes the object.
    async fn create(&self, call: &Call) -> Result<Answer, Error> {
        let names = call.resource.names();
        let asked = authorizer::Resource {
            group: names.group,
            resource: names.plural,
            subresource: "",
            namespace: &call.namespace,
            name: &call.name,
            fields: None,
        };
        resources::allow(
            &call.server,
            &call.user,
            &Attributes::resource("create", asked),
        )
        .await?;
        let refused = |message: String| Error::Conflict {
            subject: call.subject(&call.name),
            message,
        };
        let uid = object::uid(&self.object);
        if !uid.is_empty() {
            return Err(refused(format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )));
        }
        let version = object::resource_version(&self.object);
        if !version.is_empty() {
            return Err(refused(format!(
                "the provided object specified resourceVersion {version}, and no existing object was found"
            )));
        }
        let applied = self.onto(call, Part::Main, None, Managers::default())?;
        let mut object = applied.object;
        match object::name(&object) {
            "" => object::set(&mut object, "name", call.name.as_str()),
            name if name == call.name => {}
            name => {
                return Err(Error::BadRequest(format!(
                    "the name of the object ({name}) does not match the name on the URL ({})",
                    call.name
                )));
            }
        }
        let managed_fields = applied.managers.into_json().unwrap_or_default();
        create::insert(call, object, Some(managed_fields), self.warnings.clone()).await
    }

    fn onto(
        &self,
        call: &Call,
        part: Part,
        live: Option<&Value>,
        managers: Managers,
    ) -> Result<Applied, Error> {
        let writer = managed::writer(call);
        let reach = managed::reach_of_apply(call, part);
        let schema = &call.resource.schema;
        let applied = merge::apply(
            schema,
            live,
            &self.object,
            managers,
            &writer,
            reach,
            self.force,
        );
        applied.map_err(|error| match error {
            ApplyError::Invalid(problems) => untyped(call, &problems),
            ApplyError::Conflicts(conflicts) => Error::ApplyConflict {
                message: conflicts.to_string(),
                causes: conflicts.causes(),
            },
        })
    }
}

/// A configuration that its schema does not accept.
fn untyped(call: &Call, problems: &[String]) -> Error {
    let told = match problems {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let place = if call.namespace.is_empty() {
        call.name.clone()
    } else {
        format!("{}/{}", call.namespace, call.name)
    };
    Error::BadRequest(format!(
        "failed to create typed patch object ({place}; {}/{}, Kind={}): {told}",
        call.resource.names().group,
        call.resource.names().version,
        call.resource.names().kind
    ))
}
