//! Everything that must hold before a change lands, in one command.
//!
//! Installs the programs that tests run against (Debian packages, as root; others from PyPI), then
//! format, lints, dependency table, build, tests. Stops at the first that fails.

use std::{ffi::OsString, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// A program the tests run, and the Debian package it comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("ps", "procps"),
    ("umoci", "umoci"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    install(PROGRAMS)?;
    if args.filter.is_none() {
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?;
        crate::deps::run()?;
    }
    // One build for tests and programs, so that both are compiled with the same features.
    cargo(&["build", "--workspace", "--all-targets"])?;
    let filter = args.filter.as_deref().into_iter();
    let runner: &[&str] = if present("cargo-nextest") {
        &["nextest", "run", "--workspace", "--no-fail-fast"]
    } else {
        &["test", "--workspace", "--no-fail-fast"]
    };
    let kubectls = tools::kubectls()?;
    let python = tools::python()?;
    let moto = tools::moto()?;
    let helm = tools::helm()?;
    println!("$ cargo {}", runner.join(" "));
    run_checked(
        Command::new(env!("CARGO"))
            .args(runner)
            .args(filter)
            .env("PATH", path_with_kubectl(&kubectls)?)
            .env("WK_KUBECTL", kubectls)
            .env("WK_PYTHON", python)
            .env("WK_MOTO", moto)
            .env("WK_HELM", helm),
    )
}

/// Installs the packages whose programs are missing.
pub(crate) fn install(programs: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !present(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        println!("installing {}", missing.join(", "));
        let apt = |arguments: &[&str]| {
            run_checked(
                Command::new("apt-get")
                    .args(arguments)
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            )
        };
        let install = [
            &["install", "--yes", "--no-install-recommends"],
            missing.as_slice(),
        ]
        .concat();
        apt(&["update"])
            .and_then(|()| apt(&install))
            .with_context(|| {
                format!(
                    "this needs {}: install them, or run this as root",
                    missing.join(", ")
                )
            })?;
    }
    Ok(())
}

/// PATH with a kubectl on it: the newest of ours if the machine has none.
fn path_with_kubectl(tools: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if present("kubectl") {
        return Ok(path);
    }
    let programs = tools.join("bin");
    let kubectl = programs.join("kubectl");
    if !kubectl.exists() {
        std::fs::create_dir_all(&programs).context("make a directory for kubectl")?;
        std::os::unix::fs::symlink(tools.join("kubectl-1.33"), kubectl).context("link kubectl")?;
    }
    std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))
        .context("extend PATH")
}

/// True if a program is on PATH, or a path (with one `*` for a directory) exists.
fn present(program: &str) -> bool {
    if let Some((before, after)) = program.split_once('*') {
        return std::fs::read_dir(before).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|e| e.path().join(after.trim_start_matches('/')).exists())
        });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/sbin"].map(Path::new);
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
        || also.iter().any(|dir| dir.join(program).exists())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    println!("$ cargo {}", arguments.join(" "));
    run_checked(Command::new(env!("CARGO")).args(arguments))
}

/// Runs a program to its end; fails if it does.
pub(crate) fn run_checked(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
