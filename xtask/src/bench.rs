//! Builds for release and runs the benchmarks kept under `tests/bench`.

use std::process::Command;

use anyhow::{Context, Result, bail};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmark (start, first-answer, memory, thousand-pods or api); all of them by default
    name: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let cargo = |arguments: &[&str]| -> Result<()> {
        let status = Command::new(env!("CARGO"))
            .args(arguments)
            .status()
            .context("run cargo")?;
        if !status.success() {
            bail!("cargo {} ended with {status}", arguments.join(" "));
        }
        Ok(())
    };
    let wanted = |name| args.name.as_deref().is_none_or(|wanted| wanted == name);
    if wanted("api") {
        cargo(&["run", "--quiet", "--release", "--package", "api-bench"])?;
    }
    if args.name.as_deref() == Some("api") {
        return Ok(());
    }
    cargo(&["build", "--release", "--package", "wk", "--package", "cli"])?;
    let mut bench = vec![
        "run",
        "--quiet",
        "--release",
        "--package",
        "e2e",
        "--bin",
        "bench",
        "--",
    ];
    bench.extend(args.name.as_deref());
    cargo(&bench)
}
