//! Watches: every change once, in order, as the selectors see it.

use axum::body::Body;
use http::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{Cluster, DEADLINE, MAPS, config_map};

/// Reads a watch event by event.
struct Events {
    body: Body,
    pending: Vec<u8>,
}

impl Events {
    fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        Self {
            body: response.into_body(),
            pending: Vec::new(),
        }
    }

    async fn open(cluster: &Cluster, query: &str) -> Self {
        Self::of(
            cluster
                .open(&format!("GET {MAPS}?watch=true&{query}"), "", &[])
                .await,
        )
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = timeout(DEADLINE, self.body.frame())
                .await
                .expect("a frame in time")?;
            let data = frame.expect("a frame").into_data().expect("data");
            assert!(data.len() <= 64 * 1024);
            self.pending.extend_from_slice(&data);
        }
    }

    /// The next event as text: `ADDED a`.
    async fn text(&mut self) -> String {
        let Some(event) = self.next().await else {
            return "END".to_owned();
        };
        let name = event["object"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap_or_default())
    }
}

async fn put(cluster: &Cluster, name: &str, value: &str) -> Value {
    cluster
        .ok(&format!("POST {MAPS}"), &config_map(name, value))
        .await
}

async fn set(cluster: &Cluster, name: &str, value: &str) -> Value {
    let body = format!(r#"{{"metadata":{{"labels":{{"v":"{value}"}}}}}}"#);
    cluster.ok(&format!("PATCH {MAPS}/{name}"), &body).await
}

#[tokio::test]
async fn a_watch_without_a_version_starts_with_what_is_there() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    let mut events = Events::open(&cluster, "").await;
    assert_eq!(events.text().await, "ADDED a");
    set(&cluster, "a", "2").await;
    assert_eq!(events.text().await, "MODIFIED a");
    cluster.ok(&format!("DELETE {MAPS}/a"), "").await;
    let gone = events.next().await.expect("an event");
    assert_eq!(gone["type"], "DELETED");
    let version = |object: &Value| -> u64 {
        object["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version")
            .parse()
            .expect("a number")
    };
    let list = cluster.ok(&format!("GET {MAPS}"), "").await;
    assert_eq!(version(&gone["object"]), version(&list));
}

#[tokio::test]
async fn a_watch_from_a_version_tells_what_came_after() {
    let cluster = Cluster::start().await;
    let first = put(&cluster, "a", "1").await;
    put(&cluster, "b", "1").await;
    set(&cluster, "a", "2").await;
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    let mut events = Events::open(&cluster, &format!("resourceVersion={version}")).await;
    assert_eq!(events.text().await, "ADDED b");
    assert_eq!(events.text().await, "MODIFIED a");
}

#[tokio::test]
async fn leaving_a_selector_is_deletion_and_entering_it_addition() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "in").await;
    let mut events = Events::open(&cluster, "labelSelector=v%3Din").await;
    assert_eq!(events.text().await, "ADDED a");
    let out = set(&cluster, "a", "out").await;
    let left = events.next().await.expect("an event");
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["v"], "in");
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        out["metadata"]["resourceVersion"]
    );
    set(&cluster, "a", "still-out").await;
    set(&cluster, "a", "in").await;
    assert_eq!(events.text().await, "ADDED a");
}

#[tokio::test]
async fn one_name_can_be_watched() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    put(&cluster, "b", "1").await;
    let mut events = Events::of(
        cluster
            .open(&format!("GET {MAPS}/b?watch=1"), "", &[])
            .await,
    );
    assert_eq!(events.text().await, "ADDED b");
    set(&cluster, "a", "2").await;
    set(&cluster, "b", "2").await;
    assert_eq!(events.text().await, "MODIFIED b");
}

#[tokio::test]
async fn the_end_of_the_initial_events_is_marked() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=0";
    let mut events = Events::open(&cluster, query).await;
    assert_eq!(events.text().await, "ADDED a");
    let bookmark = events.next().await.expect("an event");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    put(&cluster, "b", "1").await;
    assert_eq!(events.text().await, "ADDED b");
    let wrong = cluster
        .failure(
            &format!("GET {MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true"),
            "",
        )
        .await;
    assert!(
        wrong.starts_with("422 Invalid: ListOptions.meta.k8s.io"),
        "{wrong}"
    );
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_with_a_bookmark() {
    let cluster = Cluster::start().await;
    let mut events = Events::open(&cluster, "timeoutSeconds=1&allowWatchBookmarks=true").await;
    assert_eq!(events.text().await, "BOOKMARK ");
    assert_eq!(events.text().await, "END");
}

#[tokio::test]
async fn a_watch_can_be_of_tables() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let mut events = Events::of(
        cluster
            .open(&format!("GET {MAPS}?watch=true"), "", &accept)
            .await,
    );
    let first = events.next().await.expect("an event");
    assert_eq!(
        (first["type"].as_str(), first["object"]["kind"].as_str()),
        (Some("ADDED"), Some("Table"))
    );
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(
        first["object"]["columnDefinitions"]
            .as_array()
            .is_some_and(|columns| !columns.is_empty())
    );
}

#[tokio::test]
async fn many_changes_arrive_once_and_in_order() {
    let cluster = Cluster::start().await;
    let mut events = Events::open(&cluster, "").await;
    let writes = (0..200).map(|index| {
        let cluster = &cluster;
        async move { put(cluster, &format!("m{index}"), "1").await }
    });
    futures::future::join_all(writes).await;
    let mut last = 0;
    for _ in 0..200 {
        let event = events.next().await.expect("an event");
        let version: u64 = event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version")
            .parse()
            .expect("a number");
        assert!(version > last, "{version} after {last}");
        last = version;
    }
}

#[tokio::test]
async fn a_watch_from_before_what_is_remembered_is_told_so() {
    let cluster = Cluster::start_forgetful().await;
    let first = put(&cluster, "a", "1").await;
    for value in ["2", "3", "4", "5"] {
        set(&cluster, "a", value).await;
    }
    cluster.compact().await;
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    let mut events = Events::open(&cluster, &format!("resourceVersion={version}")).await;
    let event = events.next().await.expect("an event");
    let status = &event["object"];
    assert_eq!(event["type"], "ERROR");
    assert_eq!(
        (
            status["kind"].as_str(),
            status["reason"].as_str(),
            status["code"].as_u64()
        ),
        (Some("Status"), Some("Expired"), Some(410))
    );
    let message = status["message"].as_str().expect("a message");
    assert!(
        message.starts_with(&format!("too old resource version: {version} (")),
        "{message}"
    );
    assert_eq!(events.text().await, "END");
}
