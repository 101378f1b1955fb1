//! One file per command: an args struct and `run`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::api::Api;

mod apply;

/// Command line of wk clusters
#[derive(Parser)]
#[command(name = "wkctl", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Kubeconfig to use; by default the one of `wk up` on this machine, else KUBECONFIG
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Namespace to work in
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

impl Global {
    /// Connects to the cluster.
    pub async fn api(&self) -> anyhow::Result<Api> {
        Api::from_kubeconfig(self.kubeconfig.clone(), self.context.clone()).await
    }

    /// The namespace to work in.
    pub fn namespace<'a>(&'a self, api: &'a Api) -> &'a str {
        self.namespace.as_deref().unwrap_or_else(|| api.namespace())
    }
}

#[derive(Subcommand)]
enum Command {
    Apply(apply::Apply),
}

/// Runs one command; its exit code is 0 or 1, as `kubectl`'s.
pub async fn run(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let result = match cli.command {
        Command::Apply(command) => command.run(global).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error as `kubectl` does: the server's own line as it is, anything else after `error: `.
fn report(error: &anyhow::Error) {
    let text = format!("{error:#}");
    if text.starts_with("Error from server") || text.starts_with("error: ") {
        eprintln!("{text}");
    } else {
        eprintln!("error: {text}");
    }
}

/// Prints one line of data; a reader that went away is an error like any other.
fn out(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}").map_err(Into::into)
}
