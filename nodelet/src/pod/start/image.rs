//! A container's image: pulled if it must be, of a kind that this node runs, made ready.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use runtimes::{
    Image, ImageError, ImageKind, PullPolicy, Runtime,
    images::{is_name, normal_name},
};

use super::{Start, within};
use crate::{
    functions::{self, PINS},
    pod::{
        container::{Reason, StartFailure},
        credentials::{credentials, identity},
        environment::took,
        place::{class, runtime_of, unavailable},
        pulling,
        worker::Context,
    },
};

/// How long a pull may take, others' turns included.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);
/// How long making an image ready may take, others' turns included.
pub(super) const PREPARE_DEADLINE: Duration = Duration::from_secs(600);
/// From when on it is told of a function's.
const PULL_UNSEEN: SignedDuration = SignedDuration::from_secs(1);
/// From when on it is told.
const PREPARE_UNSEEN: Duration = Duration::from_secs(1);

impl Start {
    /// The image, pulled if it must be.
    pub(crate) async fn image(&self, context: &Context) -> Result<Image, StartFailure> {
        let reference = self.container.image.as_deref().unwrap_or_default();
        if normal_name(reference).starts_with(PINS) {
            // Whose they are is not told by their names.
            let error = ImageError::InvalidName {
                reference: reference.to_owned(),
                message: format!("names below {PINS} are the node's own"),
            };
            return Err(self.image_failed(context, reference, &error));
        }
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
        let mut accounts = if pulls && is_name(reference) {
            if !self.is_function() {
                let message = format!("Pulling image {reference:?}");
                self.note(context, false, "Pulling", message);
            }
            credentials(&context.client, &self.pod, reference).await
        } else {
            Vec::new()
        };
        accounts.push(identity(&self.pod));
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
        let unseen = context.clock.now().duration_since(began) < PULL_UNSEEN;
        if !(unseen && self.is_function()) {
            self.note(context, false, "Pulled", message);
        }
        Ok(image)
    }

    /// Whether this is what runs a revision of a Function: there may be ten thousand, of whom little is told.
    fn is_function(&self) -> bool {
        functions::revision_of(&self.pod_ref.uid).is_some()
    }

    fn image_failed(&self, context: &Context, reference: &str, error: &ImageError) -> StartFailure {
        let (reason, event) = match error {
            ImageError::InvalidName { .. } => {
                let message = format!("Failed to apply default image tag {reference:?}: {error}");
                self.note(context, true, "InspectFailed", message);
                (Reason::InvalidImageName, String::new())
            }
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
            container_id: String::new(),
        }
    }

    /// Makes the image ready; tells of it if that takes long.
    pub(crate) async fn prepare(
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
                let (begins, over) = match image.kind {
                    ImageKind::Wasm => ("Compiling", "Compiled"),
                    ImageKind::Oci => ("Unpacking", "Unpacked"),
                };
                self.note(
                    context,
                    false,
                    begins,
                    format!("{begins} image {reference:?}"),
                );
                let prepared = prepare.await;
                if prepared.is_ok() {
                    let took = took(began, context.clock.now());
                    let message = format!(
                        "{over} image {reference:?} in {took} (including waiting for others)"
                    );
                    self.note(context, false, over, message);
                }
                prepared
            }
        };
        prepared.map_err(|error| self.runtime_failed(context, Reason::CreateContainerError, error))
    }

    /// The runtime for an image; `runtimeClassName` may only assert it.
    pub(crate) async fn runtime(
        &self,
        context: &Context,
        image: &Image,
    ) -> Result<Arc<dyn Runtime>, StartFailure> {
        let name = runtime_of(image.kind);
        let refused = |message| self.failed(context, Reason::CreateContainerError, message);
        let class = class(context, &self.pod).await.map_err(refused)?;
        if let Some(class) = class.filter(|class| *class != image.kind) {
            return Err(refused(format!(
                "image {:?} runs under {name}, but the pod's runtimeClassName says {:?}",
                image.reference,
                runtime_of(class)
            )));
        }
        let mut runtimes = context.runtimes.iter();
        let found = runtimes.find(|runtime| runtime.name() == name);
        found.cloned().ok_or_else(|| {
            let why = unavailable(context, image.kind).unwrap_or_default();
            let what = match image.kind {
                ImageKind::Wasm => "a WebAssembly component",
                ImageKind::Oci => "a container image",
            };
            refused(format!(
                "image {:?} is {what}, which this node cannot run: {why}",
                image.reference
            ))
        })
    }
}
