//! Who names a manifest as its subject: signatures, attestations, whatever is attached to it.

use serde_json::Value;

use crate::{digest::Digest, error::Error, name::Repository, registry::Inner, storage};

/// Descriptors in one answer.
const PAGE: usize = 500;

/// A part of the list.
pub(crate) struct Page {
    pub(crate) descriptors: Vec<Value>,
    /// After which the next part begins.
    pub(crate) next: Option<String>,
}

impl Inner {
    /// Descriptors of what names the subject, after `last`; of one type only, if one is given.
    pub(crate) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&str>,
    ) -> Result<Page, Error> {
        let mut page = Page {
            descriptors: Vec::new(),
            next: None,
        };
        let mut seen = None;
        let listed = storage::referrers(repository, subject);
        for object in self.storage.names(&listed).await? {
            let name = object.location.filename().unwrap_or_default().to_owned();
            if last.is_some_and(|last| name.as_str() <= last) {
                continue;
            }
            if page.descriptors.len() == PAGE {
                page.next = seen;
                break;
            }
            let Some(descriptor) = self.storage.find(&object.location).await? else {
                continue;
            };
            let Ok(descriptor) = serde_json::from_slice::<Value>(&descriptor) else {
                continue;
            };
            if artifact_type.is_none_or(|wanted| descriptor["artifactType"] == wanted) {
                page.descriptors.push(descriptor);
            }
            seen = Some(name);
        }
        Ok(page)
    }
}
