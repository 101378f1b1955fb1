//! The files of configMap, secret, downwardAPI and projected volumes, gathered from the API.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use runtimes::PodRef;

use super::{
    downward,
    objects::{Key, Objects},
    ownership::Owners,
    payload::{DEFAULT_MODE, Kind, Payload, mode},
    token::{self, Tokens},
    writer,
};

/// The mode of a token's file where it is known whose it is.
const TOKEN_MODE: u32 = 0o600;

/// What a volume's files may be gathered from.
pub(crate) struct Gather<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) tokens: &'a Tokens,
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ref: &'a PodRef,
    /// The pod as the user of objects.
    pub(crate) user: &'a Arc<str>,
    /// For `resourceFieldRef` of limits that are not set.
    pub(crate) allocatable: &'a BTreeMap<String, String>,
    pub(crate) now: Timestamp,
    /// The volume as it is now, where tokens are kept.
    pub(crate) directory: &'a Path,
    pub(crate) owners: Owners,
}

/// What was gathered.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) payload: Payload,
    /// When a token in it is to be renewed.
    pub(crate) renew_at: Option<Timestamp>,
}

/// Whether the volume is made of files that this module gathers.
pub(crate) fn is_made_of_objects(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Whether its files are to be kept off the disk: Secrets and tokens.
pub(crate) fn is_confidential(volume: &Volume) -> bool {
    let mut sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    volume.secret.is_some()
        || sources.any(|source| source.secret.is_some() || source.service_account_token.is_some())
}

/// Whether it shows fields of the pod.
pub(crate) fn shows_pod(volume: &Volume) -> bool {
    let mut sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten());
    volume.downward_api.is_some() || sources.any(|source| source.downward_api.is_some())
}

/// The objects that the volume is made of.
pub(crate) fn keys(namespace: &str, volume: &Volume) -> Vec<Key> {
    let key = |kind, name: &str| Key {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let mut keys = Vec::new();
    if let Some(map) = &volume.config_map {
        keys.push(key(Kind::ConfigMap, &map.name));
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        keys.push(key(Kind::Secret, name));
    }
    let projected = volume.projected.iter();
    for source in projected.flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(map) = &source.config_map {
            keys.push(key(Kind::ConfigMap, &map.name));
        }
        if let Some(secret) = &source.secret {
            keys.push(key(Kind::Secret, &secret.name));
        }
    }
    keys
}

impl Gather<'_> {
    /// The files of a volume.
    ///
    /// # Errors
    /// What is missing, in the kubelet's words.
    pub(crate) async fn volume(&self, volume: &Volume) -> Result<Gathered, String> {
        let mut gathered = Gathered {
            payload: Payload::of_group(self.owners.group),
            renew_at: None,
        };
        if let Some(map) = &volume.config_map {
            let wanted = Entries {
                kind: Kind::ConfigMap,
                name: &map.name,
                items: map.items.as_deref(),
                optional: map.optional,
            };
            let mode = mode(map.default_mode, DEFAULT_MODE);
            self.entries(wanted, mode, &mut gathered).await?;
        } else if let Some(secret) = &volume.secret {
            let wanted = Entries {
                kind: Kind::Secret,
                name: secret.secret_name.as_deref().unwrap_or_default(),
                items: secret.items.as_deref(),
                optional: secret.optional,
            };
            let mode = mode(secret.default_mode, DEFAULT_MODE);
            self.entries(wanted, mode, &mut gathered).await?;
        } else if let Some(api) = &volume.downward_api {
            let mode = mode(api.default_mode, DEFAULT_MODE);
            self.fields(api.items.as_deref(), mode, &mut gathered)?;
        } else if let Some(projected) = &volume.projected {
            let mode = mode(projected.default_mode, DEFAULT_MODE);
            for source in projected.sources.iter().flatten() {
                self.source(source, mode, &mut gathered).await?;
            }
        }
        Ok(gathered)
    }

    async fn source(
        &self,
        source: &VolumeProjection,
        mode: u32,
        gathered: &mut Gathered,
    ) -> Result<(), String> {
        if let Some(map) = &source.config_map {
            let wanted = Entries {
                kind: Kind::ConfigMap,
                name: &map.name,
                items: map.items.as_deref(),
                optional: map.optional,
            };
            self.entries(wanted, mode, gathered).await?;
        }
        if let Some(secret) = &source.secret {
            let wanted = Entries {
                kind: Kind::Secret,
                name: &secret.name,
                items: secret.items.as_deref(),
                optional: secret.optional,
            };
            self.entries(wanted, mode, gathered).await?;
        }
        if let Some(api) = &source.downward_api {
            self.fields(api.items.as_deref(), mode, gathered)?;
        }
        if let Some(wanted) = &source.service_account_token {
            self.token(wanted, mode, gathered).await?;
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            if bundle.optional != Some(true) {
                return Err(
                    "projected.sources[].clusterTrustBundle: there are no ClusterTrustBundles here; project the \
                     certificates from a ConfigMap"
                        .to_owned(),
                );
            }
            gathered.payload.put(&bundle.path, Vec::new(), mode)?;
        }
        if source.pod_certificate.is_some() {
            return Err(
                "projected.sources[].podCertificate: nobody signs certificates of pods here; project a Secret"
                    .to_owned(),
            );
        }
        Ok(())
    }

    async fn entries(
        &self,
        wanted: Entries<'_>,
        default_mode: u32,
        gathered: &mut Gathered,
    ) -> Result<(), String> {
        let optional = wanted.optional == Some(true);
        let key = Key {
            kind: wanted.kind,
            namespace: self.pod_ref.namespace.clone(),
            name: wanted.name.to_owned(),
        };
        match self.objects.get(self.user, &key).await? {
            Some(contents) => gathered.payload.put_entries(
                wanted.kind,
                &contents,
                wanted.items,
                optional,
                default_mode,
            ),
            None if optional => Ok(()),
            None => Err(format!(
                "{} {:?} not found",
                wanted.kind.as_str(),
                wanted.name
            )),
        }
    }

    fn fields(
        &self,
        files: Option<&[DownwardAPIVolumeFile]>,
        mode: u32,
        gathered: &mut Gathered,
    ) -> Result<(), String> {
        downward::put(
            &mut gathered.payload,
            self.pod,
            files.unwrap_or_default(),
            mode,
            self.allocatable,
        )
    }

    /// The token that is there, or a new one when that is old.
    async fn token(
        &self,
        wanted: &ServiceAccountTokenProjection,
        mode: u32,
        gathered: &mut Gathered,
    ) -> Result<(), String> {
        let fresh = |token: &Vec<u8>| {
            token::renewal(token, wanted).is_some_and(|renew_at| renew_at > self.now)
        };
        let token = match writer::read(self.directory, &wanted.path).filter(fresh) {
            Some(token) => token,
            None => {
                let token = self.tokens.request(self.pod, self.pod_ref, wanted).await?;
                token.into_bytes()
            }
        };
        let renew_at = token::renewal(&token, wanted);
        gathered.renew_at = gathered.renew_at.into_iter().chain(renew_at).min();
        // For nobody else to read than those that it is for.
        let Owners { user, group, .. } = self.owners;
        let mode = match (user, group) {
            (None, None) => mode,
            _ => TOKEN_MODE,
        };
        gathered.payload.put_for(user, &wanted.path, token, mode)
    }
}

/// Entries of one object that a volume wants.
struct Entries<'a> {
    kind: Kind,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
}
