//! What a command works with: the cluster, what it serves, the namespace, and where text goes.
//!
//! Connects on first use, so that commands that need no cluster work without one.

use std::{
    cell::RefCell,
    fmt::Arguments,
    io::{self, Write},
};

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::{api::Api, commands::Global, resources::Resources};

/// One run of a command.
pub(crate) struct Session {
    global: Global,
    api: OnceCell<Api>,
    resources: OnceCell<Resources>,
    out: RefCell<Box<dyn Write>>,
    notes: RefCell<Box<dyn Write>>,
}

/// Whoever read our output has gone: not worth a message.
#[derive(thiserror::Error, Debug)]
#[error("the output was closed")]
pub(crate) struct OutputClosed;

impl Session {
    /// Writes data to stdout and everything else to stderr.
    pub(crate) fn new(global: Global) -> Self {
        Self {
            global,
            api: OnceCell::new(),
            resources: OnceCell::new(),
            out: RefCell::new(Box::new(io::stdout())),
            notes: RefCell::new(Box::new(io::stderr())),
        }
    }

    /// The cluster.
    pub(crate) async fn api(&self) -> Result<&Api> {
        let connect =
            || Api::from_kubeconfig(self.global.kubeconfig.clone(), self.global.context.clone());
        self.api.get_or_try_init(connect).await
    }

    /// What the cluster serves.
    pub(crate) async fn resources(&self) -> Result<&Resources> {
        let api = self.api().await?;
        self.resources
            .get_or_try_init(|| Resources::discover(api))
            .await
    }

    /// The namespace to work in.
    pub(crate) async fn namespace(&self) -> Result<String> {
        match &self.global.namespace {
            Some(namespace) => Ok(namespace.clone()),
            None => Ok(self.api().await?.namespace().to_owned()),
        }
    }

    /// The namespace that the user named, for commands that need no cluster; otherwise `default`.
    pub(crate) fn namespace_or_default(&self) -> String {
        let named = self.global.namespace.as_deref();
        named.unwrap_or("default").to_owned()
    }

    /// True if the user named the namespace, so that manifests must agree with it.
    pub(crate) fn namespace_given(&self) -> bool {
        self.global.namespace.is_some()
    }

    /// True if data goes to a terminal that may show colours.
    pub(crate) fn colour(&self) -> bool {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        wanted && io::IsTerminal::is_terminal(&io::stdout())
    }

    /// Prints one line of data.
    pub(crate) fn line(&self, line: Arguments<'_>) -> Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints data as it is.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = self.out.borrow_mut();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => OutputClosed.into(),
            _ => anyhow::Error::new(error).context("write the output"),
        })
    }

    /// Prints bytes that are no data. Losing them is no error.
    pub(crate) fn note_bytes(&self, bytes: &[u8]) {
        let mut notes = self.notes.borrow_mut();
        let _ = notes.write_all(bytes).and_then(|()| notes.flush());
    }

    /// Prints one line that is no data. Losing it is no error.
    pub(crate) fn note(&self, line: Arguments<'_>) {
        let _ = writeln!(self.notes.borrow_mut(), "{line}");
    }
}

/// What ran in a container failed: its exit code is ours.
#[derive(thiserror::Error, Debug)]
#[error("{message}")]
pub(crate) struct Exit {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Exit {
    /// The end of a command: nothing to say of one that succeeded.
    pub(crate) fn of_command(code: i32) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        Err(Self {
            code: u8::try_from(code).unwrap_or(u8::MAX),
            message: format!("command terminated with exit code {code}"),
        }
        .into())
    }
}

/// Parts of a command that failed while others went on.
#[derive(Default, Debug)]
pub(crate) struct Failures(pub(crate) Vec<anyhow::Error>);

impl Failures {
    /// Keeps a failure for the end; one that concerns the whole command comes back at once.
    pub(crate) fn push(&mut self, error: anyhow::Error) -> Result<()> {
        if error.is::<OutputClosed>() || error.is::<crate::api::Unreachable>() {
            return Err(error);
        }
        self.0.push(error);
        Ok(())
    }

    /// The failures as one error, if there are any.
    pub(crate) fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into())
        }
    }
}

impl std::fmt::Display for Failures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} parts failed", self.0.len())
    }
}

impl std::error::Error for Failures {}

#[cfg(test)]
pub(crate) mod fake {
    //! A session on a server of a few canned answers, and what it printed.

    use std::{convert::Infallible, rc::Rc, sync::Arc, sync::Mutex};

    use clap::Parser as _;
    use http::{Request, Response, StatusCode};
    use http_body_util::BodyExt as _;
    use kube::{Client, client::Body};
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::{Cli, run_in};

    #[derive(Clone, Default)]
    struct Text(Rc<RefCell<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Answers each request in turn by method and path (with its query); an answer given once is
    /// repeated, one given several times is used in that order.
    #[derive(Clone, Default)]
    pub(crate) struct Server {
        answers: Arc<Mutex<Vec<(String, u16, String)>>>,
        writes: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        /// Serves discovery of the usual kinds.
        pub(crate) fn new() -> Self {
            let server = Self::default();
            let resource = |name: &str,
                            singular: &str,
                            kind: &str,
                            namespaced: bool,
                            short: &str| {
                json!({"name": name, "singularName": singular, "kind": kind, "namespaced": namespaced,
                    "shortNames": [short], "categories": if namespaced && kind != "ConfigMap" && kind != "Secret" { json!(["all"]) } else { json!([]) },
                    "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
            };
            server
                .on(
                    "GET /api/v1",
                    json!({"resources": [
                        resource("configmaps", "configmap", "ConfigMap", true, "cm"),
                        resource("namespaces", "namespace", "Namespace", false, "ns"),
                        resource("nodes", "node", "Node", false, "no"),
                        resource("pods", "pod", "Pod", true, "po"),
                        resource("secrets", "secret", "Secret", true, ""),
                        resource("services", "service", "Service", true, "svc"),
                    ]}),
                )
                .on(
                    "GET /apis",
                    json!({"groups": [{"name": "apps", "preferredVersion": {"version": "v1"}}]}),
                )
                .on(
                    "GET /apis/apps/v1",
                    json!({"resources": [
                        resource("deployments", "deployment", "Deployment", true, "deploy"),
                        resource("replicasets", "replicaset", "ReplicaSet", true, "rs"),
                        resource("statefulsets", "statefulset", "StatefulSet", true, "sts"),
                    ]}),
                )
        }

        /// Adds an answer.
        pub(crate) fn on(self, request: &str, answer: Value) -> Self {
            self.on_text(request, 200, &answer.to_string())
        }

        /// Adds an answer of any status and text.
        pub(crate) fn on_text(self, request: &str, code: u16, answer: &str) -> Self {
            let answer = (request.to_owned(), code, answer.to_owned());
            self.answers.lock().unwrap().push(answer);
            self
        }

        /// Adds an answer that is an error.
        pub(crate) fn on_error(
            self,
            request: &str,
            code: u16,
            reason: &str,
            message: &str,
        ) -> Self {
            let status =
                json!({"kind": "Status", "code": code, "reason": reason, "message": message});
            self.on_text(request, code, &status.to_string())
        }

        fn answer(&self, request: &str) -> (u16, String) {
            let mut answers = self.answers.lock().unwrap();
            let mut matching = answers
                .iter()
                .enumerate()
                .filter(|(_, (name, _, _))| name == request);
            match (matching.next(), matching.next()) {
                (Some((index, _)), Some(_)) => {
                    let (_, code, text) = answers.remove(index);
                    (code, text)
                }
                (Some((_, (_, code, text))), None) => (*code, text.clone()),
                (None, _) => {
                    let status =
                        json!({"reason": "NotFound", "message": format!("nothing at {request}")});
                    (404, status.to_string())
                }
            }
        }

        /// Runs a command line: what it writes to the server, to stdout, to stderr, its exit code.
        pub(crate) async fn run(&self, line: &str) -> String {
            let this = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let this = this.clone();
                async move {
                    let path = request
                        .uri()
                        .path_and_query()
                        .map_or("", |p| p.as_str())
                        .to_owned();
                    let name = format!("{} {path}", request.method());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    if !name.starts_with("GET ") {
                        let text = format!("{name} {}", String::from_utf8_lossy(&body));
                        this.writes.lock().unwrap().push(text.trim().to_owned());
                    }
                    let (code, text) = this.answer(&name);
                    let mut response = Response::new(Body::from(text.into_bytes()));
                    *response.status_mut() = StatusCode::from_u16(code).unwrap();
                    Ok::<_, Infallible>(response)
                }
            });
            let words = std::iter::once("wkctl").chain(line.split_whitespace());
            let (global, command) = match Cli::try_parse_from(words) {
                Ok(cli) => cli.into_parts(),
                Err(error) => return error.to_string(),
            };
            let (out, notes) = (Text::default(), Text::default());
            let session = Session {
                global,
                api: OnceCell::new_with(Some(Api::new(Client::new(service, "default")))),
                resources: OnceCell::new(),
                out: RefCell::new(Box::new(out.clone())),
                notes: RefCell::new(Box::new(notes.clone())),
            };
            let code = run_in(&session, command).await;
            let mut text = String::new();
            for write in self.writes.lock().unwrap().drain(..) {
                text.push_str(&format!("> {write}\n"));
            }
            text.push_str(&String::from_utf8_lossy(&out.0.borrow()));
            for note in String::from_utf8_lossy(&notes.0.borrow()).lines() {
                text.push_str(&format!("! {note}\n"));
            }
            if code != 0 {
                text.push_str(&format!("exit {code}\n"));
            }
            text
        }
    }
}
