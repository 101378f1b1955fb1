//! Calls to the apiserver that keep what typed clients drop: unknown fields, Tables and warnings.
//!
//! Prints the server's warnings to stderr, as `kubectl` does. Never retries.

use std::{io, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt as _, stream};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

/// A connection that carries messages both ways.
pub(crate) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// An error that the apiserver answered with: a `Status`.
#[derive(thiserror::Error, Debug)]
#[error("Error from server ({reason}): {message}")]
pub struct ServerError {
    /// HTTP status code.
    pub code: u16,
    /// `NotFound`, `Conflict`, …
    pub reason: String,
    /// In the server's words.
    pub message: String,
}

/// Nobody answers at the server's address.
#[derive(thiserror::Error, Debug)]
pub enum Unreachable {
    /// Nothing listens there.
    #[error(
        "The connection to the server {0} was refused - did you specify the right host or port? (`wk up` starts a cluster)"
    )]
    Refused(String),
    /// Anything else on the way there.
    #[error("Unable to connect to the server {0}: {1}")]
    Other(String, String),
}

/// The answer to a list or a get whose text is shown as a table.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// The answer to anything whose fields are read.
pub const JSON: &str = "application/json";

/// By what is before the slash, the server knows who writes.
pub(crate) const AGENT: &str = concat!("wkctl/", env!("CARGO_PKG_VERSION"));

/// How long the server may take until it begins to answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// The way to a cluster.
#[derive(Clone)]
pub struct Api {
    client: Client,
    /// Unless it is in this process.
    config: Option<Config>,
    namespace: String,
    /// `127.0.0.1:6443`, for messages.
    address: String,
}

/// Which kubeconfig to use when the user does not say: the one of `wk up` if it is there and
/// readable, else `KUBECONFIG` or `~/.kube/config`.
fn own_kubeconfig() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| home.map(|home| home.join(".local/share")));
    [data.map(|data| data.join("wk")), Some("/var/lib/wk".into())]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("admin.kubeconfig"))
        .find(|path| std::fs::File::open(path).is_ok())
}

impl Api {
    /// Connects as a kubeconfig says.
    pub async fn from_kubeconfig(path: Option<PathBuf>, context: Option<String>) -> Result<Self> {
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let mut config = match path.or_else(own_kubeconfig) {
            Some(path) => {
                let kubeconfig =
                    Kubeconfig::read_from(&path).with_context(|| format!("read kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options)
                    .await
                    .with_context(|| format!("use kubeconfig {}", path.display()))?
            }
            None => Config::from_kubeconfig(&options).await.context(
                "no cluster found: start one with `wk up`, or name a kubeconfig with --kubeconfig or KUBECONFIG",
            )?,
        };
        let namespace = config.default_namespace.clone();
        let address = config
            .cluster_url
            .authority()
            .map_or_else(String::new, ToString::to_string);
        config.read_timeout = None; // watches and logs may be silent for long
        let client = Client::try_from(config.clone()).context("set up the connection")?;
        Ok(Self {
            client,
            config: Some(config),
            namespace,
            address,
        })
    }

    /// Wraps a client that exists.
    pub fn new(client: Client) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self {
            client,
            config: None,
            namespace,
            address: "in this process".to_owned(),
        }
    }

    /// The namespace that a command works in when none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The client underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How the server is reached; `None` in this process.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// GETs JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, JSON, None).await
    }

    /// GETs JSON; `None` if it is not there.
    pub async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// GETs a list or object as the Table that `kubectl get` shows.
    pub async fn table(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, TABLE, None).await
    }

    /// Sends a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.call(method, path, JSON, Some((JSON, body))).await
    }

    /// Sends a patch of the given type.
    pub async fn patch(&self, path: &str, content_type: &str, patch: &Value) -> Result<Value> {
        self.call(Method::PATCH, path, JSON, Some((content_type, patch)))
            .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value> {
        let response = self.open(method, path, accept, body).await?;
        let bytes = tokio::time::timeout(DEADLINE, response.into_body().collect())
            .await
            .context("the server's answer did not end within a minute")?
            .context("read the server's answer")?
            .to_bytes();
        serde_json::from_slice(&bytes).context("read the server's answer")
    }

    /// Sends a request and hands back the answer with its body unread: for watches and logs.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<http::Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, accept);
        if let Some((content_type, _)) = body {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let bytes = body
            .map(|(_, value)| value.to_string().into_bytes())
            .unwrap_or_default();
        let request = request
            .body(Body::from(bytes))
            .context("build the request")?;
        self.answer(request).await
    }

    /// GETs a WebSocket that speaks one of these protocols; answers which.
    pub(crate) async fn websocket(
        &self,
        path: &str,
        protocols: &str,
    ) -> Result<(WebSocket, String)> {
        let key = generate_key();
        let request = Request::get(path)
            .header(header::USER_AGENT, AGENT)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .header(header::SEC_WEBSOCKET_PROTOCOL, protocols)
            .body(Body::empty())
            .context("build the request")?;
        let response = self.answer(request).await?;
        let told = |name| {
            let value = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS
            && told(header::SEC_WEBSOCKET_ACCEPT) == derive_accept_key(key.as_bytes());
        let protocol = told(header::SEC_WEBSOCKET_PROTOCOL).to_owned();
        if !accepted || !protocols.split(", ").any(|known| known == protocol) {
            bail!("the server does not speak {protocols} over WebSocket");
        }
        let upgraded = tokio::time::timeout(DEADLINE, hyper::upgrade::on(response))
            .await
            .context("the connection was not upgraded within a minute")?
            .context("upgrade the connection")?;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None);
        Ok((socket.await, protocol))
    }

    /// Sends a request; an answer that is a failure is an error.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Result<http::Response<Body>> {
        let response = tokio::time::timeout(DEADLINE, self.client.send(request))
            .await
            .context("the server did not answer within a minute")?
            .map_err(|error| unreachable(&self.address, error))?;
        for warning in response.headers().get_all(header::WARNING) {
            if let Some(text) = warning.to_str().ok().and_then(warning_text) {
                eprintln!("Warning: {text}");
            }
        }
        let code = response.status();
        if code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let bytes = response
            .into_body()
            .collect()
            .await
            .context("read the server's answer")?
            .to_bytes();
        Err(server_error(code, &bytes).into())
    }

    /// GETs a text that may never end, by lines.
    pub async fn lines(&self, path: &str) -> Result<impl Stream<Item = Result<Vec<u8>>> + use<>> {
        let response = self.open(Method::GET, path, "*/*", None).await?;
        Ok(lines(response.into_body()))
    }

    /// GETs a watch: its events' types and objects. An `ERROR` event ends it as an error.
    pub async fn watch(
        &self,
        path: &str,
        accept: &str,
    ) -> Result<impl Stream<Item = Result<(String, Value)>> + use<>> {
        let response = self.open(Method::GET, path, accept, None).await?;
        Ok(lines(response.into_body()).map(|line| {
            let mut event: Value = serde_json::from_slice(&line?).context("read a watch event")?;
            let object = event["object"].take();
            match event["type"].as_str().unwrap_or_default() {
                "ERROR" => {
                    let code = object["code"]
                        .as_u64()
                        .and_then(|code| u16::try_from(code).ok());
                    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
                    let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    Err(server_error(code, object.to_string().as_bytes()).into())
                }
                kind => Ok((kind.to_owned(), object)),
            }
        }))
    }
}

/// What a request that got no answer means to the user.
fn unreachable(address: &str, error: kube::Error) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let refused = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
    let address = address.to_owned();
    if refused {
        return Unreachable::Refused(address).into();
    }
    let cause = error
        .chain()
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    Unreachable::Other(address, cause).into()
}

/// Cuts a body into its lines, without their ends.
pub(crate) fn lines(body: Body) -> impl Stream<Item = Result<Vec<u8>>> {
    let chunks = Box::pin(body.into_data_stream());
    stream::try_unfold(
        (chunks, Vec::new(), false),
        |(mut chunks, mut rest, mut ended)| async move {
            loop {
                if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let mut line: Vec<u8> = rest.drain(..=end).collect();
                    line.pop();
                    return Ok(Some((line, (chunks, rest, ended))));
                }
                if ended {
                    let last = (!rest.is_empty()).then(|| std::mem::take(&mut rest));
                    return Ok(last.map(|line| (line, (chunks, rest, ended))));
                }
                match chunks.next().await {
                    Some(chunk) => rest.extend_from_slice(&chunk.context("read the stream")?),
                    None => ended = true,
                }
            }
        },
    )
}

/// The HTTP code of an error that came from the server.
pub fn code(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<ServerError>().map(|error| error.code)
}

/// A failure in the server's words: a `Status`, or the first error that its registry names.
pub(crate) fn server_error(code: StatusCode, body: &[u8]) -> ServerError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(error) = status["errors"].get(0) {
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        return ServerError {
            code: code.as_u16(),
            reason: text("code"),
            message: text("message"),
        };
    }
    let text = |field: &str| {
        status[field]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    ServerError {
        code: code.as_u16(),
        reason: text("reason").unwrap_or_else(|| {
            code.canonical_reason()
                .unwrap_or("Unknown")
                .replace(' ', "")
        }),
        message: text("message").unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned()),
    }
}

/// The text of a `Warning` header: `299 - "text"`.
fn warning_text(header: &str) -> Option<String> {
    let quoted = header.strip_prefix("299 - \"")?.strip_suffix('"')?;
    Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_header_is_unquoted() {
        assert_eq!(
            warning_text(r#"299 - "unknown field \"spec.a\"""#).as_deref(),
            Some(r#"unknown field "spec.a""#)
        );
    }

    #[test]
    fn an_error_of_the_registry_is_shown_in_its_words() {
        let body =
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such namespace","detail":{}}]}"#;
        assert_eq!(
            server_error(StatusCode::NOT_FOUND, body).to_string(),
            "Error from server (NAME_UNKNOWN): no such namespace"
        );
    }

    #[test]
    fn an_answer_that_is_no_status_is_shown_as_it_is() {
        let error = server_error(StatusCode::BAD_GATEWAY, b"upstream down\n");
        assert_eq!(
            error.to_string(),
            "Error from server (BadGateway): upstream down"
        );
    }
}
