//! Who may ask what.

use std::time::Duration;

use api::Limits;

use crate::harness::{Cluster, MAPS, PODS, config};

#[tokio::test]
async fn nobody_sees_objects_without_an_identity() {
    let cluster = Cluster::start().await;
    for authorization in ["", "Bearer wrong", "Basic YTpi", "Bearer"] {
        for path in [PODS, "/api", "/apis", "/api/v1", "/openapi/v3", "/nothing"] {
            let reply = cluster
                .send_with(
                    &format!("GET {path}"),
                    "",
                    &[("authorization", authorization)],
                )
                .await;
            assert_eq!(reply.failure(), "401 Unauthorized: Unauthorized", "{path}");
        }
    }
}

#[tokio::test]
async fn health_and_version_are_open() {
    let cluster = Cluster::start().await;
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/store",
        "/healthz/ping",
    ] {
        let reply = cluster
            .send_with(&format!("GET {path}"), "", &[("authorization", "")])
            .await;
        assert_eq!(
            (reply.code.as_u16(), reply.text.as_str()),
            (200, "ok"),
            "{path}"
        );
    }
    let verbose = cluster
        .send_with("GET /readyz?verbose", "", &[("authorization", "")])
        .await;
    assert_eq!(
        verbose.text,
        "[+]ping ok\n[+]store ok\n[+]poststarthook/bootstrap ok\nreadyz check passed\n"
    );
    assert_eq!(cluster.send("GET /readyz/nothing", "").await.code, 404);
    let version = cluster
        .send_with("GET /version", "", &[("authorization", "")])
        .await
        .json();
    assert_eq!(
        (version["major"].as_str(), version["minor"].as_str()),
        (Some("1"), Some("36"))
    );
}

#[tokio::test]
async fn a_component_may_do_only_its_own() {
    let cluster = Cluster::start().await;
    let scheduler = cluster.server.client(api::auth::User::scheduler());
    let request = http::Request::get("/api/v1/namespaces/default/secrets")
        .body(Vec::new())
        .expect("a request");
    let error = scheduler
        .request::<serde_json::Value>(request)
        .await
        .expect_err("refused");
    let kube::Error::Api(status) = error else {
        panic!("{error}");
    };
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        r#"secrets is forbidden: User "system:kube-scheduler" cannot list resource "secrets" in API group "" in the namespace "default""#
    );
}

#[tokio::test]
async fn too_many_requests_are_told_to_come_back() {
    let mut config = config();
    config.limits = Limits {
        streams: 1,
        ..Limits::default()
    };
    let cluster = Cluster::start_with(config).await;
    let line = format!("GET {MAPS}?watch=true");
    let open = cluster.open(&line, "", &[]).await;
    let refused = cluster.send(&line, "").await;
    assert_eq!(refused.code, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    drop(open);
    assert_eq!(cluster.open(&line, "", &[]).await.status(), 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let mut config = config();
    config.limits.request = Duration::from_millis(50);
    let cluster = Cluster::start_with(config).await;
    let reply = cluster
        .send(&format!("GET {MAPS}?resourceVersion=99999"), "")
        .await;
    assert_eq!(
        reply.failure(),
        "504 Timeout: Timeout: request did not complete within the allotted timeout"
    );
}
