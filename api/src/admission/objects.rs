//! What admission reads of the cluster: objects in the cache, as values. Never waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use store::{Item, Key, ResourceKey, Revision};

use super::Review;
use crate::{error::Error, verbs::call::Call};

/// Objects that are kept as values.
const MOST: usize = 256;

/// Values of objects that are looked at on every write of others: a namespace, a PriorityClass.
/// One that changed is read anew; too many, and all are forgotten.
#[derive(Default)]
pub(crate) struct Parsed(Mutex<HashMap<Key, (Revision, Arc<Value>)>>);

impl Parsed {
    fn value(&self, item: &Item) -> Result<Arc<Value>, Error> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, value)) = kept().get(&item.key)
            && *revision == item.revision
        {
            return Ok(value.clone());
        }
        let value: Value = serde_json::from_slice(&item.decoded.value).map_err(Error::internal)?;
        let value = Arc::new(value);
        let mut kept = kept();
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(item.key.clone(), (item.revision, value.clone()));
        Ok(value)
    }
}

/// Finds one object; `namespace` is empty at the cluster scope.
pub(super) fn find(
    call: &Call,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<Value>>, Error> {
    let key = ResourceKey::new(group, plural).key(namespace, name);
    let item = call.server.cache.get(&key);
    item.map(|item| call.server.parsed.value(&item)).transpose()
}

/// The objects of a resource, or of one namespace of it, in the order of their names.
pub(super) fn list(
    call: &Call,
    group: &str,
    plural: &str,
    namespace: Option<&str>,
) -> Result<Vec<Arc<Value>>, Error> {
    let snapshot = call
        .server
        .cache
        .list(&ResourceKey::new(group, plural), namespace);
    let items = snapshot.items.iter();
    items.map(|item| call.server.parsed.value(item)).collect()
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
