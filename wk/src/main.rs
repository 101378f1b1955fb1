//! The `wk` binary: wires the components into a running cluster.
//!
//! The only crate that names implementations. Reads flags, opens the data directory and the store,
//! makes certificates, starts every component and stops them in order. Decides nothing about
//! objects: that is the components' business.

mod authority;
mod autoscaling;
mod cluster;
mod components;
mod data_dir;
mod demand;
mod gateway;
mod kubeconfig;
mod leader;
mod manifests;
mod node_name;
mod node_proxy;
mod pki;
mod progress;
mod ranges;
mod registry;
mod tasks;
mod tokens;
mod up;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Objects are trees of small pieces, made and dropped on every request: the allocator of the C library
/// spends a fifth of a write on them. Without huge pages, which would cost a small cluster a third of its memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Kubernetes-compatible orchestrator for WebAssembly components and containers
#[derive(Parser)]
#[command(name = "wk", version, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// What to log to stderr, as a level or a tracing filter (`info`, `warn,api=debug`)
    #[arg(
        long,
        global = true,
        env = "WK_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    use anyhow::Context as _;

    let mut filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("--log {:?} is not a filter", args.log))?;
    let Command::Up(up) = &args.command;
    if let Some(also) = up.gateway.log() {
        filter = filter.add_directive(also.parse().context("log accesses")?);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    tokio_rustls::rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    match args.command {
        Command::Up(up) => runtime.block_on(up.run()),
    }
}
