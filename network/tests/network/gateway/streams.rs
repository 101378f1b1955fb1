//! What lasts longer than a request and an answer: HTTP/2 to endpoints, WebSockets over it, events, and connections that
//! are kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, channel::mpsc};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{body::Incoming, client::conn::http2, ext::Protocol, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{Running, SOON, clients::*, containers::ip, ok, start, start_with};
use crate::sockets::eventually;

type Never = std::convert::Infallible;

/// Has the host `web.example` lead to a port of this test's address, by a Service whose port speaks so.
async fn lead_to(running: &Running, port: u16, app_protocol: Option<&str>) {
    let cluster = &running.node.cluster;
    let address = running.node.service();
    let ports = json!([{"port": 80, "protocol": "TCP", "appProtocol": app_protocol}]);
    let spec = json!({"clusterIP": address, "ports": ports});
    cluster.put("services", "default", "web", json!({"spec": spec}));
    cluster.put_endpoints("web", &[&ip(running, 201).to_string()], port, "TCP");
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    let rules = json!([{"host": "web.example", "http": {"paths": [path]}}]);
    let spec = json!({"ingressClassName": "wk", "rules": rules});
    cluster.put("ingresses", "default", "web", json!({"spec": spec}));
    running.known("web.example").await;
    let ready = || async { get(running.plain, "web.example", "/ready").await };
    eventually(ready, |seen| seen.status == StatusCode::OK).await;
}

/// An HTTP/2 client of the gateway that does not begin with HTTP/1.1.
async fn client<B>(running: &Running, tasks: &mut JoinSet<()>) -> http2::SendRequest<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(running.plain).await.unwrap();
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// A server of nothing but HTTP/2: it sends every frame back as it comes, and then says what it was asked in trailers.
async fn echo_http2(running: &Running, tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind((ip(running, 201), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let te = parts.headers.get("te").cloned();
        let target = parts.uri.to_string();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("x-te", te.unwrap_or(HeaderValue::from_static("none")));
        trailers.insert("x-target", HeaderValue::from_str(&target).unwrap());
        let frames = body.into_data_stream();
        let frames = frames.map(|data| data.map(Frame::data));
        let last = futures::stream::once(async move { Ok(Frame::trailers(trailers)) });
        let body = StreamBody::new(frames.chain(last));
        let grpc = ("content-type", "application/grpc");
        Ok::<_, Never>(
            Response::builder()
                .header(grpc.0, grpc.1)
                .body(body)
                .unwrap(),
        )
    };
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let served = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = served.await;
            });
        }
    });
    port
}

#[tokio::test]
async fn an_endpoint_of_http2_is_streamed_to_and_from_and_its_trailers_pass() {
    let running = start(|_, _| async { ok("") }).await;
    let mut tasks = JoinSet::new();
    let port = echo_http2(&running, &mut tasks).await;
    lead_to(&running, port, Some("kubernetes.io/h2c")).await;
    let (mut words, body) = mpsc::channel::<Result<Frame<Bytes>, Never>>(1);
    let mut sender = client(&running, &mut tasks).await;
    let request = Request::post("http://web.example/pkg.Echo/Say?x=1")
        .version(Version::HTTP_2)
        .header("te", "trailers")
        .body(StreamBody::new(body))
        .unwrap();
    let talk = async {
        let asked = sender.send_request(request);
        let said = words.send(Ok(Frame::data(Bytes::from_static(b"one"))));
        let (response, said) = tokio::join!(asked, said);
        said.unwrap();
        let response = response.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut answer = response.into_body();
        // What was said comes back before more is said.
        for word in ["one", "two", "three"] {
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
            let next = match word {
                "one" => "two",
                "two" => "three",
                _ => break,
            };
            words.send(Ok(Frame::data(next.into()))).await.unwrap();
        }
        words.close_channel();
        let trailers = answer.frame().await.unwrap().unwrap();
        trailers.into_trailers().unwrap()
    };
    let trailers = timeout(SOON, talk).await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-te"], "trailers");
    assert_eq!(trailers["x-target"], "http://web.example/pkg.Echo/Say?x=1");
    // One that speaks HTTP/1.1 is served too, without the trailers.
    let seen = send(running.plain, "web.example", "POST", "/", "words").await;
    assert_eq!(seen.body, "words");
}

#[tokio::test]
async fn a_websocket_over_http2_is_tunnelled_beside_other_requests() {
    let running = start_with(
        |config| config.idle = Duration::from_secs(2),
        |_, _| async { ok("component") },
    )
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let listener = TcpListener::bind((ip(&running, 201), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut begin = [0; 16];
                let length = stream.peek(&mut begin).await.unwrap();
                if begin[..length].starts_with(b"GET /ready") {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.writable().await.unwrap();
                    stream.try_write(answer).unwrap();
                    return;
                }
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    lead_to(&running, port, None).await;
    let mut sender = client::<Empty<Bytes>>(&running, &mut tasks).await;
    let plain = || {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = "http://hello.default.localhost/".parse().unwrap();
        request
    };
    // With its answer the gateway's settings are known: that it has extended CONNECT.
    let first = whole(sender.send_request(plain()).await.unwrap()).await;
    assert_eq!(first.body, "component");
    let connect = |host: &str, protocol: Option<&'static str>| {
        let mut request = Request::connect(format!("http://{host}/socket"))
            .version(Version::HTTP_2)
            .header("sec-websocket-version", "13")
            .body(Empty::new())
            .unwrap();
        if let Some(protocol) = protocol {
            let protocol = Protocol::from_static(protocol);
            request.extensions_mut().insert(protocol);
        }
        request
    };
    let refused = [
        ("web.example", Some("connect-udp")),
        ("hello.default.localhost", Some("websocket")),
    ];
    for (host, protocol) in refused {
        let response = sender.send_request(connect(host, protocol)).await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED, "{host}");
    }
    let work = async {
        let opened = sender.send_request(connect("web.example", Some("websocket")));
        let response = opened.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        for word in ["one", "two", "three"] {
            if word == "two" {
                // Longer than a connection without requests lasts.
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            socket.send(Message::text(word)).await.unwrap();
            let back = socket.next().await.unwrap().unwrap();
            assert_eq!(back.into_text().unwrap(), word);
            let other = whole(sender.send_request(plain()).await.unwrap()).await;
            assert_eq!(other.body, "component");
        }
        socket.close(None).await.unwrap();
    };
    timeout(SOON, work).await.unwrap();
}

#[tokio::test]
async fn an_event_is_sent_when_it_happens_and_a_quiet_answer_is_not_an_idle_connection() {
    let (events, receiver) = mpsc::channel::<Result<Frame<Bytes>, Never>>(1);
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let running = start_with(
        |config| config.idle = Duration::from_millis(200),
        move |_, request| {
            let receiver = receiver.clone();
            async move {
                if request.uri().path() != "/events" {
                    return ok("");
                }
                let receiver = receiver.lock().unwrap().take().unwrap();
                let body = StreamBody::new(receiver).map_err(|never| match never {});
                let mut response = Response::new(body.boxed_unsync());
                let kind = HeaderValue::from_static("text/event-stream");
                response.headers_mut().insert("content-type", kind);
                Ok(response)
            }
        },
    )
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let mut events = events;
    let work = async {
        let stream = TcpStream::connect(running.plain).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let asked = request("hello.default.localhost", "GET", "/events", "");
        let mut answer = sender.send_request(asked).await.unwrap().into_body();
        for word in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            // Quiet for longer than a connection without requests lasts.
            tokio::time::sleep(Duration::from_millis(500)).await;
            events.send(Ok(Frame::data(word.into()))).await.unwrap();
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        events.close_channel();
        assert!(answer.frame().await.is_none());
    };
    timeout(SOON, work).await.unwrap();
}

#[tokio::test]
async fn an_endpoints_connection_is_kept_for_the_next_request() {
    let running = start(|_, _| async { ok("") }).await;
    let listener = TcpListener::bind((ip(&running, 201), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicU32::new(0));
    let counter = accepted.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            connections.spawn(async move {
                let answer = |request: Request<Incoming>| async move {
                    let length = request.into_body().collect().await.unwrap();
                    let length = length.to_bytes().len().to_string();
                    Ok::<_, Never>(Response::new(http_body_util::Full::new(Bytes::from(
                        length,
                    ))))
                };
                let builder = hyper::server::conn::http1::Builder::new();
                let served = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = served.await;
            });
        }
    });
    lead_to(&running, port, None).await;
    let before = accepted.load(Ordering::SeqCst);
    let large = "x".repeat(3 * 1024 * 1024);
    for body in ["", "a", &large, ""] {
        let seen = send(running.plain, "web.example", "POST", "/", body).await;
        assert_eq!(seen.body, body.len().to_string());
    }
    assert_eq!(accepted.load(Ordering::SeqCst), before, "none was opened");
}

#[tokio::test]
async fn a_policy_keeps_the_gateway_from_pods_unless_it_names_its_namespace() {
    let running = start(|_, _| async { ok("") }).await;
    let mut tasks = JoinSet::new();
    let server = super::containers::server(&mut tasks, ip(&running, 201), 0).await;
    lead_to(&running, server.port(), None).await;
    let cluster = &running.node.cluster;
    cluster.put("namespaces", "", "default", json!({}));
    let labels = json!({"labels": {"kubernetes.io/metadata.name": "kube-system"}});
    cluster.put("namespaces", "", "kube-system", json!({"metadata": labels}));
    let pod = json!({
        "metadata": {"uid": "uid-web", "labels": {"app": "web"}},
        "status": {"podIP": ip(&running, 201).to_string()},
    });
    cluster.put("pods", "default", "web", pod);
    let policy = |ingress: Value| {
        let select = json!({"matchLabels": {"app": "web"}});
        let spec = json!({"podSelector": select, "policyTypes": ["Ingress"], "ingress": ingress});
        cluster.put("networkpolicies", "default", "only", json!({"spec": spec}));
    };
    let ask = || async { get(running.plain, "web.example", "/").await };
    let system = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
    let gateways = json!({"matchLabels": {"app.kubernetes.io/name": "wk-gateway"}});
    let others = json!({"matchLabels": {"app.kubernetes.io/name": "other"}});
    let kept_out = |seen: &Seen| seen.status == StatusCode::FORBIDDEN;
    let served = |seen: &Seen| seen.status == StatusCode::OK;
    policy(json!([]));
    let seen = eventually(ask, kept_out).await;
    assert!(
        seen.body.contains("app.kubernetes.io/name=wk-gateway"),
        "{seen:?}"
    );
    policy(json!([{"from": [{"namespaceSelector": system}]}]));
    eventually(ask, served).await;
    policy(json!([{"from": [{"namespaceSelector": system, "podSelector": others}]}]));
    eventually(ask, kept_out).await;
    let port = json!([{"port": server.port()}]);
    let from = json!([{"namespaceSelector": system, "podSelector": gateways}]);
    policy(json!([{"from": from, "ports": port}]));
    eventually(ask, served).await;
    policy(json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]));
    eventually(ask, kept_out).await;
    policy(json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]));
    eventually(ask, served).await;
}
