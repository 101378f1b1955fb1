//! How answers are written, whatever they are about: formats, compression, methods, bounds, metrics.

use std::{io::Read, time::Duration};

use api::{Limits, auth::User};
use flate2::read::GzDecoder;
use http::Request;
use http_body_util::BodyExt;

use crate::harness::{Cluster, MAPS, PODS, config, config_map, pod, read};

const YAML: [(&str, &str); 1] = [("accept", "application/yaml")];

#[tokio::test]
async fn objects_lists_and_failures_are_written_in_yaml_for_those_who_ask() {
    let cluster = Cluster::start().await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("a", "yes"))
        .await;
    let one = cluster.send_with(&format!("GET {MAPS}/a"), "", &YAML).await;
    assert_eq!(one.headers["content-type"], "application/yaml");
    assert!(one.text.contains("kind: ConfigMap\n"), "{}", one.text);
    assert!(one.text.contains("v: \"yes\"\n"), "{}", one.text);
    let list = cluster.send_with(&format!("GET {MAPS}"), "", &YAML).await;
    assert!(list.text.contains("kind: ConfigMapList\n"), "{}", list.text);
    let gone = cluster.send_with(&format!("GET {MAPS}/b"), "", &YAML).await;
    assert_eq!(
        (gone.code.as_u16(), &gone.headers["content-type"]),
        (404, &"application/yaml".parse().expect("a value"))
    );
    assert!(gone.text.contains("reason: NotFound\n"), "{}", gone.text);
    let groups = cluster.send_with("GET /apis", "", &YAML).await;
    assert!(
        groups.text.contains("kind: APIGroupList\n"),
        "{}",
        groups.text
    );
    let watch = cluster
        .send_with(&format!("GET {MAPS}?watch=1"), "", &YAML)
        .await;
    assert_eq!(watch.code, 406);
}

#[tokio::test]
async fn answers_are_indented_for_people() {
    let cluster = Cluster::start().await;
    let line = format!("GET {MAPS}?pretty=true");
    let text = cluster.send(&line, "").await.text;
    assert!(text.starts_with("{\n  \""), "{text}");
    let curl = [("user-agent", "curl/8.1")];
    let text = cluster
        .send_with("GET /api/v1/nodes/x", "", &curl)
        .await
        .text;
    assert!(text.starts_with("{\n  \""), "{text}");
    assert!(
        !cluster
            .send(&format!("GET {MAPS}"), "")
            .await
            .text
            .contains('\n')
    );
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_take_it() {
    let cluster = Cluster::start().await;
    let takes = [("accept-encoding", "gzip")];
    for name in ["a", "b"] {
        let body = config_map(name, "v").replace(
            r#""data":{"#,
            &format!(r#""data":{{"long":"{}","#, "x".repeat(100_000)),
        );
        cluster.ok(&format!("POST {MAPS}"), &body).await;
    }
    let short = cluster
        .send_with(&format!("GET {MAPS}/a"), "", &takes)
        .await;
    assert!(!short.headers.contains_key("content-encoding"));
    let line = format!("GET {MAPS}");
    let plain = cluster.send(&line, "").await;
    assert_eq!(
        plain.headers["content-length"],
        plain.text.len().to_string()
    );
    let response = cluster.open(&line, "", &takes).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.headers()["vary"], "Accept-Encoding");
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let mut text = String::new();
    GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .expect("gzip");
    assert!(bytes.len() < text.len() && text == plain.text);
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let cluster = Cluster::start().await;
    let get = cluster.send("GET /api/v1/namespaces/default", "").await;
    let head = cluster.send("HEAD /api/v1/namespaces/default", "").await;
    assert_eq!((head.code.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(head.headers["content-length"], get.text.len().to_string());
    assert_eq!(
        cluster.send("HEAD /api/v1/namespaces/x", "").await.code,
        404
    );
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_a_status() {
    let cluster = Cluster::start().await;
    for line in [
        "POST /api",
        "DELETE /apis/apps/v1",
        "PUT /openapi/v3",
        "POST /healthz",
        "PATCH /version",
        "POST /metrics",
        "OPTIONS /api/v1/pods",
        "PUT /api/v1/pods",
        "POST /api/v1/watch/pods",
    ] {
        assert_eq!(
            cluster.failure(line, "{}").await,
            "405 MethodNotAllowed: the server does not allow this method on the requested resource",
            "{line}"
        );
    }
    assert_eq!(
        cluster.failure("GET /apis/none/v1/things", "").await,
        "404 NotFound: the server could not find the requested resource"
    );
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused() {
    let cluster = Cluster::start().await;
    let reply = cluster
        .send_with(
            &format!("POST {MAPS}"),
            "{}",
            &[("content-encoding", "gzip")],
        )
        .await;
    assert_eq!(
        reply.failure(),
        "415 UnsupportedMediaType: the body of the request is encoded (gzip): send it as it is"
    );
}

#[tokio::test]
async fn the_clients_timeout_is_heeded() {
    let cluster = Cluster::start().await;
    let late = cluster
        .failure(
            &format!("GET {MAPS}?resourceVersion=99999&timeout=20ms"),
            "",
        )
        .await;
    assert_eq!(
        late,
        "504 Timeout: Timeout: request did not complete within the allotted timeout"
    );
    let wrong = cluster
        .failure(&format!("GET {MAPS}?timeout=soon"), "")
        .await;
    assert!(
        wrong.starts_with("400 BadRequest: invalid timeout"),
        "{wrong}"
    );
}

#[tokio::test]
async fn requests_that_write_and_requests_that_read_have_bounds_of_their_own() {
    let mut config = config();
    config.limits = Limits {
        reading: 1,
        request: Duration::from_secs(3),
        ..Limits::default()
    };
    let cluster = Cluster::start_with(config).await;
    // It waits for a revision that does not come.
    let line = format!("GET {MAPS}?resourceVersion=99999");
    let waiting = cluster.send(&line, "");
    let others = async {
        loop {
            let read = cluster.send(&format!("GET {MAPS}"), "").await;
            if read.code == 429 {
                assert_eq!(read.headers["retry-after"], "1");
                break;
            }
            tokio::task::yield_now().await;
        }
        cluster
            .ok(&format!("POST {MAPS}"), &config_map("a", "1"))
            .await;
    };
    let (waited, ()) = tokio::join!(waiting, others);
    assert_eq!(waited.code, 504);
    assert_eq!(cluster.send(&format!("GET {MAPS}"), "").await.code, 200);
}

#[tokio::test]
async fn metrics_have_kubernetes_names() {
    let cluster = Cluster::start().await;
    cluster.ok(&format!("POST {PODS}"), &pod("a")).await;
    cluster.send(&format!("GET {PODS}/none"), "").await;
    let watch = cluster.open(&format!("GET {PODS}?watch=1"), "", &[]).await;
    let mut body = watch.into_body();
    body.frame()
        .await
        .expect("a frame")
        .expect("the first event");
    let reply = cluster.send("GET /metrics", "").await;
    assert_eq!(
        reply.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        r#"apiserver_request_total{verb="POST",dry_run="",group="",version="v1",resource="pods",subresource="",scope="namespace",component="apiserver",code="201"} 1"#,
        r#"apiserver_request_total{verb="GET",dry_run="",group="",version="v1",resource="pods",subresource="",scope="resource",component="apiserver",code="404"} 1"#,
        r#"apiserver_longrunning_requests{verb="WATCH",dry_run="",group="",version="v1",resource="pods",subresource="",scope="namespace",component="apiserver"} 1"#,
        r#"apiserver_watch_events_total{group="",version="v1",resource="pods"} 1"#,
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#,
        r#"apiserver_storage_objects{resource="pods"} 1"#,
    ] {
        assert!(
            reply.text.contains(line),
            "{line} is not in\n{}",
            reply.text
        );
    }
    for name in [
        "# TYPE apiserver_request_duration_seconds histogram",
        "# TYPE apiserver_response_sizes histogram",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
    ] {
        assert!(
            reply.text.contains(name),
            "{name} is not in\n{}",
            reply.text
        );
    }
    let request = Request::builder()
        .uri("/metrics")
        .extension(User::scheduler());
    let request = request.body(axum::body::Body::empty()).expect("a request");
    assert_eq!(read(cluster.pass(request).await).await.code, 403);
}
