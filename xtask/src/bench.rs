//! Builds for release and runs the benchmarks kept under `tests/bench`.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{test, tools};

/// Those of a whole cluster that belong to `wasm`.
const WASM: &[&str] = &["pod-latency", "thousand-pods", "ten-thousand-pods"];

/// What containers are measured with and beside, and the Debian package it comes from.
const CONTAINERS: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("docker-registry", "docker-registry"),
    ("runc", "runc"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
];

/// What stands before `wasmtime serve` where functions are measured, and the Debian package it comes from.
const GATEWAYS: &[(&str, &str)] = &[("nginx", "nginx-light")];
const NGINX: &str = "nginx";

/// The peer that components are measured beside.
const WASMTIME: &str = "48.0.8";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which benchmark (start, first-answer, memory, pod-latency, thousand-pods, ten-thousand-pods, api, scheduler, oci,
    /// hollow, functions, charts, or wasm for all about components); all of them by default
    name: Option<String>,

    /// For hollow: which cases (basic, pinned, churn, held, deployment; all by default), --full, --nodes N, --pods N
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    of_it: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = |name| args.name.as_deref().is_none_or(|wanted| wanted == name);
    if wanted("api") {
        cargo(&["run", "--quiet", "--release", "--package", "http-bench"])?;
    }
    if wanted("scheduler") {
        cargo(&[
            "bench",
            "--quiet",
            "--package=scheduler",
            "--bench=decisions",
        ])?;
    }
    if matches!(args.name.as_deref(), Some("api" | "scheduler")) {
        return Ok(());
    }
    if wanted("charts") {
        let bench = [
            "bench",
            "--quiet",
            "--package=charts",
            "--bench=beside_helm",
        ];
        run_cargo(cargo_command(&bench).env("WK_HELM", tools::helm()?))?;
    }
    if wanted("oci") {
        test::install(CONTAINERS)?;
    }
    if wanted("functions") {
        test::install(GATEWAYS)?;
    }
    // One build, so that all are compiled with the same features.
    cargo(&[
        "build",
        "--release",
        "--package=wk",
        "--package=cli",
        "--package=http-bench",
        "--package=wk-shim",
        "--package=e2e",
        "--package=hollow",
    ])?;
    if wanted("wasm") {
        let wasmtime = wasmtime()?.display().to_string();
        let component = "examples/hello.wat";
        let http = ["run", "--quiet", "--release", "--package=http-bench", "--"];
        cargo(&[&http[..], &["wasm", component, &wasmtime]].concat())?;
    }
    if wanted("functions") {
        let wasmtime = wasmtime()?.display().to_string();
        let http = ["run", "--quiet", "--release", "--package=http-bench", "--"];
        let functions = ["functions", "examples/hello.wat", &wasmtime, NGINX];
        cargo(&[&http[..], &functions].concat())?;
    }
    if args.name.as_deref() == Some("functions") {
        return Ok(());
    }
    let mut bench = vec![
        "run",
        "--quiet",
        "--release",
        "--package=e2e",
        "--bin=bench",
        "--",
    ];
    match args.name.as_deref() {
        Some("wasm") => bench.extend(WASM),
        name => bench.extend(name),
    }
    bench.extend(args.of_it.iter().map(String::as_str));
    let mut bench = cargo_command(&bench);
    if wanted("charts") {
        bench.env("WK_HELM", tools::helm()?);
    }
    run_cargo(&mut bench)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    run_cargo(&mut cargo_command(arguments))
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments);
    command
}

fn run_cargo(command: &mut Command) -> Result<()> {
    let status = command.status().context("run cargo")?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// wasmtime's own command, built into the tools' directory if it is not there.
fn wasmtime() -> Result<PathBuf> {
    let root = tools::directory()?.join("wasmtime");
    let program = root.join("bin/wasmtime");
    if !program.is_file() {
        let root = root.display().to_string();
        let features = "--features=serve,run,cranelift,component-model,component-model-async,pooling-allocator,parallel-compilation,wat";
        cargo(&[
            "install",
            "wasmtime-cli",
            "--version",
            WASMTIME,
            "--locked",
            "--no-default-features",
            features,
            "--root",
            &root,
        ])?;
    }
    Ok(program)
}
