//! One request for a resource, read and authorised.

use std::sync::Arc;

use http::HeaderMap;
use store::Key;
use tokio_util::sync::CancellationToken;

use super::{accept::View, query::Query};
use crate::{
    auth::User,
    error::{Error, Subject},
    kinds::Subresource,
    server::state::{Resource, Server},
};

pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) user: User,
    pub(crate) resource: Arc<Resource>,
    /// Empty at the cluster scope and across all namespaces.
    pub(crate) namespace: String,
    /// Empty where the path has none.
    pub(crate) name: String,
    /// None for the object itself.
    pub(crate) subresource: Option<Subresource>,
    pub(crate) query: Query,
    pub(crate) view: View,
    pub(crate) headers: HeaderMap,
    /// Cancelled when the listener that the request came through stops.
    pub(crate) draining: CancellationToken,
}

impl Call {
    /// The key of an object of the call's namespace.
    pub(crate) fn key(&self, name: &str) -> Key {
        self.resource.object_key(&self.namespace, name)
    }

    /// What an error about an object is about.
    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject::new(self.resource.names(), name)
    }

    pub(crate) fn not_found(&self, name: &str) -> Error {
        Error::NotFound(self.subject(name))
    }
}
