//! Namespaces: objects are created only in one that exists and is not ending; some never end; each
//! begins with its `default` ServiceAccount.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Expect, Item, Op, ResourceKey};

use super::{Operation, Review};
use crate::{
    error::{Error, Subject},
    object, time,
    verbs::call::Call,
};

/// Namespaces that every cluster has.
pub(crate) const PERMANENT: &[&str] = &["default", "kube-system", "kube-public"];

/// Refuses what the life of namespaces forbids.
pub(crate) fn admit(review: &Review<'_>) -> Result<(), Error> {
    let call = review.call;
    if is_namespace(call)
        && review.operation == Operation::Delete
        && PERMANENT.contains(&&*review.name)
    {
        return Err(Error::Forbidden {
            subject: call.subject(&review.name),
            message: "this namespace may not be deleted".to_owned(),
            cause: None,
        });
    }
    find(review).map(drop)
}

/// The namespace is still the one that was looked at when the object is committed.
pub(crate) fn checks(review: &Review<'_>) -> Result<Vec<Op>, Error> {
    if is_namespace(review.call) && review.operation == Operation::Create {
        return Ok(default_account(review).into_iter().collect());
    }
    let check = |namespace: Arc<Item>| Op::Check {
        key: namespace.key.clone(),
        expect: Expect::At(namespace.revision),
    };
    Ok(find(review)?.map(check).into_iter().collect())
}

/// The ServiceAccount that every namespace has, made with it: a pod may be made at once.
fn default_account(review: &Review<'_>) -> Option<Op> {
    let server = &review.call.server;
    let key = ResourceKey::new("", "serviceaccounts").key(&review.name, "default");
    // What a namespace of this name left behind is used.
    if server.cache.get(&key).is_some() {
        return None;
    }
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "default",
            "namespace": review.name,
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": time::seconds(server.now()),
        },
    });
    Some(Op::Put {
        key,
        expect: Expect::Absent,
        value: Bytes::from(account.to_string()),
    })
}

/// The namespace of a new object, which must be there and must not be ending; `None` if the write
/// does not need one.
fn find(review: &Review<'_>) -> Result<Option<Arc<Item>>, Error> {
    let call = review.call;
    if !call.resource.names().namespaced || review.operation != Operation::Create {
        return Ok(None);
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
    // Of a subresource (a binding), only the object that it is about must be there.
    if !review.subresource.is_empty() {
        return Ok(Some(item));
    }
    let namespace: Value = serde_json::from_slice(&item.decoded.value).map_err(Error::internal)?;
    if object::deleting(&namespace) {
        return Err(Error::Forbidden {
            subject: call.subject(&review.name),
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
    Ok(Some(item))
}

/// True if the call is about Namespaces.
pub(crate) fn is_namespace(call: &Call) -> bool {
    let names = call.resource.names();
    names.group.is_empty() && names.plural == "namespaces"
}
