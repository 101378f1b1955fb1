//! One write as admission sees it: who does what to which object. Never the object itself, which the
//! phases change and are given.

use serde_json::{Value, json};

use super::lifecycle::is_namespace;
use crate::{error::Error, kinds::Subresource, verbs::call::Call};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A request that goes on to what the object is or runs.
    Connect,
}

/// A write under review.
#[derive(Clone)]
pub(crate) struct Review<'a> {
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// Empty for a new object whose name is still to be made.
    pub(crate) name: String,
    /// Its segment of the path; empty for the object itself.
    pub(crate) subresource: &'static str,
    /// True if nothing will be written.
    pub(crate) dry_run: bool,
    /// `CreateOptions`, `UpdateOptions` or `DeleteOptions`, as webhooks see them; a connection has none.
    pub(crate) options: Value,
}

impl Operation {
    /// As rules and webhooks have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl<'a> Review<'a> {
    /// A new object; of the call's subresource, if it has one.
    pub(crate) fn create(call: &'a Call, name: &str) -> Result<Self, Error> {
        Ok(Self {
            call,
            operation: Operation::Create,
            name: name.to_owned(),
            subresource: call.subresource.map_or("", Subresource::path),
            dry_run: call.query.dry_run()?,
            options: options(call, "CreateOptions")?,
        })
    }

    /// A change of an object or of the call's subresource.
    pub(crate) fn update(call: &'a Call, name: &str) -> Result<Self, Error> {
        Ok(Self {
            operation: Operation::Update,
            options: options(call, "UpdateOptions")?,
            ..Self::create(call, name)?
        })
    }

    /// The end of an object, whatever path it was asked for by.
    pub(crate) fn delete(call: &'a Call, name: &str, dry_run: bool, options: Value) -> Self {
        Self {
            call,
            operation: Operation::Delete,
            name: name.to_owned(),
            subresource: "",
            dry_run,
            options,
        }
    }

    /// A request that is passed on. Its query is the backend's.
    pub(crate) fn connect(call: &'a Call) -> Self {
        Self {
            call,
            operation: Operation::Connect,
            name: call.name.clone(),
            subresource: call.subresource.map_or("", Subresource::path),
            dry_run: false,
            options: Value::Null,
        }
    }

    /// Group, version and kind of the object, if it is not of the resource's own kind.
    pub(crate) fn own_kind(&self) -> Option<[&'static str; 3]> {
        if self.operation == Operation::Connect {
            let owner = self.call.resource.names().kind;
            let subresource = self.call.subresource;
            return subresource
                .and_then(|part| part.options_kind(owner))
                .map(|options| ["", "v1", options]);
        }
        let subresources = self.call.resource.kind.subresources().iter();
        subresources
            .into_iter()
            .find(|subresource| subresource.path() == self.subresource)
            .and_then(|subresource| subresource.own_kind())
            .map(|[group, version, kind, _]| [group, version, kind])
    }

    /// The namespace of the request; a Namespace's is itself.
    pub(crate) fn namespace(&self) -> &str {
        if is_namespace(self.call) {
            &self.name
        } else {
            &self.call.namespace
        }
    }
}

fn options(call: &Call, kind: &str) -> Result<Value, Error> {
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    for field in ["fieldManager", "fieldValidation"] {
        if let Some(text) = call.query.text(field) {
            options[field] = text.into();
        }
    }
    if call.query.dry_run()? {
        options["dryRun"] = json!(["All"]);
    }
    Ok(options)
}
