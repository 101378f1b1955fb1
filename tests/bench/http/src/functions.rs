//! Functions: the product itself behind its gateway, from zero and warm, next to `wasmtime serve` alone and behind nginx.
//!
//! `wk up` runs rootless on the core of servers, with functions that all run one component. What stands for "from zero"
//! is a function that nobody has asked for: neither it nor any other is open, so its code is on disk alone.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use crate::{
    child::{self, Child, Core},
    client::Client,
    load::{Load, Measured},
    objects::{self, Body},
    wasm::{median, row, serve},
};

/// Clients that ask at once.
const CLIENTS: usize = 32;
const SECONDS: u64 = 6;
const ROUNDS: usize = 3;
/// Requests to functions of which none is open.
const COLD: usize = 40;
/// Functions that nobody asks for, and how many of them are asked then.
const MANY: usize = 10_000;
const ASKED: usize = 1_000;
/// Objects in one request of `wkctl apply`.
const BATCH: usize = 500;
/// As soon as it can be said: so that every function is at zero again before the next is asked.
const IDLE_SECONDS: i32 = 1;
const CLOSED: Duration = Duration::from_millis(2_500);
const SOON: Duration = Duration::from_secs(1_800);

/// The programs that are measured.
pub(crate) struct Programs<'a> {
    pub(crate) component: &'a Path,
    pub(crate) wasmtime: &'a Path,
    pub(crate) nginx: &'a Path,
}

/// Measures and prints.
pub(crate) fn drive(programs: &Programs<'_>, many: Option<usize>) -> Result<()> {
    child::pin(Core::Clients)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(figures(programs, many.unwrap_or(MANY)))
}

async fn figures(programs: &Programs<'_>, many: usize) -> Result<()> {
    let node = Node::start()?;
    let component = programs.component.canonicalize();
    let component = component.context("find the component")?;
    node.deploy(&component, ["hello".to_owned()].iter()).await?;

    println!("{:<58} {:>28}", "functions, one core", "");
    let mut cold = Vec::new();
    for _ in 0..COLD {
        tokio::time::sleep(CLOSED).await;
        cold.push(node.first_byte("hello").await?);
    }
    said(
        "from zero to the answer, through the gateway",
        &mut cold,
        "goal p50 5 ms, p99 25 ms",
    );

    let upstream = serve(&component, programs.wasmtime)?;
    let nginx = Nginx::before(programs.nginx, upstream.plain)?;
    let (mut ours, mut alone, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(load(&node.gateway).await?);
        alone.push(load(&upstream).await?);
        behind.push(load(&nginx.child).await?);
    }
    println!(
        "{:<44} {:>10} {:>10} {:>9} {:>9}",
        "GET of a hello component, one core", "/CPU-s", "/s", "p50 ms", "p99 ms"
    );
    let [ours, alone, behind] = [ours, alone, behind].map(median);
    row("wk: gateway and component", &ours);
    row("wasmtime serve alone", &alone);
    row("nginx, then wasmtime serve (CPU of nginx)", &behind);
    let over = |other: &Measured| ours.per_second() / other.per_second();
    println!(
        "{:<44} {:>10.2}   goal 1",
        "wk / wasmtime serve",
        over(&alone)
    );
    println!(
        "{:<44} {:>10.2}   goal 1.5",
        "wk / nginx, then wasmtime serve",
        over(&behind)
    );

    let before = node.gateway.settled_rss().await?;
    let names: Vec<String> = (0..many).map(|index| format!("f{index}")).collect();
    let begun = Instant::now();
    for batch in names.chunks(BATCH) {
        node.deploy(&component, batch.iter()).await?;
    }
    println!(
        "{:<58} {:>26.0} s",
        format!("{many} functions deployed in"),
        begun.elapsed().as_secs_f64()
    );
    tokio::time::sleep(CLOSED).await;
    let after = node.gateway.settled_rss().await?;
    let megabytes = (after.saturating_sub(before)) as f64 / 1e6;
    println!(
        "{:<58} {megabytes:>25.1} MB   goal 300 MB of 10,000",
        "memory of them at zero"
    );

    let mut times = Vec::new();
    // In an order that has nothing to do with theirs, and is the same in every run.
    let step = 7_919 % many.max(1);
    for index in 0..ASKED.min(many) {
        let name = &names[(index * step.max(1)) % many];
        times.push(node.first_byte(name).await?);
    }
    said(
        "1,000 of them, each asked for the first time",
        &mut times,
        "goal p99 50 ms",
    );
    Ok(())
}

async fn load(child: &Child) -> Result<Measured> {
    let load = Load::over(child, CLIENTS).seconds(SECONDS);
    load.run(|_| request("hello")).await
}

/// A request by a function's own name.
fn request(name: &str) -> Request<Body> {
    let mut request = objects::request(Method::GET, "/", String::new());
    let host = HeaderValue::from_str(&format!("{name}.default.localhost"));
    let host = host.unwrap_or(HeaderValue::from_static("localhost"));
    request.headers_mut().insert(header::HOST, host);
    request
}

fn said(what: &str, times: &mut [Duration], goal: &str) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    let text = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let figures = format!("p50 {}, p99 {} ms", text(at(50)), text(at(99)));
    println!("{what:<58} {figures:>28}   {goal}");
}

/// A free port of the loopback.
fn free() -> Result<SocketAddr> {
    let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    free.local_addr().context("find a free port")
}

/// A program that was built beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let program = own.with_file_name(name);
    ensure!(program.is_file(), "{} is not built", program.display());
    Ok(program)
}

/// A command that runs on the core of servers.
fn on_server_core(program: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("exec").arg(program);
    Ok(command)
}

/// A cluster of one node.
struct Node {
    gateway: Child,
    kubeconfig: PathBuf,
    directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Result<Node> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let data = directory.path().join("data");
        let (api, gateway) = (free()?, free()?);
        let mut command = on_server_core(&beside("wk")?)?;
        command
            .args([
                "up",
                "--network",
                "rootless",
                "--gateway-tls-listen",
                "none",
            ])
            .arg("--data-dir")
            .arg(&data)
            .arg(format!("--listen={api}"))
            .arg(format!("--gateway-listen={gateway}"));
        Ok(Node {
            gateway: Child::serving(command, gateway)?,
            kubeconfig: data.join("admin.kubeconfig"),
            directory,
        })
    }

    fn wkctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(beside("wkctl")?)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
            .output()
            .context("run wkctl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "wkctl {arguments:?}: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes functions of a component, and waits until all are ready.
    async fn deploy(&self, component: &Path, names: impl Iterator<Item = &String>) -> Result<()> {
        let path = self.directory.path().join("functions.json");
        let mut file = std::fs::File::create(&path).context("write a manifest")?;
        let items: Vec<Value> = names.map(|name| function(name, component)).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        file.write_all(list.to_string().as_bytes())
            .context("write a manifest")?;
        self.wkctl(&["apply", "-f", &path.display().to_string()])?;
        let begun = Instant::now();
        loop {
            let all = self.wkctl(&["get", "functions", "-o", "json"])?;
            let all: Value = serde_json::from_str(&all).context("read functions")?;
            let items = all["items"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let waiting = items.iter().filter(|function| !is_ready(function));
            match waiting.count() {
                0 if !items.is_empty() => return Ok(()),
                left if begun.elapsed() > SOON => bail!("{left} functions did not get ready"),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// From a request on a new connection to its answer.
    async fn first_byte(&self, name: &str) -> Result<Duration> {
        let mut client = Client::connect(&self.gateway).await?;
        let begun = Instant::now();
        let (code, _) = client.ask(request(name)).await?;
        ensure!(code == 200, "{name} answered {code}");
        Ok(begun.elapsed())
    }
}

fn function(name: &str, component: &Path) -> Value {
    json!({
        "apiVersion": "functions.wk.dev/v1",
        "kind": "Function",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "image": format!("file://{}", component.display()),
            "scale": { "min": 0, "max": 100, "idleSeconds": IDLE_SECONDS },
        },
    })
}

fn is_ready(function: &Value) -> bool {
    let conditions = function["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// nginx on the core of servers, before one upstream.
struct Nginx {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Nginx {
    fn before(program: &Path, upstream: SocketAddr) -> Result<Nginx> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let address = free()?;
        let at = directory.path().display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             upstream components {{ server {upstream}; keepalive 64; }}\n\
             server {{ listen {address}; keepalive_requests 1000000; location / {{\n\
             proxy_pass http://components; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n"
        );
        let path = directory.path().join("nginx.conf");
        std::fs::write(&path, text).context("write nginx.conf")?;
        let mut command = on_server_core(program)?;
        command.arg("-c").arg(&path).stdin(Stdio::null());
        Ok(Nginx {
            child: Child::serving(command, address)?,
            _directory: directory,
        })
    }
}
