//! Whose a namespace's repositories are: a namespace that was deleted and made anew is another, and has none of what
//! the one before it had.

use bytes::Bytes;

use crate::{error::Error, name::Repository, registry::Inner, storage};

impl Inner {
    /// Before something is pushed: refuses a namespace that is not there; one that is new begins empty.
    pub(crate) async fn own(&self, repository: &Repository) -> Result<(), Error> {
        let uid = self.namespace(repository).await?;
        let name = repository.namespace();
        let path = storage::owner(name);
        if self.storage.find(&path).await?.as_deref() == Some(uid.as_bytes()) {
            return Ok(());
        }
        let _gate = self.gate.write().await;
        match self.storage.find(&path).await? {
            Some(owner) if owner == uid => return Ok(()),
            Some(_) => {
                let removed = self.storage.remove_all(&storage::namespace(name)).await?;
                tracing::info!(
                    namespace = name,
                    removed,
                    "the images of an earlier namespace were removed"
                );
            }
            None => {}
        }
        Ok(self.storage.put(&path, Bytes::from(uid)).await?)
    }

    /// Before something is pulled: refuses what an earlier namespace of that name had.
    pub(crate) async fn check_owner(&self, repository: &Repository) -> Result<(), Error> {
        let uid = self.namespace(repository).await?;
        let owner = self
            .storage
            .find(&storage::owner(repository.namespace()))
            .await?;
        match owner {
            Some(owner) if owner != uid => Err(Error::name_unknown(
                repository,
                format!("repository {repository} not found"),
            )),
            _ => Ok(()),
        }
    }

    async fn namespace(&self, repository: &Repository) -> Result<String, Error> {
        let name = repository.namespace();
        let found = self.access.namespace(name).await?;
        found.ok_or_else(|| {
            Error::name_unknown(
                repository,
                format!("namespace {name:?} not found: repositories are NAMESPACE/NAME"),
            )
        })
    }

    /// Removes what namespaces had that are gone.
    pub(crate) async fn remove_orphans(&self) -> Result<(), Error> {
        let kept = self.storage.directories(&storage::repositories()).await?;
        let namespaces = self.access.namespaces().await?;
        for name in kept {
            let owner = self.storage.find(&storage::owner(&name)).await?;
            let is_kept = namespaces
                .get(&name)
                .is_some_and(|uid| owner.is_none_or(|owner| owner == *uid));
            // It may be new.
            if !is_kept && !self.is_current(&name).await? {
                let _gate = self.gate.write().await;
                // Made anew, and pushed to, while there was no gate.
                if self.is_current(&name).await? {
                    continue;
                }
                let removed = self.storage.remove_all(&storage::namespace(&name)).await?;
                tracing::info!(
                    namespace = name,
                    removed,
                    "the images of a namespace that is gone were removed"
                );
            }
        }
        Ok(())
    }

    /// True if what is kept under this name is a namespace's that is there.
    pub(crate) async fn is_current(&self, name: &str) -> Result<bool, Error> {
        let owner = self.storage.find(&storage::owner(name)).await?;
        let uid = self.access.namespace(name).await?;
        Ok(uid.is_some_and(|uid| owner.is_none_or(|owner| owner == uid)))
    }
}
