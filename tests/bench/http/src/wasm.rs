//! Requests to a component, next to bare hyper and to `wasmtime serve` with the same component.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    child::{self, Child, Core},
    load::{self, Load, Measured},
    objects,
};

/// Clients that ask at once.
const CLIENTS: usize = 32;
const SECONDS: u64 = 6;
const ROUNDS: usize = 3;
/// Bytes of an answer of the component.
const LENGTH: usize = 17;

/// Becomes another program, on the core of servers.
pub(crate) fn exec(command: &[String]) -> Result<()> {
    child::pin(Core::Server)?;
    let (program, arguments) = command.split_first().context("name a program")?;
    Err(Command::new(program).args(arguments).exec()).context("start the program")
}

/// Measures and prints.
pub(crate) fn drive(component: &Path, wasmtime: &Path) -> Result<()> {
    child::pin(Core::Clients)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(figures(component, wasmtime))
}

async fn figures(component: &Path, wasmtime: &Path) -> Result<()> {
    let (mut floor, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let hyper = Child::floor()?;
    let (own, instantiate) = Child::component(component)?;
    let peer = serve(component, wasmtime)?;
    // In turns, so that what else the machine does hits all of them.
    for _ in 0..ROUNDS {
        floor.push(load::floor(&hyper, CLIENTS, LENGTH).await?);
        for (child, rounds) in [(&own, &mut ours), (&peer, &mut theirs)] {
            let load = Load::over(child, CLIENTS).seconds(SECONDS);
            rounds.push(load.run(|_| objects::bytes(0)).await?);
        }
    }
    println!(
        "{:<44} {:>10} {:>10} {:>9} {:>9}",
        "GET of a hello component, one core", "/CPU-s", "/s", "p50 ms", "p99 ms"
    );
    let [floor, ours, theirs] = [floor, ours, theirs].map(median);
    row("bare hyper", &floor);
    row("wk, an instance a request, limits on", &ours);
    row("wasmtime serve", &theirs);
    let ratio = |other: &Measured| ours.per_cpu_second() / other.per_cpu_second();
    println!(
        "{:<44} {:>10.2}   goal 1.5",
        "wk / wasmtime serve",
        ratio(&theirs)
    );
    println!(
        "{:<44} {:>10.2}   goal 0.4",
        "wk / bare hyper",
        ratio(&floor)
    );
    let [p50, p99] = instantiate.map(|nanos| nanos / 1000.0);
    println!(
        "{:<44} {p50:>10.1}   goal p50 10 µs; p99 {p99:.1}",
        "an instance made, µs"
    );
    let program = std::env::current_exe().context("find this program")?;
    let rest = Command::new(program).arg("rest").arg(component).status();
    let rest = rest.context("start a process")?;
    ensure!(rest.success(), "measuring memory ended with {rest}");
    Ok(())
}

pub(crate) fn row(what: &str, measured: &Measured) {
    println!(
        "{what:<44} {:>10.0} {:>10.0} {:>9.2} {:>9.2}",
        measured.per_cpu_second(),
        measured.per_second(),
        measured.millis(0.5),
        measured.millis(0.99)
    );
}

/// The round in the middle.
pub(crate) fn median(mut rounds: Vec<Measured>) -> Measured {
    rounds.sort_by(|left, right| left.per_cpu_second().total_cmp(&right.per_cpu_second()));
    rounds.swap_remove(rounds.len() / 2)
}

/// `wasmtime serve` on the core of servers. It takes text in the format of components, as we do.
pub(crate) fn serve(component: &Path, wasmtime: &Path) -> Result<Child> {
    if !wasmtime.is_file() {
        bail!(
            "{} is not there: `cargo xtask bench wasm` installs it",
            wasmtime.display()
        );
    }
    let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    let address = free.local_addr().context("find a free port")?;
    drop(free);
    let own: PathBuf = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    command
        .arg("exec")
        .arg(wasmtime)
        .args(["serve", "-S", "cli", "--env", "HOSTNAME=hello", "--addr"])
        .arg(address.to_string())
        .arg(component);
    Child::serving(command, address)
}
