//! Namespaces: objects are created only in one that exists and is not ending; some never end.

use serde_json::{Value, json};
use store::{Expect, Op, ResourceKey};

use crate::{
    error::{Error, Subject},
    object,
    verbs::call::Call,
};

/// Namespaces that every cluster has.
pub(crate) const PERMANENT: &[&str] = &["default", "kube-system", "kube-public"];

/// What a new Namespace starts with: its contents are removed before it is.
const FINALIZER: &str = "kubernetes";

pub(crate) fn admit_create(call: &Call, object: &mut Value) -> Result<Vec<Op>, Error> {
    if is_namespace(call) {
        object["spec"]["finalizers"] = json!([FINALIZER]);
        object["status"]["phase"] = "Active".into();
        return Ok(Vec::new());
    }
    if !call.resource.names().namespaced {
        return Ok(Vec::new());
    }
    let key = ResourceKey::new("", "namespaces").key("", &call.namespace);
    let Some(item) = call.server.cache.get(&key) else {
        return Err(Error::NotFound(Subject {
            resource: "namespaces",
            kind: "Namespace",
            name: call.namespace.clone(),
            ..Subject::default()
        }));
    };
    let namespace: Value = serde_json::from_slice(&item.decoded.value).map_err(Error::internal)?;
    if object::deleting(&namespace) {
        return Err(Error::Forbidden {
            subject: call.subject(object::name(object)),
            message: format!(
                "unable to create new content in namespace {} because it is being terminated",
                call.namespace
            ),
            cause: Some(Box::new((
                "NamespaceTerminating",
                format!("namespace {} is being terminated", call.namespace),
                "metadata.namespace",
            ))),
        });
    }
    // The namespace is still the one that was looked at when the object is committed.
    Ok(vec![Op::Check {
        key,
        expect: Expect::At(item.revision),
    }])
}

pub(crate) fn admit_delete(call: &Call, name: &str) -> Result<(), Error> {
    if is_namespace(call) && PERMANENT.contains(&name) {
        return Err(Error::Forbidden {
            subject: call.subject(name),
            message: "this namespace may not be deleted".to_owned(),
            cause: None,
        });
    }
    Ok(())
}

/// True if the call is about Namespaces.
pub(crate) fn is_namespace(call: &Call) -> bool {
    let names = call.resource.names();
    names.group.is_empty() && names.plural == "namespaces"
}
