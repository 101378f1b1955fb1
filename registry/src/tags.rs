//! Tags, and which repositories there are.

use futures::TryStreamExt as _;
use serde_json::json;

use crate::{
    digest::Digest,
    error::{Code, Error},
    name::Repository,
    registry::Inner,
    storage,
};

impl Inner {
    /// What a tag names.
    pub(crate) async fn find_tag(
        &self,
        repository: &Repository,
        tag: &str,
    ) -> Result<Option<Digest>, Error> {
        let named = self.storage.find(&storage::tag(repository, tag)).await?;
        let named = named.and_then(|named| std::str::from_utf8(&named).ok()?.trim().parse().ok());
        Ok(named)
    }

    /// The tags after `last`, in order, at most `count`; and whether there are more.
    pub(crate) async fn tags(
        &self,
        repository: &Repository,
        last: Option<&str>,
        count: Option<usize>,
    ) -> Result<(Vec<String>, bool), Error> {
        let listed = self
            .storage
            .names(&storage::links(repository, "_tags"))
            .await?;
        if listed.is_empty() && !self.is_repository(repository).await? {
            return Err(Error::new(
                Code::NameUnknown,
                format!("repository {repository} not found"),
                json!({"name": repository.as_str()}),
            ));
        }
        let mut tags: Vec<String> = listed
            .iter()
            .filter_map(|object| object.location.filename().map(str::to_owned))
            .filter(|tag| last.is_none_or(|last| tag.as_str() > last))
            .collect();
        let more = count.is_some_and(|count| tags.len() > count);
        tags.truncate(count.unwrap_or(usize::MAX));
        Ok((tags, more))
    }

    pub(crate) async fn tags_with_digests(
        &self,
        repository: &Repository,
    ) -> Result<Vec<(String, Digest)>, Error> {
        let mut found = Vec::new();
        for object in self
            .storage
            .names(&storage::links(repository, "_tags"))
            .await?
        {
            if let Some(tag) = object.location.filename()
                && let Some(digest) = self.find_tag(repository, tag).await?
            {
                found.push((tag.to_owned(), digest));
            }
        }
        Ok(found)
    }

    /// Whether anything was ever pushed there, and is there yet.
    pub(crate) async fn is_repository(&self, repository: &Repository) -> Result<bool, Error> {
        for sort in ["_manifests", "_blobs"] {
            if self
                .storage
                .is_used(&storage::links(repository, sort))
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The namespaces that have repositories, in order.
    pub(crate) async fn namespaces(&self) -> Result<Vec<String>, Error> {
        let mut names = self.storage.directories(&storage::repositories()).await?;
        names.sort();
        Ok(names)
    }

    /// The repositories of a namespace, in order.
    pub(crate) async fn repositories(&self, namespace: &str) -> Result<Vec<Repository>, Error> {
        let mut found = std::collections::BTreeSet::new();
        let mut objects = self.storage.list(&storage::namespace(namespace));
        while let Some(object) = objects.try_next().await? {
            let path = object.location.as_ref();
            let name = path.strip_prefix("repositories/").unwrap_or(path);
            // No part of a repository's name begins so.
            if let Some((name, _)) = name.split_once("/_")
                && let Ok(repository) = Repository::parse(name)
            {
                found.insert(repository);
            }
        }
        Ok(found.into_iter().collect())
    }
}
