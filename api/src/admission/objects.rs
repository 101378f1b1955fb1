//! What admission reads of the cluster: objects in the cache, as values. Never waits.

use serde_json::Value;
use store::ResourceKey;

use super::Review;
use crate::{error::Error, verbs::call::Call};

/// Finds one object; `namespace` is empty at the cluster scope.
pub(super) fn find(
    call: &Call,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Error> {
    let key = ResourceKey::new(group, plural).key(namespace, name);
    let item = call.server.cache.get(&key);
    item.map(|item| serde_json::from_slice(&item.decoded.value).map_err(Error::internal))
        .transpose()
}

/// The objects of a resource, or of one namespace of it, in the order of their names.
pub(super) fn list(
    call: &Call,
    group: &str,
    plural: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Error> {
    let snapshot = call
        .server
        .cache
        .list(&ResourceKey::new(group, plural), namespace);
    let values = snapshot.items.iter();
    values
        .map(|item| serde_json::from_slice(&item.decoded.value).map_err(Error::internal))
        .collect()
}

/// True if the write is about objects of a resource themselves, not a subresource of theirs.
pub(super) fn is(review: &Review<'_>, group: &str, plural: &str) -> bool {
    let names = review.call.resource.names();
    review.subresource.is_empty() && names.plural == plural && names.group == group
}

/// A refusal by admission: `pods "p" is forbidden: <message>`.
pub(super) fn forbidden(review: &Review<'_>, message: impl Into<String>) -> Error {
    Error::Forbidden {
        subject: review.call.subject(&review.name),
        message: message.into(),
        cause: None,
    }
}

/// Several refusals as one text: `[a, b]`.
pub(super) fn together(mut messages: Vec<String>) -> String {
    if messages.len() == 1 {
        messages.remove(0)
    } else {
        format!("[{}]", messages.join(", "))
    }
}
