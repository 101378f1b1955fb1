//! What servers cost, next to what they could cost at best: the API (`cargo xtask bench api`) and a
//! component (`cargo xtask bench wasm`).
//!
//! The server is a process of its own, on one core; this process asks it from another. Rates are a second
//! of the server's CPU time, so that other work on the machine does not count; the floor is bare hyper
//! sending the same bytes, measured in the same way in the same run. How long a client waits holds what
//! other work on the machine took: the floor's p50 and p99 beside ours tell how much. The API takes about
//! three minutes.
//! - [`child`]: the processes that are measured, from outside. [`server`], [`floor`]: what runs in them.
//! - [`component`], [`wasm`]: the same for a component, beside `wasmtime serve`.
//! - [`functions`]: the product itself, its gateway before components (`cargo xtask bench functions`).
//! - [`client`], [`load`], [`watchers`]: who asks. [`objects`]: what is stored.

#![expect(clippy::print_stdout, reason = "the table is the result")]

mod child;
mod client;
mod component;
mod floor;
mod functions;
mod load;
mod objects;
mod server;
mod wasm;
mod watchers;

use anyhow::{Context, Result, bail};
use child::{Child, Database};
use load::{Load, Measured};

/// As in `wk`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pods of the lists and of the memory figure.
const PODS: usize = 10_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", database, certificate] => server::run(database, certificate.as_ref()),
        ["fill", directory, bytes] => server::fill(directory.as_ref(), bytes.parse()?),
        ["floor"] => floor::run(),
        ["component", path] => component::run(path.as_ref()),
        ["rest", path] => component::rest(path.as_ref()),
        ["exec", ..] => wasm::exec(&arguments[1..]),
        ["wasm", component, wasmtime] => wasm::drive(component.as_ref(), wasmtime.as_ref()),
        ["functions", component, wasmtime, nginx, many @ ..] => {
            let programs = functions::Programs {
                component: component.as_ref(),
                wasmtime: wasmtime.as_ref(),
                nginx: nginx.as_ref(),
            };
            let many = many.first().map(|many| many.parse()).transpose()?;
            functions::drive(&programs, many)
        }
        [] => drive(&["sqlite", "postgres"]),
        [one @ ("sqlite" | "postgres")] => drive(&[one]),
        ["watchers"] => drive(&[]),
        other => bail!(
            "unknown arguments {other:?}: name sqlite, postgres, watchers, wasm <component> <wasmtime>, functions <component> <wasmtime> <nginx> or nothing"
        ),
    }
}

/// Measures and prints.
fn drive(databases: &[&str]) -> Result<()> {
    child::pin(child::Core::Clients)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    println!(
        "{:<44} {:>12} {:>12} {:>7} {:>10} {:>10} {:>10} {:>10}",
        "", "/CPU-s", "floor", "ratio", "p50 ms", "floor", "p99 ms", "floor"
    );
    for name in databases {
        let database = Database::make(name)?;
        runtime.block_on(figures(name, &database))?;
    }
    let database = Database::make("sqlite")?;
    runtime.block_on(deliveries(&database))?;
    memory(&runtime)
}

/// One line of the table.
fn row(what: &str, measured: &Measured, floor: &Measured) {
    let ratio = floor.per_cpu_second() / measured.per_cpu_second();
    println!(
        "{what:<44} {:>12.0} {:>12.0} {ratio:>6.1}x {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
        measured.per_cpu_second(),
        floor.per_cpu_second(),
        measured.millis(0.5),
        floor.millis(0.5),
        measured.millis(0.99),
        floor.millis(0.99),
    );
}

async fn figures(name: &str, database: &Database) -> Result<()> {
    let floor = Child::floor()?;
    let server = Child::server(database)?;
    let say = |what: &str| format!("{name}: {what}");

    let created = Load::over(&server, 64)
        .count(PODS)
        .run(objects::create_pod)
        .await?;
    let small = load::floor(&floor, 64, 2_200).await?;
    row(&say("create a pod of 2 KB"), &created, &small);
    let got = Load::over(&server, 64)
        .seconds(4)
        .run(objects::get_pod)
        .await?;
    row(&say("get one"), &got, &small);
    let patched = Load::over(&server, 64)
        .seconds(4)
        .run(objects::patch_pod)
        .await?;
    row(&say("patch one"), &patched, &small);

    // Alone, one after another: how long a client waits.
    let alone = load::floor(&floor, 1, 2_200).await?;
    let got = Load::over(&server, 1)
        .seconds(3)
        .run(objects::get_pod)
        .await?;
    row(&say("get one, idle server"), &got, &alone);
    let patched = Load::over(&server, 1)
        .seconds(3)
        .run(objects::patch_pod)
        .await?;
    row(&say("patch one, idle server"), &patched, &alone);

    let length = load::length(&server, objects::list_pods("")).await?;
    let listed = Load::over(&server, 2)
        .seconds(4)
        .run(|_| objects::list_pods(""))
        .await?;
    let same = load::floor(&floor, 2, length).await?;
    row(
        &say(&format!("list of {PODS} pods, {} MB", length / 1_000_000)),
        &listed,
        &same,
    );
    let paged = load::pages(&server, 3).await?;
    let page = load::floor(&floor, 1, length / PODS * 500).await?;
    row(&say("page of 500 of them"), &paged, &page);

    Ok(())
}

async fn deliveries(database: &Database) -> Result<()> {
    let floor = Child::floor()?;
    let server = Child::server(database)?;
    for (bytes, tls) in [(500, false), (2000, true)] {
        let told = watchers::of_server(&server, bytes, tls).await?;
        let sent = watchers::of_floor(&floor, bytes).await?;
        let sealed = if tls { ", TLS" } else { "" };
        let what = format!("an event of {bytes} B to a watcher{sealed}");
        row(&what, &told, &sent);
        println!(
            "{:<44} {:>12.0} {:>12.0}         deliveries/s on the clock, {} watchers",
            "",
            told.per_second(),
            sent.per_second(),
            watchers::COUNT
        );
    }
    Ok(())
}

/// What a pod of 4 KB in the cache takes.
fn memory(runtime: &tokio::runtime::Runtime) -> Result<()> {
    let database = Database::make("sqlite")?;
    let empty = runtime.block_on(async { Child::server(&database)?.settled_rss().await })?;
    Child::fill(&database, 4000)?;
    let full = runtime.block_on(async { Child::server(&database)?.settled_rss().await })?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = (full.saturating_sub(empty)) as f64 / 1024.0 / PODS as f64;
    println!("memory of a cached pod of 4 KB, {PODS} of them: {each:.1} KiB (aim: 6)");
    Ok(())
}
