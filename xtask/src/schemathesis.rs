//! Schemathesis against a `wk up` of its own: requests that the OpenAPI documents allow, and requests
//! that they don't, for a bounded time. A 5xx, an answer of another media type than is documented, or
//! one that its schema doesn't allow fails the chore.
//!
//! Nothing is sent to where an answer has no end (watches, logs, connections), and no namespace or
//! node is deleted.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{test::run_checked, tools};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Documents to go through, as paths below /openapi/v3; a selection by default
    documents: Vec<String>,

    /// Seconds for each document
    #[arg(long, default_value_t = 60)]
    seconds: u32,

    /// Makes the requests repeatable
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const DOCUMENTS: &[&str] = &[
    "version",
    "api/v1",
    "apis/apps/v1",
    "apis/rbac.authorization.k8s.io/v1",
];

/// How long the server may take to start.
const START: Duration = Duration::from_secs(60);

/// Takes client certificate, key and CA out of a kubeconfig, and writes a document without what has
/// no end.
const PREPARE: &str = r#"
import base64, json, re, ssl, sys, urllib.request
directory, server, path = sys.argv[1:]
text = open(directory + "/data/admin.kubeconfig").read()
for name, key in [("ca", "certificate-authority-data"), ("client", "client-certificate-data"), ("key", "client-key-data")]:
    data = re.search(key + r":\s*\"?([A-Za-z0-9+/=]+)", text).group(1)
    open(f"{directory}/{name}.pem", "wb").write(base64.b64decode(data))
context = ssl.create_default_context(cafile=directory + "/ca.pem")
context.load_cert_chain(directory + "/client.pem", directory + "/key.pem")
document = json.load(urllib.request.urlopen(f"{server}/openapi/v3/{path}", context=context))
endless = re.compile(r"/(log|exec|attach|portforward|proxy)$")
document["paths"] = {path: item for path, item in document["paths"].items() if not endless.search(path)}
for path, item in document["paths"].items():
    if re.search(r"/(namespaces|nodes)(/\{name\})?$", path):
        item.pop("delete", None)
    for operation in item.values():
        if isinstance(operation, dict):
            operation["parameters"] = [p for p in operation.get("parameters", []) if p["name"] not in ("watch", "sendInitialEvents")]
json.dump(document, open(directory + "/document.json", "w"))
"#;

pub(crate) fn run(args: &Args) -> Result<()> {
    let schemathesis = tools::schemathesis()?;
    run_checked(Command::new(env!("CARGO")).args(["build", "--package", "wk"]))?;
    let directory = tools::directory()?.join("schemathesis-run");
    if directory.exists() {
        std::fs::remove_dir_all(&directory).context("remove the last run")?;
    }
    std::fs::create_dir_all(&directory).context("make a directory for the run")?;
    let chosen: Vec<&str> = args.documents.iter().map(String::as_str).collect();
    let chosen = if chosen.is_empty() {
        DOCUMENTS
    } else {
        &chosen
    };
    let server = Server::start(&directory)?;
    for document in chosen {
        println!("schemathesis: {document}");
        run_checked(
            Command::new("python3")
                .args(["-c", PREPARE])
                .arg(&directory)
                .args([server.url.as_str(), document]),
        )
        .context("prepare the document")?;
        let file = |name: &str| directory.join(name).display().to_string();
        run_checked(
            Command::new(&schemathesis)
                .current_dir(&directory)
                .args(["run", &file("document.json"), "--url", &server.url])
                .args([
                    "--tls-verify",
                    &file("ca.pem"),
                    "--request-cert",
                    &file("client.pem"),
                ])
                .args([
                    "--request-cert-key",
                    &file("key.pem"),
                    "--request-timeout",
                    "20",
                ])
                .args([
                    "--checks",
                    "not_a_server_error,content_type_conformance,response_schema_conformance",
                ])
                .args([
                    "--phases",
                    "examples,coverage,fuzzing",
                    "--continue-on-failure",
                ])
                .args([
                    "--max-time",
                    &args.seconds.to_string(),
                    "--seed",
                    &args.seed.to_string(),
                ])
                .args(["--suppress-health-check", "all", "--warnings", "off"]),
        )
        .with_context(|| format!("the server doesn't keep to {document}"))?;
    }
    Ok(())
}

/// A `wk up` on loopback addresses; it is killed when the value goes.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(directory: &Path) -> Result<Self> {
        // Free when it was looked at; a port that is taken meanwhile shows as a failed start.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let address = listener.local_addr().context("find a free port")?;
        drop(listener);
        let program = tools::directory()?.with_file_name("debug").join("wk");
        let log = std::fs::File::create(directory.join("wk.log")).context("make the log")?;
        let process = Command::new(program)
            .args([
                "up",
                "--network=rootless",
                &format!("--listen={address}"),
                "--data-dir",
            ])
            .arg(directory.join("data"))
            .stdout(log)
            .stderr(Stdio::inherit())
            .spawn()
            .context("start wk")?;
        let mut server = Self {
            process,
            url: format!("https://{address}"),
        };
        let end = Instant::now() + START;
        while !server.is_ready() {
            if let Some(status) = server.process.try_wait().context("look after wk")? {
                bail!("wk ended with {status}");
            }
            if Instant::now() > end {
                bail!("wk is not ready after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let url = format!("{}/readyz", self.url);
        let output = Command::new("curl")
            .args(["--insecure", "--silent", "--max-time", "2", &url])
            .output();
        output.is_ok_and(|output| output.stdout == b"ok")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
