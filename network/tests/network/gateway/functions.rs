//! Components: requests and answers, and what becomes of failures.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use expect_test::{Expect, expect};
use futures::channel::mpsc;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use runtimes::ServeError;
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};

use super::{SOON, clients::*, ok, start, text};

#[tokio::test]
async fn a_request_reaches_its_revision_and_the_answer_comes_back() {
    let running = start(|revision, request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        let from = parts.headers["x-forwarded-for"].to_str().unwrap();
        ok(format!(
            "{revision} {} {} {body} from {from}",
            parts.method,
            parts.uri.path()
        ))
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let seen = send(
        running.plain,
        "hello.default.localhost:80",
        "POST",
        "/x",
        "data",
    )
    .await;
    assert_eq!(seen.body, "default/hello-00001 POST /x data from 127.0.0.1");
    assert_eq!(seen.header("x-request-id").len(), 32);
    let tagged = get(running.plain, "hello-00001---hello.default.localhost", "/").await;
    assert!(
        tagged.body.starts_with("default/hello-00001 GET /"),
        "{tagged:?}"
    );
}

#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    let running = start(|_, request| async move {
        // Each part of the request's body comes back before the next is sent.
        Ok(Response::new(request.into_body()))
    })
    .await;
    running
        .function("echo", json!({}), &[("echo-00001", 100)])
        .await;
    let stream = TcpStream::connect(running.plain).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let (mut parts, body) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let request = Request::builder()
        .method("POST")
        .uri("http://echo.default.localhost/")
        .body(BodyExt::boxed_unsync(StreamBody::new(body)))
        .unwrap();
    let work = async {
        let response = sender.send_request(request).await.unwrap();
        let mut answer = response.into_body();
        for word in ["one", "two"] {
            parts.try_send(Ok(Frame::data(Bytes::from(word)))).unwrap();
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
        parts.try_send(Ok(Frame::trailers(trailers))).unwrap();
        drop(parts);
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap()["etag"], "x");
        assert!(answer.frame().await.is_none());
    };
    timeout(SOON, work).await.unwrap();
}

#[tokio::test]
async fn tls_has_a_certificate_for_each_name_that_is_served() {
    let running = start(|_, request| async move {
        ok(format!(
            "{:?} {}",
            request.version(),
            request.headers()["x-forwarded-proto"].to_str().unwrap()
        ))
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let mut roots = RootCertStore::empty();
    roots.add(running.ca.certificate.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = |name: &'static str, protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        async move {
            let stream = TcpStream::connect(running.tls).await.unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            connector.connect(name.try_into().unwrap(), stream).await
        }
    };
    let host = "hello.default.localhost";
    let stream = connect(host, b"h2").await.unwrap();
    let request = Request::builder()
        .uri(format!("https://{host}/"))
        .body(Full::default())
        .unwrap();
    let seen = exchange_http2(stream, request).await;
    assert_eq!(seen.body, "HTTP/2.0 https");
    let stream = connect(host, b"http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let seen = sender
        .send_request(self::request(host, "GET", "/", ""))
        .await
        .unwrap();
    assert_eq!(whole(seen).await.body, "HTTP/1.1 https");
    let refused = connect("nobody.default.localhost", b"h2")
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let running = start(|_, request| async move { ok(request.uri().path().to_owned()) }).await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let stream = TcpStream::connect(running.plain).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for path in ["/a", "/b", "/c"] {
        sender.ready().await.unwrap();
        let request = request("hello.default.localhost", "GET", path, "");
        assert_eq!(
            whole(sender.send_request(request).await.unwrap())
                .await
                .body,
            path
        );
    }
}

/// Status, body without the id, and Retry-After of a failure.
async fn failure(fail: fn() -> ServeError) -> String {
    let running = start(move |_, _| async move { Err(fail()) }).await;
    running
        .function("bad", json!({"timeoutSeconds": 3}), &[("bad-00001", 100)])
        .await;
    let seen = get(running.plain, "bad.default.localhost", "/").await;
    assert!(!seen.body.contains("secret"), "{}", seen.body);
    assert!(seen.body.contains(seen.header("x-request-id")));
    let words = seen
        .body
        .split(" (request")
        .next()
        .unwrap_or_default()
        .to_owned();
    format!(
        "{} {words} {}",
        seen.status.as_u16(),
        seen.header("retry-after")
    )
}

#[tokio::test]
async fn each_failure_has_its_status_and_says_nothing_of_the_inside() {
    async fn check(fail: fn() -> ServeError, expected: Expect) {
        expected.assert_eq(failure(fail).await.trim());
    }
    check(
        || ServeError::Unknown("secret".to_owned()),
        expect!["404 function default/bad is not here"],
    )
    .await;
    check(
        || ServeError::Unavailable("secret".to_owned()),
        expect!["503 function default/bad cannot serve now 1"],
    )
    .await;
    check(
        || ServeError::Busy("secret".to_owned()),
        expect!["503 function default/bad serves as many requests as it may, and as many wait 1"],
    )
    .await;
    check(
        || ServeError::Failed("secret".to_owned()),
        expect!["502 function default/bad failed"],
    )
    .await;
    check(
        || ServeError::OutOfMemory("secret".to_owned()),
        expect!["502 function default/bad needed more memory than it may have"],
    )
    .await;
    check(
        || ServeError::TimedOut("secret".to_owned()),
        expect!["504 function default/bad had no answer within 3 s"],
    )
    .await;
}

#[tokio::test]
async fn who_accepts_json_is_answered_in_json() {
    let running = start(|_, _| async { ok("") }).await;
    let mut request = request("nobody.localhost", "GET", "/", "");
    request
        .headers_mut()
        .insert("accept", HeaderValue::from_static("application/json"));
    request
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_static("mine"));
    let seen = exchange(running.plain, request).await;
    assert_eq!(seen.status, StatusCode::NOT_FOUND);
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body["requestId"], "mine");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains("\"nobody.localhost\"") && message.contains("kubectl get functions -A")
    );
}

#[tokio::test]
async fn a_request_that_is_safe_to_repeat_is_sent_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let running = start(move |_, request| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            match call % 3 {
                2 => Ok(Response::new(text(String::from_utf8_lossy(&body)))),
                _ => Err(ServeError::Failed("trap".to_owned())),
            }
        }
    })
    .await;
    let retries = json!({"retries": {"attempts": 2, "backoffMilliseconds": 1}});
    running
        .function("flaky", retries, &[("flaky-00001", 100)])
        .await;
    let host = "flaky.default.localhost";
    calls.store(0, Ordering::Relaxed);
    let seen = send(running.plain, host, "PUT", "/", "kept").await;
    assert_eq!((seen.status, seen.body.as_str()), (StatusCode::OK, "kept"));
    calls.store(0, Ordering::Relaxed);
    let seen = send(running.plain, host, "POST", "/", "once").await;
    assert_eq!(seen.status, StatusCode::BAD_GATEWAY);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    calls.store(0, Ordering::Relaxed);
    let mut request = request(host, "POST", "/", "keyed");
    request
        .headers_mut()
        .insert("idempotency-key", HeaderValue::from_static("1"));
    assert_eq!(exchange(running.plain, request).await.body, "keyed");
}

#[tokio::test]
async fn a_request_under_way_ends_before_the_gateway_does() {
    let (release, released) = tokio::sync::watch::channel(false);
    let running = start(move |_, _| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            ok("done")
        }
    })
    .await;
    let mut running = running;
    let object = json!({"status": {"traffic": [{"revision": "slow-00001", "percent": 100}]}});
    running
        .node
        .cluster
        .put("functions", "default", "slow", object);
    // Not asked by a request, which would wait.
    let stream = TcpStream::connect(running.plain).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut answer = loop {
        sender.ready().await.unwrap();
        let request = request("slow.default.localhost", "GET", "/", "");
        let mut answer = Box::pin(sender.send_request(request));
        match timeout(std::time::Duration::from_millis(200), &mut answer).await {
            Err(_) => break answer,
            Ok(early) => drop(whole(early.unwrap()).await),
        }
    };
    running.stop.cancel();
    assert!(
        timeout(std::time::Duration::from_millis(50), &mut answer)
            .await
            .is_err()
    );
    release.send(true).unwrap();
    let seen = whole(timeout(SOON, answer).await.unwrap().unwrap()).await;
    assert_eq!(seen.body, "done");
    let ended = timeout(SOON, running.tasks.join_next()).await.unwrap();
    ended.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(running.plain).await.is_err());
}

#[tokio::test]
async fn traffic_is_shared_by_percent() {
    let running = start(|revision, _| async move { ok(revision.name) }).await;
    running
        .function("split", json!({}), &[("a", 50), ("b", 50)])
        .await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(
            get(running.plain, "split.default.localhost", "/")
                .await
                .body,
        );
    }
    assert_eq!(
        get(running.plain, "b---split.default.localhost", "/")
            .await
            .body,
        "b"
    );
}
