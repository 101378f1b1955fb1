//! What pods, revisions of functions and PersistentVolumes name, as far as it is a node's to read. Pure.
//!
//! Only the fields that name something are read of a pod: its status changes often, and each change comes by here.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::graph::{Kind, Reference, VolumeSeen};
use crate::kinds::value::text;

/// Where a PersistentVolume names a Secret that a node needs to mount it.
const SECRETS: &[&str] = &[
    "/cephfs/secretRef",
    "/cinder/secretRef",
    "/csi/nodeExpandSecretRef",
    "/csi/nodePublishSecretRef",
    "/csi/nodeStageSecretRef",
    "/flexVolume/secretRef",
    "/iscsi/secretRef",
    "/rbd/secretRef",
    "/scaleIO/secretRef",
    "/storageos/secretRef",
];

/// The account of a revision that names none.
const ACCOUNT: &str = "default";

type Read<T> = Result<T, serde_json::Error>;

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: PodSpec,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
struct Metadata {
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    image_pull_secrets: Option<Vec<Named>>,
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    resource_claims: Option<Vec<Devices>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    resource_claim_statuses: Option<Vec<Devices>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Devices {
    resource_claim_name: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    env: Option<Vec<Variable>>,
    env_from: Option<Vec<Variables>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    value_from: Option<ValueFrom>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValueFrom {
    config_map_key_ref: Option<Named>,
    secret_key_ref: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variables {
    config_map_ref: Option<Named>,
    secret_ref: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: Option<String>,
    config_map: Option<Named>,
    secret: Option<SecretFiles>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<Claim>,
    ephemeral: Option<IgnoredAny>,
    azure_file: Option<SecretFiles>,
    cephfs: Option<Keyed>,
    cinder: Option<Keyed>,
    csi: Option<Published>,
    flex_volume: Option<Keyed>,
    iscsi: Option<Keyed>,
    rbd: Option<Keyed>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<Keyed>,
    storageos: Option<Keyed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretFiles {
    secret_name: Option<String>,
}

#[derive(Deserialize)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    config_map: Option<Named>,
    secret: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    claim_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keyed {
    secret_ref: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Deserialize)]
struct Revision {
    spec: RevisionSpec,
    status: Option<RevisionStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevisionSpec {
    service_account_name: Option<String>,
    image_pull_secrets: Option<Vec<Named>>,
    #[serde(flatten)]
    container: Container,
    volumes: Option<Vec<Volume>>,
    runtime_class_name: Option<String>,
    port: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RevisionStatus {
    runtime: Option<String>,
}

/// What is named, gathered.
#[derive(Default)]
struct Found(Vec<Reference>);

impl Found {
    fn add(&mut self, kind: Kind, name: Option<String>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            self.0.push((kind, name));
        }
    }

    fn named(&mut self, kind: Kind, named: Option<Named>) {
        self.add(kind, named.and_then(|named| named.name));
    }

    fn pulls(&mut self, secrets: Option<Vec<Named>>) {
        for secret in secrets.into_iter().flatten() {
            self.add(Kind::Secret, secret.name);
        }
    }

    fn container(&mut self, container: Container) {
        for variable in container.env.into_iter().flatten() {
            if let Some(from) = variable.value_from {
                self.named(Kind::ConfigMap, from.config_map_key_ref);
                self.named(Kind::Secret, from.secret_key_ref);
            }
        }
        for from in container.env_from.into_iter().flatten() {
            self.named(Kind::ConfigMap, from.config_map_ref);
            self.named(Kind::Secret, from.secret_ref);
        }
    }

    /// `owner` is the pod; its ephemeral volumes have claims of their own.
    fn volume(&mut self, volume: Volume, owner: Option<&str>) {
        self.named(Kind::ConfigMap, volume.config_map);
        for files in [volume.secret, volume.azure_file].into_iter().flatten() {
            self.add(Kind::Secret, files.secret_name);
        }
        let sources = volume.projected.and_then(|projected| projected.sources);
        for source in sources.into_iter().flatten() {
            self.named(Kind::ConfigMap, source.config_map);
            self.named(Kind::Secret, source.secret);
        }
        let claim = volume.persistent_volume_claim;
        self.add(Kind::Claim, claim.and_then(|claim| claim.claim_name));
        if let (Some(_), Some(owner), Some(name)) = (volume.ephemeral, owner, volume.name) {
            self.add(Kind::Claim, Some(format!("{owner}-{name}")));
        }
        let keyed = [
            volume.cephfs,
            volume.cinder,
            volume.flex_volume,
            volume.iscsi,
            volume.rbd,
            volume.scale_io,
            volume.storageos,
        ];
        for keyed in keyed.into_iter().flatten() {
            self.named(Kind::Secret, keyed.secret_ref);
        }
        let published = volume.csi.and_then(|csi| csi.node_publish_secret_ref);
        self.named(Kind::Secret, published);
    }

    fn once_each(mut self) -> Vec<Reference> {
        self.0.sort_unstable();
        self.0.dedup();
        self.0
    }
}

/// What a pod names. A mirror pod, which its node makes itself, gives that node nothing.
pub(super) fn of_pod(name: &str, value: &[u8]) -> Read<Vec<Reference>> {
    let pod: Pod = serde_json::from_slice(value)?;
    let mut found = Found::default();
    let annotations = pod.metadata.annotations;
    if annotations.is_some_and(|annotations| annotations.mirror.is_some()) {
        return Ok(found.0);
    }
    let spec = pod.spec;
    found.add(Kind::ServiceAccount, spec.service_account_name);
    found.pulls(spec.image_pull_secrets);
    let containers = [
        spec.init_containers,
        spec.containers,
        spec.ephemeral_containers,
    ];
    for container in containers.into_iter().flatten().flatten() {
        found.container(container);
    }
    for volume in spec.volumes.into_iter().flatten() {
        found.volume(volume, Some(name));
    }
    let made = pod.status.and_then(|status| status.resource_claim_statuses);
    for devices in [spec.resource_claims, made].into_iter().flatten().flatten() {
        found.add(Kind::ResourceClaim, devices.resource_claim_name);
    }
    Ok(found.once_each())
}

/// What a revision of a function names. Every node looks into its image; that of a container runs in pods, which
/// name the rest themselves.
pub(super) fn of_revision(value: &[u8]) -> Read<Vec<Reference>> {
    let Revision { spec, status } = serde_json::from_slice(value)?;
    let mut found = Found::default();
    found.pulls(spec.image_pull_secrets);
    let said = spec.runtime_class_name.as_deref();
    let seen = status.as_ref().and_then(|status| status.runtime.as_deref());
    if said == Some("oci") || spec.port.is_some() || seen == Some("oci") {
        return Ok(found.once_each());
    }
    let account = spec.service_account_name.filter(|name| !name.is_empty());
    found.add(
        Kind::ServiceAccount,
        Some(account.unwrap_or_else(|| ACCOUNT.to_owned())),
    );
    found.container(spec.container);
    for volume in spec.volumes.into_iter().flatten() {
        found.volume(volume, None);
    }
    Ok(found.once_each())
}

/// What a PersistentVolume says; `maker` is the node that made it, or empty.
pub(super) fn of_volume(value: &[u8], maker: &str) -> Read<VolumeSeen> {
    let volume: Value = serde_json::from_slice(value)?;
    let spec = &volume["spec"];
    let namespace = text(spec, "/claimRef/namespace");
    let mut seen = VolumeSeen {
        maker: maker.to_owned(),
        ..VolumeSeen::default()
    };
    if !spec["claimRef"].is_object() {
        return Ok(seen);
    }
    seen.claim = Some((
        namespace.to_owned(),
        text(spec, "/claimRef/name").to_owned(),
    ));
    let or_claims = |own: &str| match own {
        "" => namespace.to_owned(),
        own => own.to_owned(),
    };
    let mut add = |own: &str, name: &str| {
        if !name.is_empty() {
            seen.secrets.push((or_claims(own), name.to_owned()));
        }
    };
    for place in SECRETS {
        if let Some(secret) = spec.pointer(place) {
            add(text(secret, "/namespace"), text(secret, "/name"));
        }
    }
    add(
        text(spec, "/azureFile/secretNamespace"),
        text(spec, "/azureFile/secretName"),
    );
    seen.secrets.sort_unstable();
    seen.secrets.dedup();
    Ok(seen)
}
