//! The `wkctl` binary.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("error: another TLS provider is installed");
        return ExitCode::FAILURE;
    }
    cli::commands::run(cli::commands::Cli::parse()).await
}
