//! Where an image's bytes come from: a host on the network, or the registry in this process.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use oci_client::Reference;

use super::{
    super::{
        digest_of, manifest,
        source::{Source, SourceError},
    },
    refusal::{Kind, Refusal},
    remote::Remote,
};

/// A registry that has the image.
pub(in crate::images) enum Client {
    Remote(Box<Remote>),
    Here(Here),
}

/// A repository of the registry in this process.
pub(in crate::images) struct Here {
    source: Arc<dyn Source>,
    reference: Reference,
}

/// A blob on its way.
pub(in crate::images) enum Body {
    Remote {
        response: reqwest::Response,
        host: String,
    },
    Here {
        stream: BoxStream<'static, io::Result<Bytes>>,
        host: String,
    },
}

impl Body {
    /// The next bytes; `None` at the end.
    pub(in crate::images) async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        match self {
            Body::Remote { response, host } => {
                let chunk = response.chunk().await;
                chunk.map_err(|error| Refusal::of_transport(host, &error))
            }
            Body::Here { stream, host } => {
                let chunk = stream.next().await.transpose();
                chunk.map_err(|error| Refusal::new(Kind::Server, host, &error.to_string()))
            }
        }
    }
}

impl Client {
    /// The repository that the reference names, in this process.
    pub(super) fn here(source: Arc<dyn Source>, reference: Reference) -> Client {
        Client::Here(Here { source, reference })
    }

    /// The host, as messages name it.
    fn host(&self) -> &str {
        match self {
            Client::Remote(remote) => remote.host(),
            Client::Here(here) => here.reference.registry(),
        }
    }

    /// The manifest that a tag or digest names; its bytes and their digest.
    pub(super) async fn manifest(&self, name: &str) -> Result<(Vec<u8>, String), Refusal> {
        let here = match self {
            Client::Remote(remote) => return remote.manifest(name).await,
            Client::Here(here) => here,
        };
        let repository = here.reference.repository();
        let bytes = here.source.manifest(repository, name).await;
        let bytes = bytes.map_err(|error| here.refusal(&error))?.to_vec();
        let digest = digest_of(&bytes);
        if bytes.len() as u64 > manifest::MAX_MANIFEST {
            return Err(self.refuse(&format!(
                "its manifest is more than {} bytes",
                manifest::MAX_MANIFEST
            )));
        }
        if name.starts_with("sha256:") && name != digest {
            return Err(self.refuse(&format!("its manifest is not what {name} names")));
        }
        Ok((bytes, digest))
    }

    /// A small blob, verified.
    pub(in crate::images) async fn blob(
        &self,
        digest: &str,
        max_bytes: u64,
    ) -> Result<Vec<u8>, Refusal> {
        if let Client::Remote(remote) = self {
            return remote.blob(digest, max_bytes).await;
        }
        let (mut body, _) = self.blob_from(digest, 0).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > max_bytes {
                return Err(self.refuse(&format!("answered more than {max_bytes} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if digest_of(&bytes) != digest {
            return Err(self.refuse(&format!("content is not what {digest} names")));
        }
        Ok(bytes)
    }

    /// A blob from `offset` on; also whether the answer begins there. If not, it begins at the start.
    pub(in crate::images) async fn blob_from(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<(Body, bool), Refusal> {
        let host = self.host().to_owned();
        match self {
            Client::Remote(remote) => {
                let (response, goes_on) = remote.blob_from(digest, offset).await?;
                Ok((Body::Remote { response, host }, goes_on))
            }
            Client::Here(here) => {
                let repository = here.reference.repository();
                let stream = here.source.blob(repository, digest, offset).await;
                let stream = stream.map_err(|error| here.refusal(&error))?;
                Ok((Body::Here { stream, host }, true))
            }
        }
    }

    /// Of an answer that is longer than it may be.
    pub(in crate::images) fn refuse(&self, message: &str) -> Refusal {
        Refusal::new(Kind::Final, self.host(), message)
    }

    /// Of an answer that ended too early.
    pub(in crate::images) fn truncated(&self, digest: &str, size: u64, whole: u64) -> Refusal {
        let message = format!("{digest} ended after {size} of {whole} bytes");
        Refusal::new(Kind::Transport, self.host(), &message)
    }
}

impl Here {
    fn refusal(&self, error: &SourceError) -> Refusal {
        let kind = match error {
            SourceError::NotFound(_) => Kind::Final,
            SourceError::Denied(_) => Kind::Account,
            SourceError::Unavailable(_) => Kind::Server,
        };
        Refusal::new(kind, self.reference.registry(), &error.to_string())
    }
}
