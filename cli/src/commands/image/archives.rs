//! `wkctl image import` and `export`: archives stream to the node and from it.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use futures::{Stream, StreamExt as _, stream};
use http::Method;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::text;
use crate::{query, session::Session};

/// So much of an archive is read at once.
const CHUNK: usize = 256 << 10;

/// Read images from an archive of `docker save`, or an OCI layout in tar
#[derive(Args)]
pub(super) struct Import {
    /// The archive, with gzip or without; - is stdin
    file: PathBuf,
    /// Name for the image, if the archive has one image
    #[arg(long)]
    name: Option<String>,
}

impl Import {
    pub(super) async fn run(self, session: &Session, path: &str) -> Result<()> {
        let name = self.name.as_deref().unwrap_or_default();
        let path = query::with(path, &[("name", name)]);
        let shown = self.file.display();
        let archive: Box<dyn AsyncRead + Send + Unpin> = if is_std(&self.file) {
            Box::new(tokio::io::stdin())
        } else {
            let file = tokio::fs::File::open(&self.file).await;
            Box::new(file.with_context(|| format!("open {shown}"))?)
        };
        let api = session.api().await?;
        let answer = api
            .upload(&path, "application/x-tar", chunks(archive))
            .await?;
        for image in answer["images"].as_array().into_iter().flatten() {
            session.line(format_args!("Imported: {}", text(&image["name"])))?;
        }
        Ok(())
    }
}

/// Write images to an archive that `docker load` and `wkctl image import` read
#[derive(Args)]
pub(super) struct Export {
    #[arg(required = true)]
    images: Vec<String>,
    /// The archive; - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, session: &Session, path: &str) -> Result<()> {
        let images: Vec<(&str, &str)> = self
            .images
            .iter()
            .map(|image| ("image", image.as_str()))
            .collect();
        let path = query::with(path, &images);
        let file = match &self.output {
            Some(file) => Some(file).filter(|file| !is_std(file)),
            None if io::stdout().is_terminal() => {
                bail!("an archive is nothing for a terminal: name a file with -o")
            }
            None => None,
        };
        let response = session.api().await?.open(Method::GET, &path, "*/*", None);
        let mut body = response.await?.into_body().into_data_stream();
        let Some(file) = file else {
            while let Some(chunk) = body.next().await {
                session.bytes(&chunk.context("read the archive")?)?;
            }
            return Ok(());
        };
        let written = write(file, body.map(|chunk| chunk.context("read the archive"))).await;
        if written.is_err() {
            // Half an archive is none.
            let _ = std::fs::remove_file(file);
        }
        written
    }
}

async fn write(path: &Path, mut body: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<()> {
    let shown = path.display();
    let file = tokio::fs::File::create(path).await;
    let mut file = file.with_context(|| format!("create {shown}"))?;
    while let Some(chunk) = body.next().await {
        let written = file.write_all(&chunk?).await;
        written.with_context(|| format!("write {shown}"))?;
    }
    file.flush().await.with_context(|| format!("write {shown}"))
}

fn is_std(path: &Path) -> bool {
    path == Path::new("-")
}

fn chunks(
    archive: impl AsyncRead + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(archive, |mut archive| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = archive.read_buf(&mut chunk).await?;
        Ok((read > 0).then(|| (chunk.freeze(), archive)))
    })
}
