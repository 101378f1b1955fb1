//! Pulls of this node's pods from the registry in the same process.
//!
//! A pod may have the images of its own namespace. Those of another it may have if its ServiceAccount, or an account of
//! its `imagePullSecrets`, may get them there: whoever owns them says so with a RoleBinding. The node itself, when no
//! pod is named, may have all.

use std::{fmt, io, net::SocketAddr};

use api::{
    Apiserver,
    auth::{AUTHENTICATED, User, service_account},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::Extensions;
use registry::{Action, Digest, Error, Reference, Registry, Repository};
use runtimes::{
    Credentials,
    images::{REGISTRY, Source, SourceError},
};

use super::{Running, access};

/// The registry of this process, to the image store of its node.
pub(crate) struct RegistrySource {
    registry: Registry,
    apiserver: Apiserver,
    /// The ports of this host at which it goes by `localhost`.
    names: Vec<String>,
}

impl RegistrySource {
    pub(crate) fn new(running: &Running, apiserver: Apiserver) -> Self {
        let names = |local: SocketAddr| {
            let port = local.port();
            [format!("localhost:{port}"), local.to_string()]
        };
        Self {
            registry: running.registry.clone(),
            apiserver,
            names: running.local.into_iter().flat_map(names).collect(),
        }
    }

    /// Whom an account stands for.
    async fn user(&self, account: &Credentials) -> Option<User> {
        match account {
            Credentials::Anonymous => None,
            Credentials::Basic { password, .. } => {
                let nobody = Extensions::new();
                self.apiserver.identify(&nobody, Some(password)).await
            }
            Credentials::ServiceAccount { namespace, name } => {
                let groups = service_account::groups(namespace);
                let groups = [&groups[0], &groups[1], AUTHENTICATED];
                let user = service_account::user_name(namespace, name);
                Some(User::new(user, &groups))
            }
        }
    }
}

impl fmt::Debug for RegistrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySource")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for RegistrySource {
    fn is(&self, registry: &str) -> bool {
        registry == REGISTRY || self.names.iter().any(|name| name == registry)
    }

    async fn allow(&self, repository: &str, accounts: &[Credentials]) -> Result<(), SourceError> {
        let repository = parse(repository)?;
        if accounts.is_empty() {
            return Ok(());
        }
        let mut refusal = None;
        // The last is the pod's own ServiceAccount: its refusal says most.
        for account in accounts {
            if let Credentials::ServiceAccount { namespace, .. } = account
                && namespace == repository.namespace()
            {
                return Ok(());
            }
            let Some(user) = self.user(account).await else {
                continue;
            };
            match access::may(&self.apiserver, &user, Action::Pull, &repository) {
                Ok(()) => return Ok(()),
                Err(why) => refusal = Some(why),
            }
        }
        let why = refusal.unwrap_or_else(|| "none of the accounts is known".to_owned());
        Err(SourceError::Denied(format!("denied: {why}")))
    }

    async fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, SourceError> {
        let repository = parse(repository)?;
        let reference = Reference::parse(reference).map_err(SourceError::NotFound)?;
        let manifest = self.registry.manifest(&repository, &reference).await;
        manifest.map(|manifest| manifest.bytes).map_err(in_words)
    }

    async fn blob(
        &self,
        repository: &str,
        digest: &str,
        offset: u64,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>, SourceError> {
        let repository = parse(repository)?;
        let digest: Digest = digest
            .parse()
            .map_err(|error: registry::digest::InvalidDigest| {
                SourceError::NotFound(error.to_string())
            })?;
        let blob = self.registry.blob(&repository, &digest, offset).await;
        blob.map(|blob| blob.bytes).map_err(in_words)
    }
}

fn parse(repository: &str) -> Result<Repository, SourceError> {
    Repository::parse(repository).map_err(SourceError::NotFound)
}

fn in_words(error: Error) -> SourceError {
    match &error {
        Error::Refused { message, .. } => SourceError::NotFound(message.clone()),
        Error::Storage(cause) => {
            tracing::error!(error = %cause, "the registry's storage failed");
            SourceError::Unavailable(error.to_string())
        }
        Error::Cluster(_) => SourceError::Unavailable(error.to_string()),
    }
}
