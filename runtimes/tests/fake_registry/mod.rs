//! A registry in this process: it has what a test puts in, and misbehaves as the test says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use runtimes::images::digest_of;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A request as the registry sees it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// With the query.
    pub(crate) path: String,
    /// The first byte that is asked for.
    pub(crate) from: usize,
    pub(crate) authorization: Option<String>,
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// So much of the body is sent before the connection ends.
    pub(crate) sent: usize,
    /// The rest waits until the test lets it go.
    pub(crate) held: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        Answer {
            status,
            headers: Vec::new(),
            sent: body.len(),
            body,
            held: false,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// Changes the usual answer to a request.
type Rule = Box<dyn FnMut(&Request, Answer) -> Answer + Send>;

#[derive(Default)]
struct State {
    contents: HashMap<String, (String, Vec<u8>)>,
    requests: Vec<Request>,
    rule: Option<Rule>,
}

/// Ends with its test.
pub(crate) struct FakeRegistry {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
    release: Arc<tokio::sync::Semaphore>,
    _server: JoinSet<()>,
}

impl FakeRegistry {
    pub(crate) async fn start() -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let release = Arc::new(tokio::sync::Semaphore::new(0));
        let mut server = JoinSet::new();
        let (shared, gate) = (state.clone(), release.clone());
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, shared.clone(), gate.clone()));
            }
        });
        FakeRegistry {
            host,
            state,
            release,
            _server: server,
        }
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Lets all answers go that are held.
    pub(crate) fn release(&self) {
        self.release.add_permits(1000);
    }

    /// From now on answers go through `rule`.
    pub(crate) fn rule(&self, rule: impl FnMut(&Request, Answer) -> Answer + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    /// The requests since the last call, those to find the way in left out.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    pub(crate) fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = digest_of(bytes);
        self.put(
            format!("/v2/{name}/blobs/{digest}"),
            "application/octet-stream",
            bytes,
        );
        digest
    }

    /// A manifest under a tag and its digest.
    pub(crate) fn manifest(&self, name: &str, tag: &str, kind: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = digest_of(&bytes);
        for reference in [tag, &digest] {
            self.put(format!("/v2/{name}/manifests/{reference}"), kind, &bytes);
        }
        digest
    }

    /// A container image of these layers (media type, content) for `architecture`; its manifest.
    pub(crate) fn image(
        &self,
        name: &str,
        tag: &str,
        architecture: &str,
        layers: &[(&str, &[u8])],
    ) -> (String, Value) {
        // What a layer unpacks to is for who unpacks it.
        let diff_ids: Vec<String> = layers.iter().map(|(_, bytes)| digest_of(bytes)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string();
        let layers = layers.iter().map(|(kind, bytes)| {
            json!({"mediaType": kind, "digest": self.blob(name, bytes), "size": bytes.len()})
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": OCI_CONFIG, "digest": self.blob(name, config.as_bytes()),
                "size": config.len(),
            },
            "layers": layers.collect::<Vec<_>>(),
        });
        let digest = self.manifest(name, tag, OCI_MANIFEST, &manifest);
        (digest, manifest)
    }

    fn put(&self, path: String, kind: &str, bytes: &[u8]) {
        let content = (kind.to_owned(), bytes.to_vec());
        self.lock().contents.insert(path, content);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    release: Arc<tokio::sync::Semaphore>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let request = parse(&String::from_utf8_lossy(&head));
    let answer = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if request.path != "/v2/" {
            state.requests.push(request.clone());
        }
        let usual = usual(&state, &request);
        match &mut state.rule {
            Some(rule) => rule(&request, usual),
            None => usual,
        }
    };
    let mut text = format!(
        "HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n",
        answer.status,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    // A client that has left is no matter.
    let _ = stream.write_all(text.as_bytes()).await;
    if answer.held {
        let half = answer.body.len() / 2;
        let _ = stream.write_all(&answer.body[..half]).await;
        let _permit = release.acquire().await;
        let _ = stream.write_all(&answer.body[half..answer.sent]).await;
    } else {
        let _ = stream.write_all(&answer.body[..answer.sent]).await;
    }
    let _ = stream.shutdown().await;
}

fn parse(head: &str) -> Request {
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let from = header("range").and_then(|range| {
        let from = range.strip_prefix("bytes=")?.split('-').next()?;
        from.parse().ok()
    });
    Request {
        path,
        from: from.unwrap_or(0),
        authorization: header("authorization"),
    }
}

fn usual(state: &State, request: &Request) -> Answer {
    if request.path == "/v2/" {
        return Answer::new(200, "{}");
    }
    let Some((kind, content)) = state.contents.get(&request.path) else {
        let errors = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]});
        return Answer::new(404, errors.to_string());
    };
    let (from, whole) = (request.from, content.len());
    if from == 0 {
        return Answer::new(200, content.clone()).with("content-type", kind);
    }
    Answer::new(206, &content[from..])
        .with("content-type", kind)
        .with(
            "content-range",
            format!("bytes {from}-{}/{whole}", whole - 1),
        )
}
