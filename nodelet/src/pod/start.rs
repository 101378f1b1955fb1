//! From a container's fields to a running container.
//!
//! - [`image`]: the image, pulled and made ready, and the runtime for it.
//! - [`spec`]: what the runtime is told. [`create`]: the files that the container needs, and the container.
//!
//! While the pod gets its network namespace, everything is made ready that does not need it.
//!
//! Reads ConfigMaps, Secrets and the images on the node; calls the runtime that the image's kind names; writes Events.

mod create;
mod image;
mod spec;

use std::{future::Future, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod};
use runtimes::{
    ContainerId, ContainerSpec, Image, ImageKind, PodAddress, PodRef, PullPolicy, Runtime,
    RuntimeError,
};
use tracing::debug;

use super::{
    container::{Reason, Role, StartFailure},
    place,
    security::component,
    state::Started,
    worker::Context,
};
use crate::{events::Note, functions};
use image::PREPARE_DEADLINE;
pub(crate) use spec::ports;

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
    /// Nothing else of the pod runs or starts.
    pub(crate) alone: bool,
    /// The container whose processes this one is there to look at.
    pub(crate) target: Option<ContainerId>,
    /// The same, if there is no such container yet.
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
                component::refusal(&self.pod, &self.container, nix::unistd::geteuid().as_raw())
        {
            return Err(self.failed(context, Reason::CreateContainerConfigError, message));
        }
        let runtime = self.runtime(context, &image).await?;
        // A namespace takes the kernel longer than all the rest takes this process.
        let place = async {
            let place = self.place(context, &image).await;
            place.map_err(|message| self.failed(context, Reason::CreateContainerError, message))
        };
        let ready = self.ready(context, &*runtime, image.clone());
        let (place, mut spec) = tokio::try_join!(place, ready)?;
        Self::settle(&mut spec, place);
        // A pull and a compilation may take minutes, so they are not counted among the starts.
        let _permit = context.starts.acquire().await;
        let started = self.started(runtime.name(), &spec.image);
        self.create(&*runtime, spec)
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
        .map_err(|error| StartFailure {
            container_id: started.container_id.clone(),
            ..self.runtime_failed(context, Reason::RunContainerError, error)
        })?;
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
        let runtime = self.runtime(context, &image).await.ok()?;
        let started = self.started(runtime.name(), &image);
        if started.image_id != image_id {
            return None;
        }
        let prepared = within(
            "prepare the image",
            PREPARE_DEADLINE,
            runtime.prepare(&image),
        );
        let prepared = prepared.await;
        if prepared.is_err() || !runtime.stateless(&image).await {
            return None;
        }
        let place = self.place(context, &image).await.ok()?;
        let mut spec = self.spec(context, image).await.ok()?;
        Self::settle(&mut spec, place);
        let run = async {
            self.files(context, &*runtime, &mut spec).await?;
            self.create(&*runtime, spec).await?;
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

    /// What the runtime is to be told, with the image and the files that it tells of ready.
    async fn ready(
        &self,
        context: &Context,
        runtime: &dyn Runtime,
        image: Image,
    ) -> Result<ContainerSpec, StartFailure> {
        let mut spec = self.spec(context, image).await?;
        self.prepare(context, runtime, &spec.image).await?;
        self.files(context, runtime, &mut spec)
            .await
            .map_err(|error| self.runtime_failed(context, Reason::CreateContainerError, error))?;
        Ok(spec)
    }

    /// Where the container's sockets are.
    async fn place(&self, context: &Context, image: &Image) -> Result<place::Place, String> {
        let (pod, uid) = (&self.pod, &self.pod_ref.uid);
        place::of_container(context, pod, uid, self.address, image.kind, self.alone).await
    }

    fn started(&self, runtime: &str, image: &Image) -> Started {
        let reference = self.container.image.as_deref().unwrap_or_default();
        Started {
            image_id: format!(
                "{}@{}",
                runtimes::images::repository(reference),
                image.digest
            ),
            container_id: format!("{runtime}://{}", self.id),
        }
    }

    fn runtime_failed(
        &self,
        context: &Context,
        reason: Reason,
        error: RuntimeError,
    ) -> StartFailure {
        let reason = match error {
            RuntimeError::Config(_) => Reason::CreateContainerConfigError,
            _ => reason,
        };
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
        StartFailure {
            reason,
            message,
            container_id: String::new(),
        }
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
        self.tell(pod, field, warning, reason, message);
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
        self.tell(pod, Some(field(name, role)), warning, reason, message);
    }

    fn tell(
        &self,
        pod: &PodRef,
        field: Option<String>,
        warning: bool,
        reason: &'static str,
        message: String,
    ) {
        // What runs a revision has no object of its own to tell it of, and no containers.
        let revision = functions::revision_of(&pod.uid);
        self.events.send(Note {
            kind: revision.map_or("Pod", |_| "FunctionRevision"),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: revision.unwrap_or(&pod.uid).to_owned(),
            field: field.filter(|_| revision.is_none()),
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
