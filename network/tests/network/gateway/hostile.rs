//! Clients that send too much, too little, too slowly, or half.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{SOON, clients::*, ok, start, start_with};

#[tokio::test]
async fn a_client_that_does_not_end_its_headers_is_cut_off() {
    let running = start_with(
        |config| config.headers_within = Duration::from_millis(300),
        |_, _| async { ok("") },
    )
    .await;
    for begun in [
        "",
        "P",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut stream = TcpStream::connect(running.plain).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut seen)).await;
        assert!(closed.is_ok(), "{begun:?} was not cut off");
    }
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let running = start(|_, _| async { ok("") }).await;
    let long = "x".repeat(200 * 1024);
    let seen = raw(
        running.plain,
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(seen.starts_with("HTTP/1.1 431 "), "{seen}");
    let many: String = (0..200)
        .map(|number| format!("X-{number}: 1\r\n"))
        .collect();
    let seen = raw(
        running.plain,
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(seen.starts_with("HTTP/1.1 431 "), "{seen}");
}

#[tokio::test]
async fn a_request_names_one_host() {
    let running = start(|_, _| async { ok("") }).await;
    for headers in ["", "Host: a\r\nHost: b\r\n"] {
        let request = format!("GET / HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        let seen = raw(running.plain, request.as_bytes()).await;
        assert!(seen.starts_with("HTTP/1.1 400 "), "{seen}");
    }
    let seen = raw(running.plain, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await;
    assert!(
        seen.is_empty() || seen.starts_with("HTTP/1.1 400 "),
        "{seen}"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let running = start_with(
        |config| config.max_body = 10,
        |_, request| async move {
            match request.into_body().collect().await {
                Ok(body) => ok(format!("{} bytes", body.to_bytes().len())),
                Err(error) => Err(runtimes::ServeError::Failed(error.to_string())),
            }
        },
    )
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let host = "hello.default.localhost";
    let seen = send(running.plain, host, "POST", "/", "0123456789").await;
    assert_eq!(seen.body, "10 bytes");
    let seen = send(running.plain, host, "POST", "/", "0123456789a").await;
    assert_eq!(seen.status, StatusCode::PAYLOAD_TOO_LARGE);
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n"
    );
    let seen = raw(running.plain, chunked.as_bytes()).await;
    assert!(seen.starts_with("HTTP/1.1 502 "), "{seen}");
}

#[tokio::test]
async fn a_function_learns_that_its_client_went_away() {
    let (sender, mut broken) = mpsc::channel(1);
    let running = start(move |_, request| {
        let sender = sender.clone();
        async move {
            if request.method() == "OPTIONS" {
                return ok("");
            }
            let failed = request.into_body().collect().await.is_err();
            sender.send(failed).await.unwrap();
            ok("")
        }
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let mut stream = TcpStream::connect(running.plain).await.unwrap();
    let begun =
        "POST / HTTP/1.1\r\nHost: hello.default.localhost\r\nContent-Length: 100\r\n\r\nhalf";
    stream.write_all(begun.as_bytes()).await.unwrap();
    drop(stream);
    // It sees the body break off, or it is dropped before it does.
    let seen = timeout(SOON, broken.recv()).await;
    assert_eq!(seen.ok().flatten(), Some(true));
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let running = start(|_, _| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ok("answer")
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let mut stream = TcpStream::connect(running.plain).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: hello.default.localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = String::new();
    timeout(SOON, stream.read_to_string(&mut seen))
        .await
        .unwrap()
        .unwrap();
    assert!(seen.ends_with("answer"), "{seen}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let running = start(|_, request| async move {
        assert!(!request.headers().contains_key("expect"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        ok(String::from_utf8_lossy(&body))
    })
    .await;
    running
        .function("hello", json!({}), &[("hello-00001", 100)])
        .await;
    let mut stream = TcpStream::connect(running.plain).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: hello.default.localhost\r\nConnection: close\r\n\
                Expect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 25];
    timeout(SOON, stream.read_exact(&mut told))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut seen = String::new();
    timeout(SOON, stream.read_to_string(&mut seen))
        .await
        .unwrap()
        .unwrap();
    assert!(seen.ends_with("body"), "{seen}");
}

#[tokio::test]
async fn a_body_that_breaks_off_while_it_is_kept_is_never_an_empty_one() {
    let running = start(|_, request| async move {
        match request.into_body().collect().await {
            Ok(body) => ok(format!("ran with {} bytes", body.to_bytes().len())),
            Err(error) => Err(runtimes::ServeError::Failed(error.to_string())),
        }
    })
    .await;
    let retries = json!({"retries": {"attempts": 2}, "timeoutSeconds": 1});
    running
        .function("kept", retries, &[("kept-00001", 100)])
        .await;
    let head = "PUT / HTTP/1.1\r\nHost: kept.default.localhost\r\nContent-Length: 10\r\n\r\nhalf";
    let mut stream = TcpStream::connect(running.plain).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut seen = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut seen)).await;
    read.unwrap().unwrap();
    assert!(!seen.contains("ran"), "{seen}");
    let seen = raw(running.plain, head.as_bytes()).await;
    assert!(seen.starts_with("HTTP/1.1 408 "), "{seen}");
}
