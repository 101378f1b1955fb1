//! Images that exist because a test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    ArchiveError, Credentials, Image, ImageError, ImageKind, Images, Progress, PullPolicy,
};

/// A node's images in memory: every reference can be pulled, but those that the test refuses.
#[derive(Debug, Default)]
pub struct FakeImages {
    state: Mutex<State>,
    allowed: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    present: BTreeMap<String, Image>,
    refused: BTreeMap<String, String>,
    /// References that are container images.
    containers: BTreeSet<String>,
    pulls: Vec<String>,
    progress: BTreeMap<String, Progress>,
}

impl FakeImages {
    /// No image is here; any can be pulled.
    pub fn new() -> Self {
        FakeImages::default()
    }

    /// Puts an image where it needs no pull.
    pub fn insert(&self, image: Image) {
        self.state().present.insert(image.reference.clone(), image);
    }

    /// Makes `reference` a container image, from its next pull on.
    pub fn contain(&self, reference: &str) {
        self.state().containers.insert(reference.to_owned());
    }

    /// Makes pulls of `reference` fail with `message`.
    pub fn refuse(&self, reference: &str, message: &str) {
        self.state()
            .refused
            .insert(reference.to_owned(), message.to_owned());
    }

    /// Lets pulls of `reference` succeed again.
    pub fn allow(&self, reference: &str) {
        let mut state = self.state();
        state.refused.remove(reference);
        state.progress.remove(reference);
        self.allowed.notify_waiters();
    }

    /// Makes pulls of `reference` last, this far, until [`allow`](Self::allow).
    pub fn stall(&self, reference: &str, progress: Progress) {
        let mut state = self.state();
        state.progress.insert(reference.to_owned(), progress);
    }

    /// Every reference that was pulled, in order, failures included.
    pub fn pulls(&self) -> Vec<String> {
        self.state().pulls.clone()
    }

    /// The component that pulling `reference` gives: its digest is made from the reference alone.
    pub fn image(reference: &str) -> Image {
        Image {
            reference: reference.to_owned(),
            digest: crate::images::digest_of(reference.as_bytes()),
            origin: None,
            kind: ImageKind::Wasm,
            path: PathBuf::from("/nonexistent"),
            size_bytes: reference.len() as u64,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Images for FakeImages {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        _credentials: &[Credentials],
    ) -> Result<Image, ImageError> {
        loop {
            let allowed = self.allowed.notified();
            if !self.state().progress.contains_key(reference) {
                break;
            }
            allowed.await;
        }
        let mut state = self.state();
        let present = state.present.get(reference).cloned();
        match (policy, present) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(image)) => return Ok(image),
            (PullPolicy::Never, None) => {
                return Err(ImageError::NeverPull {
                    reference: reference.to_owned(),
                });
            }
            _ => {}
        }
        state.pulls.push(reference.to_owned());
        if let Some(message) = state.refused.get(reference) {
            return Err(ImageError::Pull {
                reference: reference.to_owned(),
                message: message.clone(),
            });
        }
        let kind = match state.containers.contains(reference) {
            true => ImageKind::Oci,
            false => ImageKind::Wasm,
        };
        let image = Image {
            kind,
            ..FakeImages::image(reference)
        };
        state.present.insert(reference.to_owned(), image.clone());
        Ok(image)
    }

    async fn pin(&self, image: &Image, name: &str) -> Result<Image, ImageError> {
        let pinned = Image {
            reference: name.to_owned(),
            ..image.clone()
        };
        let mut state = self.state();
        state.present.insert(name.to_owned(), pinned.clone());
        Ok(pinned)
    }

    async fn find(&self, reference: &str) -> Option<Image> {
        self.state().present.get(reference).cloned()
    }

    async fn list(&self) -> Result<Vec<Image>, ImageError> {
        Ok(self.state().present.values().cloned().collect())
    }

    async fn remove(&self, reference: &str) -> Result<u64, ImageError> {
        let removed = self.state().present.remove(reference);
        Ok(removed.map_or(0, |image| image.size_bytes))
    }

    async fn tidy(&self, _min_age: Duration) -> Result<u64, ImageError> {
        Ok(0)
    }

    /// An archive of the fake has a reference a line.
    async fn import(
        &self,
        mut archive: Box<dyn Read + Send>,
        name: Option<&str>,
    ) -> Result<Vec<Image>, ArchiveError> {
        let read = move || std::io::read_to_string(&mut archive);
        let text = tokio::task::spawn_blocking(read).await;
        let text = text
            .map_err(|error| ArchiveError::Unavailable(error.to_string()))?
            .map_err(|error| ArchiveError::Invalid(error.to_string()))?;
        let names = text.lines().map(|line| name.unwrap_or(line));
        let images: Vec<Image> = names.map(FakeImages::image).collect();
        for image in &images {
            self.insert(image.clone());
        }
        Ok(images)
    }

    async fn export(
        &self,
        references: &[String],
        mut archive: Box<dyn Write + Send>,
    ) -> Result<(), ArchiveError> {
        let mut text = String::new();
        for reference in references {
            if self.find(reference).await.is_none() {
                let reference = reference.clone();
                return Err(ArchiveError::NotFound { reference });
            }
            text += reference;
            text.push('\n');
        }
        let write = move || {
            archive.write_all(text.as_bytes())?;
            archive.flush()
        };
        let written = tokio::task::spawn_blocking(write).await;
        written
            .map_err(|error| ArchiveError::Unavailable(error.to_string()))?
            .map_err(|error| ArchiveError::Unavailable(error.to_string()))
    }

    fn progress(&self, reference: &str) -> Option<Progress> {
        self.state().progress.get(reference).copied()
    }
}
