//! `wkctl attach`: the streams of a container that runs.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::exec::can_be_terminal;
use crate::{
    pods,
    remote::{self, Wanted},
    session::Session,
};

/// Attach to a container that runs
#[derive(Args)]
pub(crate) struct Attach {
    /// POD, or TYPE/NAME such as deployment/hello
    #[arg(value_name = "POD")]
    target: String,
    /// Container of the pod; by default the first
    #[arg(short, long)]
    container: Option<String>,
    /// Pass our input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Our input is a terminal
    #[arg(short, long)]
    tty: bool,
    /// Print only what the container prints
    #[arg(short, long)]
    quiet: bool,
}

impl Attach {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let namespace = session.namespace().await?;
        let pod = pods::first(session, &namespace, &self.target, "attach to").await?;
        if pods::has_ended(&pod) {
            bail!(
                "cannot attach a container in a completed pod; current phase is {}",
                pod["status"]["phase"].as_str().unwrap_or_default()
            );
        }
        let container = self.container.as_deref();
        let container = pods::container(session, &pod, container, self.quiet)?;
        let how = How {
            stdin: self.stdin,
            tty: self.tty,
            quiet: self.quiet,
        };
        to(session, &namespace, &pod, &container, how).await
    }
}

/// How to attach.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) stdin: bool,
    pub(super) tty: bool,
    pub(super) quiet: bool,
}

/// Attaches to a container until it ends or lets us go.
pub(super) async fn to(
    session: &Session,
    namespace: &str,
    pod: &Value,
    container: &str,
    how: How,
) -> Result<()> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let all = lists.iter().flat_map(|list| pod["spec"][list].as_array());
    let own = all.flatten().find(|own| own["name"] == container);
    let has_tty = own.is_some_and(|own| own["tty"] == true);
    if how.tty && !has_tty && !how.quiet {
        session.note(format_args!(
            "Unable to use a TTY - container {container} did not allocate one"
        ));
    }
    let wanted = Wanted {
        stdin: how.stdin,
        stdout: true,
        stderr: true,
        // A container's terminal is one even if nobody asked: its output and errors are one stream.
        tty: has_tty,
    };
    if how.tty && has_tty {
        can_be_terminal(session, how.stdin, how.quiet);
    }
    if wanted.stdin && wanted.tty && !how.quiet {
        session.note(format_args!(
            "If you don't see a command prompt, try pressing enter."
        ));
    }
    let name = pods::name(pod);
    let path = remote::path(namespace, name, "attach", container, wanted, &[]);
    // How the container ends is its pod's to tell.
    remote::interact(session, &path, wanted).await.map(drop)
}
