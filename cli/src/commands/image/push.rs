//! `wkctl image push`: an image from this machine into the cluster's registry.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tokio::time::Instant;

use super::{TELLING, ls};
use crate::{
    push::{self, Content, Progress},
    session::Session,
};

/// Push an image to the cluster's registry: an archive, or a WebAssembly component or module
#[derive(Args)]
pub(super) struct Push {
    /// An OCI layout in tar or an archive of `docker save`, with gzip or without; or a .wasm or .wat file
    file: PathBuf,
    /// [registry.wk.internal/][NAMESPACE/]NAME[:TAG]
    name: String,
}

impl Push {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let content = Content::of_file(&self.file)?;
        let mut told = Instant::now();
        let mut tell = |progress: Progress| {
            if told.elapsed() >= TELLING {
                told = Instant::now();
                session.note(format_args!(
                    "{} of {}",
                    ls::size(progress.sent_bytes),
                    ls::size(progress.total_bytes)
                ));
            }
        };
        let pushed = push::push(session, &self.name, content, &mut tell).await?;
        session.line(format_args!("Pushed: {}", pushed.tagged))?;
        session.line(format_args!("Digest: {}", pushed.digest))
    }
}
