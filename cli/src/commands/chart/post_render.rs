//! A post-renderer: a program that reads manifests and answers them changed.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{io::AsyncWriteExt as _, process::Command, time};

/// How long a program may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs a program over manifests.
pub(super) async fn run(program: &Path, arguments: &[String], manifest: &str) -> Result<String> {
    let doing = || format!("run post-renderer {}", program.display());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(doing)?;
    let mut stdin = child.stdin.take().context("post-renderer without stdin")?;
    let write = async move {
        // A program that reads nothing is its own affair.
        let _ = stdin.write_all(manifest.as_bytes()).await;
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = time::timeout(DEADLINE, both)
        .await
        .with_context(|| format!("{}: no answer within {DEADLINE:?}", doing()))?
        .with_context(doing)?;
    if !output.status.success() {
        bail!("{}: {}", doing(), output.status);
    }
    let text = String::from_utf8(output.stdout).with_context(doing)?;
    match text.trim().is_empty() {
        true => bail!("post-renderer {} produced empty output", program.display()),
        false => Ok(text),
    }
}
