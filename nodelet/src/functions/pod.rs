//! A revision as a pod. Pure.
//!
//! What runs a revision is given what a pod's container is: so it is described as one, for the code that pods have. No
//! such pod is in the API. Its uid is `<uid of the revision>.<number>`: another at each opening, so that what an earlier
//! process left of one is never taken for a later one's.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use function_kinds::{FUNCTION_LABEL, Isolation, REVISION_LABEL, RevisionSpec};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use runtimes::{ContainerId, PodAddress, PodRef, RevisionRef, ServeOptions, images::is_name};

use super::table::Fields;
use crate::{
    config::Config,
    logs,
    pod::{container::Role, start::Start},
};

/// The one container's name.
pub(crate) const CONTAINER: &str = "function";

/// Requests that wait for each instance that there may be; and at least, and at most, in all.
const QUEUE_EACH: usize = 8;
const LEAST_QUEUE: usize = 64;
const LONGEST_QUEUE: usize = 4096;

/// Where the spec says nothing: as the API's defaults.
const MAX: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);

/// What sets this process' openings apart from those of others before it.
static PROCESS: LazyLock<String> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}-", since.unwrap_or_default().as_nanos())
});
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// The revision's uid, if this is the uid of what runs one.
pub(crate) fn revision_of(uid: &str) -> Option<&str> {
    Some(uid.split_once('.')?.0)
}

/// Whether this is the uid of what this process opened.
pub(super) fn is_of_this_process(uid: &str) -> bool {
    let number = uid.split_once('.').map(|(_, number)| number);
    number.is_some_and(|number| number.starts_with(PROCESS.as_str()))
}

/// The directory of all revisions' logs: not among those of pods, which are removed with their pods.
pub(super) fn logs(config: &Config) -> PathBuf {
    config.log_dir.join("functions")
}

/// The directory of a revision's log.
pub(super) fn log_directory(config: &Config, name: &RevisionRef, uid: &str) -> PathBuf {
    let pod = PodRef {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        uid: uid.to_owned(),
    };
    logs::pod_directory(Path::new(&logs(config)), &pod)
}

/// What is to be started for a revision. `pull` says that its image is looked for where it comes from.
pub(super) fn start(name: &RevisionRef, uid: &str, fields: Fields, pull: bool) -> Start {
    let number = OPENINGS.fetch_add(1, Ordering::Relaxed);
    let uid = format!("{uid}.{}{number:x}", PROCESS.as_str());
    let spec = fields.spec;
    // A tag may mean something else since another revision of the same image.
    let always = pull && is_name(&spec.image) && !spec.image.contains('@');
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(spec.image),
        image_pull_policy: Some(if always { "Always" } else { "IfNotPresent" }.to_owned()),
        command: Some(spec.command),
        args: Some(spec.args),
        env: Some(spec.env),
        env_from: Some(spec.env_from),
        volume_mounts: Some(spec.volume_mounts),
        resources: spec.resources,
        ..Container::default()
    };
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![container.clone()],
            volumes: Some(spec.volumes),
            service_account_name: spec.service_account_name.or(Some("default".to_owned())),
            image_pull_secrets: Some(spec.image_pull_secrets),
            runtime_class_name: spec.runtime_class_name,
            enable_service_links: Some(false),
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    let mut labels = spec.labels;
    labels.insert(FUNCTION_LABEL.to_owned(), fields.function);
    labels.insert(REVISION_LABEL.to_owned(), name.name.clone());
    pod.metadata.namespace = Some(name.namespace.clone());
    pod.metadata.name = Some(name.name.clone());
    pod.metadata.uid = Some(uid.clone());
    pod.metadata.labels = Some(labels);
    pod.metadata.annotations = Some(fields.annotations);
    Start {
        pod: pod.into(),
        pod_ref: PodRef {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            uid: uid.clone(),
        },
        container,
        role: Role::Main,
        id: ContainerId(format!("{uid}/{CONTAINER}/0").into()),
        attempt: 0,
        address: PodAddress {
            ip: std::net::Ipv4Addr::UNSPECIFIED.into(),
            loopback: std::net::Ipv4Addr::LOCALHOST.into(),
        },
        alone: true,
        target: None,
        missing_target: None,
    }
}

/// How a revision serves.
pub(super) fn options(spec: &RevisionSpec) -> ServeOptions {
    let scale = spec.scale.as_ref();
    let max = scale.and_then(|scale| usize::try_from(scale.max).ok());
    let max = max.filter(|max| *max > 0).unwrap_or(MAX);
    let seconds = |seconds: Option<i32>, otherwise| {
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map_or(otherwise, Duration::from_secs)
    };
    ServeOptions {
        pooled: spec.isolation == Some(Isolation::Pooled),
        max,
        queue: max
            .saturating_mul(QUEUE_EACH)
            .clamp(LEAST_QUEUE, LONGEST_QUEUE),
        timeout: seconds(spec.timeout_seconds, TIMEOUT),
        idle: seconds(scale.and_then(|scale| scale.idle_seconds), IDLE),
    }
}
