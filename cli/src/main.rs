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
    match cli::commands::Cli::try_parse() {
        Ok(cli) => cli::commands::run(cli).await,
        Err(usage) => {
            let help = !usage.use_stderr();
            // Nobody may be reading any more; then there is nobody to tell.
            let _ = usage.print();
            if help {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
