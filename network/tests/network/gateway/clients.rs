//! Clients: whole requests by hyper, and bytes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::SOON;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }
}

pub(crate) fn request(host: &str, method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", host)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap()
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Seen {
    exchange(address, request(host, method, path, body)).await
}

pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> Seen {
    send(address, host, "GET", path, "").await
}

pub(crate) async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Seen {
    let work = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        whole(sender.send_request(request).await.unwrap()).await
    };
    timeout(SOON, work).await.unwrap()
}

/// The same over HTTP/2, on a stream that may be TLS.
pub(crate) async fn exchange_http2<S>(stream: S, request: Request<Full<Bytes>>) -> Seen
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let work = async {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        whole(sender.send_request(request).await.unwrap()).await
    };
    timeout(SOON, work).await.unwrap()
}

pub(crate) async fn whole(response: Response<Incoming>) -> Seen {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    Seen {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&collected.to_bytes()).into_owned(),
    }
}

/// Sends bytes, and reads until the gateway closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let work = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A gateway that has heard enough may have closed already.
        let _ = stream.write_all(bytes).await;
        let mut seen = Vec::new();
        let _ = stream.read_to_end(&mut seen).await;
        String::from_utf8_lossy(&seen).into_owned()
    };
    timeout(SOON, work).await.unwrap()
}
