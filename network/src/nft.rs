//! Hands text to the `nft` command: one transaction a call, all of it or nothing.

use std::{net::SocketAddrV4, process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::ruleset::Entry;

/// How long one transaction may take; 1,000 Services load in well under a second.
const DEADLINE: Duration = Duration::from_secs(20);

const MISSING: &str = "start nft: install the nftables package, or run rootless";

/// Fails where there is no `nft` to run.
pub(crate) async fn check() -> anyhow::Result<()> {
    let mut version = Command::new("nft");
    version
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = timeout(DEADLINE, version.kill_on_drop(true).status()).await;
    let status = status.context("nft took too long")?.context(MISSING)?;
    anyhow::ensure!(status.success(), "nft --version fails: {status}");
    Ok(())
}

/// Applies the text.
pub(crate) async fn apply(text: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(MISSING)?;
    let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let finish = async {
        // nft that stops reading says why on stderr: that is the error to show, not the broken pipe.
        let written = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        if output.status.success() {
            written?;
        }
        Ok::<_, std::io::Error>(output)
    };
    let output = timeout(DEADLINE, finish)
        .await
        .context("nft took too long")?
        .context("run nft")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("nft refused the rules: {}", said.trim());
    }
    Ok(())
}

/// Makes clients of a UDP endpoint that left choose again. Without the `conntrack` command they stay
/// with it until they have been silent for the kernel's UDP timeout; `false` says so.
pub(crate) async fn forget_udp(entry: &Entry, endpoint: &SocketAddrV4) -> bool {
    let mut command = Command::new("conntrack");
    command.args(["-D", "-p", "udp"]);
    let port = match entry {
        Entry::Service(frontend) => {
            command.args(["--orig-dst", &frontend.address.ip().to_string()]);
            frontend.address.port()
        }
        Entry::Node((_, _, port)) => *port,
    };
    let child = command
        .args(["--orig-port-dst", &port.to_string()])
        .args(["--reply-src", &endpoint.ip().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    // It fails when there is no such entry, which is as good.
    matches!(timeout(DEADLINE, child).await, Ok(Ok(_)))
}
