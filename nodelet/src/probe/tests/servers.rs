//! Servers of the tests: each serves until its task is dropped.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A port of loopback and what serves it.
pub(super) struct Server {
    pub(super) port: u16,
    _tasks: JoinSet<()>,
}

/// Answers each connection with `answer`.
pub(super) async fn serve<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream));
        }
    });
    Server {
        port,
        _tasks: tasks,
    }
}

/// A port that nobody listens on.
pub(super) async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("an address").port()
}

/// A server of many paths.
pub(super) async fn http() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("an address").port();
    let headers = move |headers: HeaderMap| async move {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
            .collect();
        lines.sort();
        lines.join("\n").replace(&port.to_string(), "PORT")
    };
    let router = Router::new()
        .route("/ok", get(|| async { "fine" }))
        .route(
            "/fail",
            get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "secret") }),
        )
        .route("/headers", get(headers))
        .route("/near", get(|| async { Redirect::temporary("ok") }))
        .route("/far", get(|| async { Redirect::to("http://192.0.2.1/") }))
        .route("/round", get(|| async { Redirect::to("/round") }))
        .route("/huge", get(|| async { "x".repeat(1 << 20) }))
        .route("/unchanged", get(|| async { StatusCode::NOT_MODIFIED }))
        .route("/slow", get(std::future::pending::<()>))
        .route(
            "/slow-body",
            get(|| async {
                let body = futures::stream::pending::<std::io::Result<Bytes>>();
                Response::new(axum::body::Body::from_stream(body))
            }),
        );
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(listener, router).await.expect("serve");
    });
    Server {
        port,
        _tasks: tasks,
    }
}

/// Speaks TLS with a certificate that nobody signed; `protocol` is what it agrees on.
pub(super) async fn https(protocol: &'static str) -> Server {
    let key = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
        )
        .expect("a key");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if protocol == "h2" {
                let mut connection = h2::server::handshake(stream).await.expect("a handshake");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let answer = axum::http::Response::new(());
                    let mut body = respond.send_response(answer, false).expect("answer");
                    body.send_data(Bytes::from_static(b"over h2"), true)
                        .expect("a body");
                }
            } else {
                answer(
                    &mut stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nover tls",
                )
                .await;
            }
        }
    })
    .await
}

/// Reads a request's head and writes `text`.
pub(super) async fn answer<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S, text: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A health service: `well` is served, `ill` is not, `slow` never answers, all else is not found.
pub(super) async fn health() -> Server {
    serve(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.expect("a handshake");
        let mut kept = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()[header::TE], "trailers");
            let mut body = request.into_body();
            // The question comes with the head, or after it: its connection must be polled meanwhile.
            let data = tokio::select! {
                data = body.data() => data.expect("a question").expect("a question"),
                _ = connection.accept() => return,
            };
            let service = data.get(7..).unwrap_or_default().to_vec();
            if service == b"slow" {
                kept.push((body, respond));
                continue;
            }
            let state = match service.as_slice() {
                b"well" | b"" => 1,
                b"ill" => 2,
                _ => {
                    let answer = axum::http::Response::builder()
                        .header("grpc-status", "5")
                        .header("grpc-message", "unknown%20service")
                        .body(())
                        .expect("an answer");
                    respond.send_response(answer, true).expect("answer");
                    continue;
                }
            };
            let answer = axum::http::Response::builder()
                .header(header::CONTENT_TYPE, "application/grpc")
                .body(())
                .expect("an answer");
            let mut stream = respond.send_response(answer, false).expect("answer");
            let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, state]);
            stream.send_data(message, false).expect("a message");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", 0.into());
            stream.send_trailers(trailers).expect("trailers");
        }
    })
    .await
}
