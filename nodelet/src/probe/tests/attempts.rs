use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{
    super::attempt::{Outcome, attempt},
    servers, *,
};

/// What comes of a probe of a container at `port`, which is shown as PORT.
async fn check_port(port: u16, action: Value, want: Expect) {
    let text = match attempt(&target(port).await, &probe(action)).await {
        Outcome::Success(text) => format!("success: {text}"),
        Outcome::Warning(text) => format!("warning: {text}"),
        Outcome::Failure(text) => format!("failure: {text}"),
        Outcome::Error { state, message } => format!("error ({state}): {message}"),
    };
    want.assert_eq(&text.replace(&port.to_string(), "PORT"));
}

async fn check(server: &servers::Server, action: Value, want: Expect) {
    check_port(server.port, action, want).await;
}

fn get(path: &str) -> Value {
    json!({"httpGet": {"port": "http", "path": path}})
}

#[tokio::test]
async fn an_answer_below_400_passes() {
    let server = servers::http().await;
    check(&server, get("/ok"), expect!["success: fine"]).await;
    check(
        &server,
        get("/fail"),
        expect!["failure: HTTP probe failed with statuscode: 500"],
    )
    .await;
    check(
        &server,
        get("/none"),
        expect!["failure: HTTP probe failed with statuscode: 404"],
    )
    .await;
    check(
        &server,
        get("/unchanged"),
        expect!["warning: Probe terminated redirects, Response body: "],
    )
    .await;
}

#[tokio::test]
async fn a_request_says_who_asks() {
    let server = servers::http().await;
    check(
        &server,
        get("/headers"),
        expect![[r#"
            success: accept: */*
            connection: close
            host: 127.0.0.1:PORT
            user-agent: kube-probe/1.36"#]],
    )
    .await;
    let headers = json!([
        {"name": "Host", "value": "example.org"},
        {"name": "accept", "value": ""},
        {"name": "X-A", "value": "1"},
        {"name": "X-A", "value": "2"},
        {"name": "User-Agent", "value": "me"},
    ]);
    check(
        &server,
        json!({"httpGet": {"port": server.port, "path": "/headers", "httpHeaders": headers}}),
        expect![[r#"
            success: connection: close
            host: example.org
            user-agent: me
            x-a: 1
            x-a: 2"#]],
    )
    .await;
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host() {
    let server = servers::http().await;
    check(&server, get("/near"), expect!["success: fine"]).await;
    check(
        &server,
        get("/far"),
        expect!["warning: Probe terminated redirects, Response body: "],
    )
    .await;
    check(
        &server,
        get("/round"),
        expect![[r#"failure: Get "http://127.0.0.1:PORT/round": stopped after 10 redirects"#]],
    )
    .await;
}

#[tokio::test]
async fn no_more_of_a_body_is_read_than_is_shown() {
    let server = servers::http().await;
    let target = target(server.port).await;
    let Outcome::Success(body) = attempt(&target, &probe(get("/huge"))).await else {
        panic!("the probe fails");
    };
    assert_eq!(body.len(), 10 << 10);
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_in_the_kubelets_words() {
    let server = servers::http().await;
    check(
        &server,
        get("/slow"),
        expect![[r#"failure: Get "http://127.0.0.1:PORT/slow": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"#]],
    )
    .await;
    check(
        &server,
        get("/slow-body"),
        expect!["error (failure): context deadline exceeded (Client.Timeout or context cancellation while reading body)"],
    )
    .await;
    let mute = servers::serve(|stream| async move { drop(stream) }).await;
    let target = target(mute.port).await;
    let Outcome::Failure(message) = attempt(&target, &probe(get("/"))).await else {
        panic!("the probe passes");
    };
    // Whether the request was written before the end was seen is up to the kernel.
    assert!(
        message.ends_with("EOF")
            || message.contains("connection reset by peer")
            || message.contains("broken pipe"),
        "{message}"
    );
    let other = servers::serve(|mut stream| async move {
        servers::answer(&mut stream, "SSH-2.0-x\r\n\r\n").await;
    })
    .await;
    check(
        &other,
        get("/"),
        expect![[r#"failure: Get "http://127.0.0.1:PORT/": net/http: HTTP/1.x transport connection broken: malformed HTTP response: invalid HTTP version parsed"#]],
    )
    .await;
    check_port(
        servers::closed_port().await,
        get("/"),
        expect![[r#"failure: Get "http://127.0.0.1:PORT/": dial tcp 127.0.0.1:PORT: connect: connection refused"#]],
    )
    .await;
}

#[tokio::test]
async fn tls_is_spoken_with_whomever_it_is() {
    let action = json!({"httpGet": {"port": "http", "path": "/", "scheme": "HTTPS"}});
    let server = servers::https("http/1.1").await;
    check(&server, action.clone(), expect!["success: over tls"]).await;
    let server = servers::https("h2").await;
    check(&server, action.clone(), expect!["success: over h2"]).await;
    let plain = servers::http().await;
    check(
        &plain,
        action,
        expect![[r#"failure: Get "https://127.0.0.1:PORT/": http: server gave HTTP response to HTTPS client"#]],
    )
    .await;
}

#[tokio::test]
async fn a_port_without_a_number_is_no_verdict_on_the_container() {
    let action = json!({"httpGet": {"port": "admin", "path": "/"}});
    check_port(
        65_535,
        action,
        expect![[r#"error (unknown): strconv.Atoi: parsing "admin": invalid syntax"#]],
    )
    .await;
    let action = json!({"tcpSocket": {"port": 70_000}});
    check_port(
        65_535,
        action,
        expect!["error (unknown): invalid port number: 70000"],
    )
    .await;
}

#[tokio::test]
async fn a_port_that_takes_connections_passes() {
    let server = servers::serve(|stream| async move { drop(stream) }).await;
    let action = json!({"tcpSocket": {"port": server.port.to_string()}});
    check(&server, action.clone(), expect!["success: "]).await;
    check_port(
        servers::closed_port().await,
        json!({"tcpSocket": {"port": "http"}}),
        expect!["failure: dial tcp 127.0.0.1:PORT: connect: connection refused"],
    )
    .await;
}

#[tokio::test]
async fn a_health_service_says_how_it_is() {
    let server = servers::health().await;
    let grpc = |service: &str| json!({"grpc": {"port": server.port, "service": service}});
    check(&server, grpc("well"), expect!["success: service healthy"]).await;
    check(&server, grpc(""), expect!["success: service healthy"]).await;
    check(
        &server,
        grpc("ill"),
        expect![[r#"failure: service unhealthy (responded with "NOT_SERVING")"#]],
    )
    .await;
    check(
        &server,
        grpc("none"),
        expect!["failure: error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"],
    )
    .await;
    check(
        &server,
        grpc("slow"),
        expect!["failure: timeout: health rpc did not complete within 1s"],
    )
    .await;
    let closed = servers::closed_port().await;
    check_port(
        closed,
        json!({"grpc": {"port": closed}}),
        expect![[r#"failure: timeout: failed to connect service "127.0.0.1:PORT" within 1s: context deadline exceeded"#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_command_passes_if_it_ends_with_0() {
    let exec = |words: &[&str]| json!({"exec": {"command": words}, "timeoutSeconds": 90});
    check_port(65_535, exec(&["echo", "up"]), expect!["success: up\n"]).await;
    check_port(
        65_535,
        exec(&["fail", "not", "yet"]),
        expect!["failure: not yet\n"],
    )
    .await;
    check_port(
        65_535,
        exec(&["sleep"]),
        expect![[r#"failure: command timed out: "sleep" timed out after 1m30s"#]],
    )
    .await;
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_no_verdict_on_the_container() {
    let target = target(1).await;
    let stop = target.runtime.stop(&target.id, Duration::ZERO);
    stop.await.expect("stop");
    let command = json!({"exec": {"command": ["echo"]}});
    let outcome = attempt(&target, &probe(command)).await;
    assert_eq!(outcome, Outcome::unknown("container u/c/0 is not running"));
}
