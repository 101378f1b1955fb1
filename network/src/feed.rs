//! What the apiserver tells: Services, EndpointSlices and Nodes, as they change.
//!
//! Reads only. A watch that breaks is listed again, with backoff, for as long as the network runs.

use std::{fmt::Debug, future::ready, mem};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;

/// A change to the objects of one kind.
pub(crate) enum Change<K> {
    /// After a list: these are all.
    All(Vec<K>),
    /// Came or changed.
    Put(K),
    Gone(K),
}

impl<K> Change<K> {
    /// Whether it is what a list told.
    pub(crate) fn is_all(&self) -> bool {
        matches!(self, Self::All(_))
    }
}

/// All changes to a kind, beginning with what there is.
pub(crate) fn changes<K>(api: Api<K>) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    changes_as(api, watcher::Config::default(), |object| object)
}

/// The same of the objects that the configuration selects, as what `read` makes of them: whole objects are kept no longer
/// than a page of a list.
pub(crate) fn changes_as<K, T>(
    api: Api<K>,
    config: watcher::Config,
    mut read: impl FnMut(K) -> T + Send,
) -> impl Stream<Item = Change<T>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
    T: Send,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let mut listed = Vec::new();
    let events = watcher(api, config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None);
    events.filter_map(move |event| {
        ready(match event {
            Ok(Event::Init) => {
                listed.clear();
                None
            }
            Ok(Event::InitApply(object)) => {
                listed.push(read(object));
                None
            }
            Ok(Event::InitDone) => Some(Change::All(mem::take(&mut listed))),
            Ok(Event::Apply(object)) => Some(Change::Put(read(object))),
            Ok(Event::Delete(object)) => Some(Change::Gone(read(object))),
            Err(error) => {
                tracing::warn!(
                    kind,
                    error = &error as &dyn std::error::Error,
                    "watch broke"
                );
                None
            }
        })
    })
}
