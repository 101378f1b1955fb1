//! From a container's fields to a running container: image, environment, mounts, create, start.
//!
//! Reads ConfigMaps, Secrets and the images on the node; calls the runtime that the image's kind names; writes Events.

use std::{future::Future, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use runtimes::{
    ContainerId, ContainerSpec, Image, ImageError, ImageKind, Limits, Mount, PodAddress, PodRef,
    Port, Protocol, PullPolicy, Runtime, RuntimeError,
};
use tracing::debug;

use super::{
    container::{Reason, Role, StartFailure},
    credentials::credentials,
    environment::{Surroundings, environment, expand, took},
    message,
    names::resolver,
    pulling, security,
    state::Started,
    worker::Context,
};
use crate::{events::Note, logs, quantity, volume};

/// How long a pull may take, others' turns included.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);
/// How long making an image ready may take, others' turns included.
const PREPARE_DEADLINE: Duration = Duration::from_secs(600);
/// From when on it is told.
const PREPARE_UNSEEN: Duration = Duration::from_secs(1);
/// How long creating or starting a container may each take.
const RUNTIME_DEADLINE: Duration = Duration::from_secs(120);

/// Everything that one start needs to know.
pub(crate) struct Start {
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ref: PodRef,
    pub(crate) container: Container,
    pub(crate) role: Role,
    pub(crate) id: ContainerId,
    pub(crate) attempt: u32,
    pub(crate) address: PodAddress,
    /// The container that this one is there to look at, if there is no such container yet.
    pub(crate) missing_target: Option<String>,
}

impl Start {
    /// Brings the container up.
    ///
    /// Dropped halfway, it may leave a container behind: whoever drops it stops and removes the id.
    pub(crate) async fn run(self, context: &Context) -> Result<Started, StartFailure> {
        let image = self.image(context).await?;
        if let Some(target) = &self.missing_target {
            let message = format!("unable to find target container {target}");
            return Err(self.failed(context, Reason::CreateContainerConfigError, message));
        }
        if image.kind == ImageKind::Wasm
            && let Some(message) =
                security::refusal(&self.pod, &self.container, nix::unistd::geteuid().as_raw())
        {
            return Err(self.failed(context, Reason::CreateContainerConfigError, message));
        }
        let spec = self.spec(context, image).await?;
        let runtime = self.runtime(context, &spec.image)?;
        self.prepare(context, runtime.as_ref(), &spec.image).await?;
        // A pull and a compilation may take minutes, so they are not counted among the starts.
        let _permit = context.starts.acquire().await;
        let started = self.started(runtime.name(), &spec.image);
        self.create(context, &*runtime, spec)
            .await
            .map_err(|error| self.runtime_failed(context, Reason::CreateContainerError, error))?;
        self.note(
            context,
            false,
            "Created",
            format!("Created container: {}", self.container.name),
        );
        within(
            "start the container",
            RUNTIME_DEADLINE,
            runtime.start(&self.id),
        )
        .await
        .map_err(|error| self.runtime_failed(context, Reason::RunContainerError, error))?;
        self.note(
            context,
            false,
            "Started",
            format!("Started container {}", self.container.name),
        );
        Ok(started)
    }

    /// Brings a container back that ended with an earlier process, as the same container: only if it holds no state
    /// and its image is the one that it ran, by `image_id`. `None` if it is not, or cannot be started now.
    pub(crate) async fn resume(self, context: &Context, image_id: &str) -> Option<Started> {
        let reference = self.container.image.as_deref().unwrap_or_default();
        let ensure = context.images.ensure(reference, PullPolicy::Never, &[]);
        let image = tokio::time::timeout(RUNTIME_DEADLINE, ensure).await;
        let image = image.ok()?.ok()?;
        let _permit = context.starts.acquire().await;
        let runtime = self.runtime(context, &image).ok()?;
        let started = self.started(runtime.name(), &image);
        let prepared = within(
            "prepare the image",
            PREPARE_DEADLINE,
            runtime.prepare(&image),
        );
        let prepared = prepared.await;
        if started.image_id != image_id || prepared.is_err() || !runtime.stateless(&image).await {
            return None;
        }
        let spec = self.spec(context, image).await.ok()?;
        let run = async {
            self.create(context, &*runtime, spec).await?;
            let start = runtime.start(&self.id);
            within("start the container", RUNTIME_DEADLINE, start).await
        };
        match run.await {
            Ok(()) => Some(started),
            Err(error) => {
                debug!(%error, container = %self.id, "resume a container");
                None
            }
        }
    }

    fn started(&self, runtime: &str, image: &Image) -> Started {
        let reference = self.container.image.as_deref().unwrap_or_default();
        Started {
            image_id: format!("{}@{}", repository(reference), image.digest),
            container_id: format!("{runtime}://{}", self.id),
        }
    }

    /// Makes the files that the container needs, and the container; its image is ready.
    async fn create(
        &self,
        context: &Context,
        runtime: &dyn Runtime,
        mut spec: ContainerSpec,
    ) -> Result<(), RuntimeError> {
        let unavailable = |what: &str, source: std::io::Error| RuntimeError::Unavailable {
            message: what.to_owned(),
            source: Some(source.into()),
        };
        self.prepare_log(context, &spec.log)
            .await
            .map_err(|error| unavailable("create the log directory", error))?;
        // A server that holds no state has no end of its own to tell of.
        if !runtime.stateless(&spec.image).await {
            let (pods_dir, name) = (&context.config.pods_dir, &self.container.name);
            let directory = message::directory(pods_dir, &self.pod_ref.uid, name, self.attempt);
            let mount = message::prepare(&directory, &self.container)
                .await
                .map_err(|error| unavailable("create the termination message file", error))?;
            // A volume that the user has put there stays.
            let taken = |mount: &Mount| {
                let mut mounts = spec.mounts.iter();
                mounts.any(|other| other.destination == mount.destination)
            };
            let free = mount.filter(|mount| !taken(mount));
            spec.mounts.extend(free);
        }
        let create = runtime.create(spec);
        within("create the container", RUNTIME_DEADLINE, create).await
    }

    /// Makes the image ready; tells of it if that takes long.
    async fn prepare(
        &self,
        context: &Context,
        runtime: &dyn Runtime,
        image: &Image,
    ) -> Result<(), StartFailure> {
        let began = context.clock.now();
        let prepare = within(
            "prepare the image",
            PREPARE_DEADLINE,
            runtime.prepare(image),
        );
        let mut prepare = std::pin::pin!(prepare);
        let soon = tokio::time::timeout(PREPARE_UNSEEN, prepare.as_mut()).await;
        let prepared = match soon {
            Ok(prepared) => prepared,
            Err(_) => {
                let reference = &image.reference;
                self.note(
                    context,
                    false,
                    "Compiling",
                    format!("Compiling image {reference:?}"),
                );
                let prepared = prepare.await;
                if prepared.is_ok() {
                    let took = took(began, context.clock.now());
                    let message = format!(
                        "Compiled image {reference:?} in {took} (including waiting for others)"
                    );
                    self.note(context, false, "Compiled", message);
                }
                prepared
            }
        };
        prepared.map_err(|error| self.runtime_failed(context, Reason::CreateContainerError, error))
    }

    async fn image(&self, context: &Context) -> Result<Image, StartFailure> {
        let reference = self.container.image.as_deref().unwrap_or_default();
        let policy = match self.container.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        };
        let present = match policy {
            PullPolicy::Always => false,
            _ => context.images.find(reference).await.is_some(),
        };
        let pulls = !present && policy != PullPolicy::Never;
        let accounts = if pulls {
            self.note(
                context,
                false,
                "Pulling",
                format!("Pulling image {reference:?}"),
            );
            credentials(&context.client, &self.pod, reference).await
        } else {
            Vec::new()
        };
        let began = context.clock.now();
        let ensure = context.images.ensure(reference, policy, &accounts);
        let note = |message| self.note(context, false, "Pulling", message);
        let ensure = pulling::told(&*context.images, reference, note, ensure);
        let answer = tokio::time::timeout(PULL_DEADLINE, ensure)
            .await
            .unwrap_or_else(|_| {
                let message = format!("it took longer than {} s", PULL_DEADLINE.as_secs());
                Err(ImageError::Pull {
                    reference: reference.to_owned(),
                    message,
                })
            });
        let image = answer.map_err(|error| self.image_failed(context, reference, &error))?;
        let message = if pulls {
            let took = took(began, context.clock.now());
            let size = image.size_bytes;
            format!(
                "Successfully pulled image {reference:?} in {took} ({took} including waiting). Image size: {size} bytes."
            )
        } else {
            format!("Container image {reference:?} already present on machine")
        };
        self.note(context, false, "Pulled", message);
        Ok(image)
    }

    fn image_failed(&self, context: &Context, reference: &str, error: &ImageError) -> StartFailure {
        let (reason, event) = match error {
            ImageError::InvalidName { .. } => (
                Reason::InvalidImageName,
                format!("Failed to apply default image tag {reference:?}: {error}"),
            ),
            ImageError::NeverPull { .. } => {
                let message = format!(
                    "Container image {reference:?} is not present with pull policy of Never"
                );
                self.note(context, true, "ErrImageNeverPull", message.clone());
                (Reason::ErrImageNeverPull, String::new())
            }
            ImageError::Pull { message, .. } | ImageError::Remove { message, .. } => (
                Reason::ErrImagePull,
                format!("Failed to pull image {reference:?}: {message}"),
            ),
        };
        if !event.is_empty() {
            self.note(context, true, "Failed", event);
        }
        self.note(
            context,
            true,
            "Failed",
            format!("Error: {}", reason.as_str()),
        );
        StartFailure {
            reason,
            message: error.to_string(),
        }
    }

    async fn spec(&self, context: &Context, image: Image) -> Result<ContainerSpec, StartFailure> {
        if !volume::is_set_up_for(context, &self.pod_ref, &self.container) {
            // A container that was not there when the pod was set up.
            let set_up = volume::set_up(context, &self.pod, &self.pod_ref).await;
            set_up.map_err(|error| {
                let message = error.messages.join("; ");
                self.failed(context, Reason::CreateContainerConfigError, message)
            })?;
        }
        let volumes = context.volumes.find(&self.pod_ref.uid);
        let volume = |name: &str| {
            let known = volumes.as_ref()?.known();
            known.sources.get(name).map(|source| source.path.clone())
        };
        let allocatable = context.allocatable();
        let around = Surroundings {
            client: &context.client,
            services: &context.services,
            node_name: &context.config.node_name,
            host_ip: context
                .config
                .addresses
                .first()
                .map(IpAddr::to_string)
                .unwrap_or_default(),
            pod_ip: self.address.ip.to_string(),
            allocatable: &allocatable,
            volume: &volume,
        };
        let env = environment(&self.pod, &self.container, &around)
            .await
            .map_err(|message| self.failed(context, Reason::CreateContainerConfigError, message))?;
        let lookup = |name: &str| {
            env.iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
        };
        let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
            list.iter()
                .flatten()
                .map(|text| expand(text, lookup))
                .collect()
        };
        let (command, args) = (
            expanded(&self.container.command),
            expanded(&self.container.args),
        );
        let mounts = volume::mounts(context, &self.pod, &self.container, &lookup)
            .map_err(|message| self.failed(context, Reason::CreateContainerConfigError, message))?;
        Ok(ContainerSpec {
            command,
            args,
            env,
            working_dir: self.container.working_dir.clone(),
            ports: ports(&self.container),
            limits: limits(&self.container),
            mounts,
            stdin: self.container.stdin.unwrap_or(false),
            stdin_once: self.container.stdin_once.unwrap_or(false),
            tty: self.container.tty.unwrap_or(false),
            annotations: Arc::new(self.pod.metadata.annotations.clone().unwrap_or_default()),
            resolver: Arc::new(resolver(&self.pod, self.address.ip)),
            ..ContainerSpec::new(
                self.id.clone(),
                self.pod_ref.clone(),
                image,
                self.address,
                self.log(context),
            )
        })
    }

    fn log(&self, context: &Context) -> PathBuf {
        logs::file(
            &context.config.log_dir,
            &self.pod_ref,
            &self.container.name,
            self.attempt,
        )
    }

    /// Makes the log's directory, and removes the log of the attempt before the previous one.
    async fn prepare_log(&self, context: &Context, log: &std::path::Path) -> std::io::Result<()> {
        if let Some(directory) = log.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        if let Some(old) = self.attempt.checked_sub(2) {
            let old = logs::file(
                &context.config.log_dir,
                &self.pod_ref,
                &self.container.name,
                old,
            );
            logs::remove(&old)?;
        }
        Ok(())
    }

    /// The runtime for an image; `runtimeClassName` may only assert it.
    fn runtime(&self, context: &Context, image: &Image) -> Result<Arc<dyn Runtime>, StartFailure> {
        let name = match image.kind {
            ImageKind::Wasm => "wasm",
            ImageKind::Oci => "oci",
        };
        let class = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.as_deref())
            .unwrap_or(name);
        if class != name {
            let message = format!(
                "image {:?} runs under {name}, but runtimeClassName is {class:?}",
                image.reference
            );
            return Err(self.failed(context, Reason::CreateContainerError, message));
        }
        let found = context
            .runtimes
            .iter()
            .find(|runtime| runtime.name() == name);
        found.cloned().ok_or_else(|| {
            let message = format!(
                "image {:?} needs the {name} runtime, which this node does not have",
                image.reference
            );
            self.failed(context, Reason::CreateContainerError, message)
        })
    }

    fn runtime_failed(
        &self,
        context: &Context,
        reason: Reason,
        error: RuntimeError,
    ) -> StartFailure {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        self.failed(context, reason, message)
    }

    fn failed(&self, context: &Context, reason: Reason, message: String) -> StartFailure {
        self.note(context, true, "Failed", format!("Error: {message}"));
        StartFailure { reason, message }
    }

    fn note(&self, context: &Context, warning: bool, reason: &'static str, message: String) {
        context.note_container(
            &self.pod_ref,
            &self.container.name,
            self.role,
            warning,
            reason,
            message,
        );
    }
}

/// A reference without its tag and digest; a file's is kept as it is.
pub(crate) fn repository(reference: &str) -> &str {
    if reference.contains("://") {
        return reference;
    }
    let (name, _digest) = reference.split_once('@').unwrap_or((reference, ""));
    match name.rsplit_once(':') {
        // Otherwise it is a registry's port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// One call to a runtime, under its deadline.
async fn within<T>(
    what: &str,
    deadline: Duration,
    call: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(|_| {
            let message = format!("{what}: it took longer than {} s", deadline.as_secs());
            Err(RuntimeError::Unavailable {
                message,
                source: None,
            })
        })
}

/// The ports that a container says it serves.
pub(crate) fn ports(container: &Container) -> Vec<Port> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => return None,
            };
            Some(Port {
                name: port.name.clone(),
                number: u16::try_from(port.container_port).ok()?,
                protocol,
            })
        })
        .collect()
}

fn limits(container: &Container) -> Limits {
    let limits = container
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref());
    let limit = |name: &str| {
        limits
            .and_then(|limits| limits.get(name))
            .map(|quantity| quantity.0.as_str())
    };
    Limits {
        memory_bytes: limit("memory").and_then(quantity::units),
        cpu_millis: limit("cpu").and_then(quantity::millis),
    }
}

impl Context {
    /// Writes an Event about a pod, or about one of its containers (name, and whether it is an init container).
    pub(crate) fn note(
        &self,
        pod: &PodRef,
        container: Option<(&str, bool)>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        let role = |init| if init { Role::Init } else { Role::Main };
        let field = container.map(|(name, init)| field(name, role(init)));
        self.events.send(Note {
            kind: "Pod",
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            field,
            warning,
            reason,
            message,
        });
    }

    /// Writes an Event about a container.
    pub(crate) fn note_container(
        &self,
        pod: &PodRef,
        name: &str,
        role: Role,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        self.events.send(Note {
            kind: "Pod",
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            field: Some(field(name, role)),
            warning,
            reason,
            message,
        });
    }
}

/// Where in a pod's spec a container stands, as Events name it.
fn field(name: &str, role: Role) -> String {
    let list = match role {
        Role::Init | Role::Sidecar => "initContainers",
        Role::Main => "containers",
        Role::Ephemeral => "ephemeralContainers",
    };
    format!("spec.{list}{{{name}}}")
}
