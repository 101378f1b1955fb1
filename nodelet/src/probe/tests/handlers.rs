use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::LifecycleHandler;
use serde_json::{Value, json};

use super::{servers, *};
use crate::handler::run;

/// How a handler ends; ports are shown as PORT.
async fn check(port: u16, handler: Value, want: Expect) {
    let handler: LifecycleHandler = serde_json::from_value(handler).expect("a handler");
    let text = match run(&target(port).await, &handler).await {
        Ok(()) => "done".to_owned(),
        Err(message) => message
            .replace(&port.to_string(), "PORT")
            .replace('\n', "⏎"),
    };
    want.assert_eq(&text);
}

#[tokio::test(start_paused = true)]
async fn a_handler_runs_once_and_says_what_went_wrong() {
    check(
        65_535,
        json!({"exec": {"command": ["exit", "0"]}}),
        expect!["done"],
    )
    .await;
    check(65_535, json!({"sleep": {"seconds": 60}}), expect!["done"]).await;
    check(
        65_535,
        json!({"exec": {"command": ["fail", "no", "disk"]}}),
        expect![[r#"Exec lifecycle hook ([fail no disk]) for Container "c" in Pod "p_ns(u)" failed - error: command 'fail no disk' exited with 1: no disk⏎, message: "no disk\n""#]],
    )
    .await;
    check(
        65_535,
        json!({"tcpSocket": {"port": 1}}),
        expect!["Cannot run handler: invalid handler: tcpSocket is not supported"],
    )
    .await;
}

#[tokio::test]
async fn any_http_answer_will_do() {
    let server = servers::http().await;
    for path in ["/ok", "/fail", "/none"] {
        let handler = json!({"httpGet": {"port": server.port, "path": path}});
        check(server.port, handler, expect!["done"]).await;
    }
    let closed = servers::closed_port().await;
    check(
        closed,
        json!({"httpGet": {"port": closed, "path": "/x"}}),
        expect![[r#"HTTP lifecycle hook (/x) for Container "c" in Pod "p_ns(u)" failed - error: Get "http://127.0.0.1:PORT/x": dial tcp 127.0.0.1:PORT: connect: connection refused"#]],
    )
    .await;
}

#[tokio::test]
async fn a_server_without_tls_is_asked_without() {
    let server = servers::http().await;
    let handler = json!({"httpGet": {"port": server.port, "path": "/ok", "scheme": "HTTPS"}});
    check(server.port, handler, expect!["done"]).await;
}
