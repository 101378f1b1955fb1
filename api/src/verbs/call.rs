//! One request for a resource, read and authorised.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use store::Key;
use tokio_util::sync::CancellationToken;

use super::{accept::View, query::Query, transaction::Together};
use crate::{
    auth::User,
    error::{Error, Subject},
    kinds::{Stamp, Subresource},
    server::state::{Resource, Server},
};

/// Warnings that a call keeps; further ones are not sent.
const WARNINGS: usize = 64;

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
    pub(crate) warnings: Warnings,
    /// Takes what the call would commit, if others commit with it.
    pub(crate) together: Option<Arc<Together>>,
}

/// What to tell the user beside the answer, whatever that will be; from anywhere in a call.
#[derive(Clone, Default, Debug)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds one; what was said before is not said again.
    pub(crate) fn add(&self, text: impl Into<String>) {
        let mut texts = self.lock();
        let text = text.into();
        if texts.len() < WARNINGS && !texts.contains(&text) {
            texts.push(text);
        }
    }

    /// All of them; none are left.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The key of an object of the call's namespace.
    pub(crate) fn key(&self, name: &str) -> Key {
        self.resource.object_key(&self.namespace, name)
    }

    /// Who writes, and when.
    pub(crate) fn stamp(&self) -> Stamp<'_> {
        Stamp {
            user: &self.user,
            now: self.server.now(),
        }
    }

    /// An object's bytes if they are no more than a body may have: defaults and patches let it grow.
    pub(crate) fn fit(&self, bytes: Bytes) -> Result<Bytes, Error> {
        let limit = self.server.config.limits.body_bytes;
        if bytes.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        Ok(bytes)
    }

    /// What an error about an object is about.
    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject::new(self.resource.names(), name)
    }

    pub(crate) fn not_found(&self, name: &str) -> Error {
        Error::NotFound(self.subject(name))
    }
}
