//! Pushes an image to the cluster's own registry, by the protocol of the OCI distribution specification.
//!
//! Talks to the apiserver's `/v2/` with the kubeconfig's TLS and account. Blobs that the repository has are not sent
//! again; manifests go last, so that whoever finds one finds all of it. Never talks to another registry.
//!
//! - [`content`]: what is pushed, as blobs and manifests; `wasm`, `archive`: made of a module's bytes, or an archive.
//! - [`name`]: which repository and tag are meant. Pure.

mod archive;
mod content;
mod name;
mod wasm;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;

pub(crate) use content::Content;
pub(crate) use wasm::Kind;

use crate::{
    api::{self, AGENT, Api},
    query,
    session::Session,
};
use content::{Blob, Image};
use name::Name;

/// Between two reports on a blob that is being sent.
const REPORTING: Duration = Duration::from_millis(100);

/// How far a push is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Progress {
    /// Of blobs; those that the repository had count as sent.
    pub(crate) sent_bytes: u64,
    pub(crate) total_bytes: u64,
}

/// What a push has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pushed {
    /// `registry.wk.internal/NAMESPACE/NAME@sha256:…`: what a pod or a Function names to get exactly this.
    pub(crate) reference: String,
    /// `registry.wk.internal/NAMESPACE/NAME:TAG`; without the tag if none was given.
    pub(crate) tagged: String,
    /// `sha256:…` of the manifest.
    pub(crate) digest: String,
    /// Bytes that had to be sent.
    pub(crate) sent_bytes: u64,
}

/// Pushes `content` under `reference`: `[registry.wk.internal/][NAMESPACE/]NAME[:TAG]`; the session's namespace if
/// none is named, the tag `latest`.
///
/// # Errors
/// The reference names another registry, the content is no image, or the registry refuses; in its words.
pub(crate) async fn push(
    session: &Session,
    reference: &str,
    content: Content,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pushed> {
    let name = match name::parse(reference)? {
        Name {
            namespace: None, ..
        } => Name {
            namespace: Some(session.namespace().await?),
            ..name::parse(reference)?
        },
        name => name,
    };
    let image = tokio::task::spawn_blocking(move || content.into_image())
        .await
        .context("read the image")??;
    let repository = Repository {
        api: session.api().await?,
        path: format!("/v2/{}", name.repository()),
    };
    let mut now = Progress {
        sent_bytes: 0,
        total_bytes: image.blobs.iter().map(|blob| blob.size).sum(),
    };
    progress(now);
    let mut sent_bytes = 0;
    for blob in &image.blobs {
        if !repository.has(blob).await? {
            let before = now;
            let mut report = |sent| {
                progress(Progress {
                    sent_bytes: before.sent_bytes + sent,
                    ..before
                });
            };
            repository.send(blob, &mut report).await?;
            sent_bytes += blob.size;
        }
        now.sent_bytes += blob.size;
        progress(now);
    }
    let digest = repository.name(&image, &name.tag).await?;
    let whole = format!("{}/{}", name::HOST, name.repository());
    Ok(Pushed {
        reference: format!("{whole}@{digest}"),
        tagged: format!("{whole}:{}", name.tag),
        digest,
        sent_bytes,
    })
}

/// A repository of the registry.
struct Repository<'a> {
    api: &'a Api,
    path: String,
}

impl Repository<'_> {
    async fn has(&self, blob: &Blob) -> Result<bool> {
        let path = format!("{}/blobs/{}", self.path, blob.digest);
        let answer = self.api.open(Method::HEAD, &path, "*/*", None).await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if api::code(&error) == Some(404) => Ok(false),
            Err(error) => Err(error.context(format!("ask for blob {}", blob.digest))),
        }
    }

    /// Sends a blob as it is read.
    async fn send(&self, blob: &Blob, report: &mut dyn FnMut(u64)) -> Result<()> {
        let path = format!("{}/blobs/uploads/", self.path);
        let begun = self.api.open(Method::POST, &path, "*/*", None).await?;
        let location = begun.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        let Some(location) = location.filter(|location| location.starts_with("/v2/")) else {
            bail!("the registry did not say where to send a blob");
        };
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let body = blob.chunks().await?.map(move |chunk: io::Result<Bytes>| {
            let chunk = chunk?;
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            Ok(Frame::data(chunk))
        });
        let request = Request::put(query::with(location, &[("digest", &blob.digest)]))
            .header(header::USER_AGENT, AGENT)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size)
            .body(StreamBody::new(body).boxed_unsync())
            .context("build the request")?;
        let mut transfer = std::pin::pin!(self.api.transfer(request));
        let mut ticks = tokio::time::interval(REPORTING);
        let answer = loop {
            tokio::select! {
                answer = &mut transfer => break answer,
                _ = ticks.tick() => report(sent.load(Ordering::Relaxed).min(blob.size)),
            }
        };
        answer
            .with_context(|| format!("push blob {}", blob.digest))
            .map(drop)
    }

    /// Stores the manifests, the named one last; its digest.
    async fn name(&self, image: &Image, tag: &str) -> Result<String> {
        let named = image
            .manifests
            .last()
            .context("the image has no manifest")?;
        for manifest in &image.manifests {
            let is_named = manifest.digest == named.digest;
            let reference = if is_named { tag } else { &manifest.digest };
            let request = Request::put(format!("{}/manifests/{reference}", self.path))
                .header(header::USER_AGENT, AGENT)
                .header(header::CONTENT_TYPE, &manifest.media_type)
                .body(
                    Full::new(manifest.bytes.clone())
                        .map_err(io::Error::other)
                        .boxed_unsync(),
                )
                .context("build the request")?;
            let answer = self.api.transfer(request).await;
            answer.with_context(|| format!("push manifest {reference}"))?;
        }
        Ok(named.digest.clone())
    }
}
