//! `httpGet`: a GET with a connection of its own, over HTTP/1.1, or over HTTP/2 where TLS agrees on it. Used by
//! lifecycle handlers too.
//!
//! Follows redirects on the same host only, reads no more of a body than is ever shown, verifies no certificate.

mod url;

use std::{
    error::Error as _,
    fmt, io,
    sync::atomic::{AtomicBool, Ordering},
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use self::url::Url;
use super::{
    Target,
    dial::{self, TlsError, beside},
};

/// What is read of a body.
const LONGEST_BODY: usize = 10 << 10;
/// Requests made for one GET, redirects followed.
const REQUESTS: usize = 10;

/// What a server answered last.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Its beginning.
    pub(crate) body: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum GetError {
    /// The container has no such port.
    Port(String),
    /// Nobody answered, or something that is not HTTP.
    Request { url: String, message: String },
    /// The server does not speak TLS.
    PlainHttp { url: String },
    /// The answer ended before its body did.
    Body(String),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Port(message) | GetError::Body(message) => f.write_str(message),
            GetError::Request { url, message } => write!(f, "Get {url:?}: {message}"),
            GetError::PlainHttp { url } => write!(
                f,
                "Get {url:?}: http: server gave HTTP response to HTTPS client"
            ),
        }
    }
}

/// Asks what the action says, as `agent`.
pub(crate) async fn get(
    target: &Target,
    action: &HTTPGetAction,
    agent: &str,
    deadline: Option<Instant>,
) -> Result<Answer, GetError> {
    let port = match &action.port {
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(name)
            if name.is_empty() =>
        {
            80
        }
        port => target.port(port).map_err(GetError::Port)?,
    };
    let own = target.address.ip.to_string();
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let https = action.scheme.as_deref() == Some("HTTPS");
    let path = action.path.as_deref().unwrap_or_default();
    let mut url = Url::new(https, host.unwrap_or(&own), port, path);
    let mut headers = headers(action, agent).map_err(|message| GetError::Request {
        url: url.to_string(),
        message,
    })?;
    let first = url.host.clone();
    for _ in 0..REQUESTS {
        let response = bounded(&url, &headers, deadline).await?;
        let next = response.location.as_deref().and_then(|to| url.join(to));
        match next {
            // Elsewhere is somebody else's business.
            Some((next, relative)) if next.host == first => {
                if !relative {
                    headers.remove(header::HOST);
                }
                url = next;
            }
            _ => {
                return Ok(Answer {
                    status: response.status.as_u16(),
                    body: String::from_utf8_lossy(&response.body).into_owned(),
                });
            }
        }
    }
    Err(GetError::Request {
        url: url.to_string(),
        message: format!("stopped after {REQUESTS} redirects"),
    })
}

/// The action's headers, and those that it says nothing of.
fn headers(action: &HTTPGetAction, agent: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for given in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(given.name.as_bytes())
            .map_err(|_| format!("net/http: invalid header field name {:?}", given.name))?;
        let value = HeaderValue::from_str(&given.value)
            .map_err(|_| format!("net/http: invalid header field value for {:?}", given.name))?;
        headers.append(name, value);
    }
    if !headers.contains_key(header::USER_AGENT) {
        let agent = HeaderValue::from_str(agent).map_err(|error| error.to_string())?;
        headers.insert(header::USER_AGENT, agent);
    }
    match headers.get(header::ACCEPT) {
        None => {
            headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        }
        Some(value) if value.is_empty() => {
            headers.remove(header::ACCEPT);
        }
        Some(_) => {}
    }
    Ok(headers)
}

struct Response {
    status: StatusCode,
    /// Where it leads, if it is a redirect.
    location: Option<String>,
    body: Vec<u8>,
}

/// Why one exchange failed.
enum Failed {
    /// Before the answer's head was there.
    Head(String),
    PlainHttp,
    Body(String),
}

async fn bounded(
    url: &Url,
    headers: &HeaderMap,
    deadline: Option<Instant>,
) -> Result<Response, GetError> {
    let reading = AtomicBool::new(false);
    let exchange = exchange(url, headers, &reading);
    let outcome = match deadline {
        None => exchange.await,
        Some(deadline) => match timeout_at(deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) if reading.load(Ordering::Relaxed) => Err(Failed::Body(
                "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
                    .to_owned(),
            )),
            Err(_) => Err(Failed::Head(
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                    .to_owned(),
            )),
        },
    };
    outcome.map_err(|failed| match failed {
        Failed::Head(message) => GetError::Request {
            url: url.to_string(),
            message,
        },
        Failed::PlainHttp => GetError::PlainHttp {
            url: url.to_string(),
        },
        Failed::Body(message) => GetError::Body(message),
    })
}

/// One request on a connection of its own; `reading` is set once the answer's head is there.
async fn exchange(
    url: &Url,
    headers: &HeaderMap,
    reading: &AtomicBool,
) -> Result<Response, Failed> {
    let stream = dial::tcp(&url.host, url.port).await;
    let stream = stream.map_err(Failed::Head)?;
    let ends = match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => format!("{local}->{peer}"),
        _ => String::new(),
    };
    if !url.https {
        return over_http1(stream, &ends, url, headers, reading).await;
    }
    let stream = dial::tls(&url.host, stream)
        .await
        .map_err(|error| match error {
            TlsError::PlainHttp => Failed::PlainHttp,
            TlsError::Other(message) => Failed::Head(message),
        })?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        over_http2(stream, url, headers, reading).await
    } else {
        over_http1(stream, &ends, url, headers, reading).await
    }
}

async fn over_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ends: &str,
    url: &Url,
    headers: &HeaderMap,
    reading: &AtomicBool,
) -> Result<Response, Failed> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = url.target();
    *request.headers_mut() = headers.clone();
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, url.authority());
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let handshake = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake
        .await
        .map_err(|error| Failed::Head(describe(&error, ends)))?;
    let work = async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| Failed::Head(describe(&error, ends)))?;
        reading.store(true, Ordering::Relaxed);
        let mut response = Response {
            status: answer.status(),
            location: location(answer.status(), answer.headers()),
            body: Vec::new(),
        };
        let mut body = answer.into_body();
        while response.location.is_none() && response.body.len() < LONGEST_BODY {
            let Some(frame) = body.frame().await else {
                break;
            };
            let frame = frame.map_err(|error| Failed::Body(describe(&error, ends)))?;
            if let Some(data) = frame.data_ref() {
                keep(&mut response.body, data);
            }
        }
        Ok(response)
    };
    beside(connection, work).await
}

async fn over_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    url: &Url,
    headers: &HeaderMap,
    reading: &AtomicBool,
) -> Result<Response, Failed> {
    let head = |error: h2::Error| Failed::Head(format!("http2: {error}"));
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    let host = request.headers_mut().remove(header::HOST);
    *request.uri_mut() = url.absolute(host.as_ref());
    let (sender, connection) = h2::client::handshake(stream).await.map_err(head)?;
    let work = async {
        let mut sender = sender.ready().await.map_err(head)?;
        let (answer, _) = sender.send_request(request, true).map_err(head)?;
        let answer = answer.await.map_err(head)?;
        reading.store(true, Ordering::Relaxed);
        let mut response = Response {
            status: answer.status(),
            location: location(answer.status(), answer.headers()),
            body: Vec::new(),
        };
        let mut body = answer.into_body();
        while response.location.is_none() && response.body.len() < LONGEST_BODY {
            let Some(data) = body.data().await else { break };
            let data = data.map_err(|error| Failed::Body(format!("http2: {error}")))?;
            let _ = body.flow_control().release_capacity(data.len());
            keep(&mut response.body, &data);
        }
        Ok(response)
    };
    beside(connection, work).await
}

/// Where an answer sends its reader.
fn location(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = headers.get(header::LOCATION).filter(|_| redirects)?;
    Some(location.to_str().ok()?.to_owned())
}

fn keep(body: &mut Vec<u8>, data: &[u8]) {
    let room = LONGEST_BODY.saturating_sub(body.len());
    body.extend_from_slice(&data[..data.len().min(room)]);
}

/// An error of the connection between `ends`, in Go's words where they are known.
fn describe(error: &hyper::Error, ends: &str) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return format!(
            "net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}"
        );
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return match inner.kind() {
                io::ErrorKind::BrokenPipe => {
                    format!("write tcp {ends}: write: {}", dial::text(inner))
                }
                io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
                _ => format!("read tcp {ends}: read: {}", dial::text(inner)),
            };
        }
        cause = inner.source();
    }
    error.to_string()
}
