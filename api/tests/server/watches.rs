//! Watches: every change once, in order, as the selectors see it.

use std::collections::BTreeMap;

use axum::body::Body;
use http::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;

use crate::harness::{Cluster, DEADLINE, MAPS, PODS, config_map, pod};

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
async fn watches_have_paths_of_their_own_too() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    put(&cluster, "b", "1").await;
    let old = MAPS.replace("/api/v1/", "/api/v1/watch/");
    let mut all = Events::of(cluster.open(&format!("GET {old}"), "", &[]).await);
    assert_eq!(all.text().await, "ADDED a");
    assert_eq!(all.text().await, "ADDED b");
    let mut one = Events::of(cluster.open(&format!("GET {old}/b"), "", &[]).await);
    assert_eq!(one.text().await, "ADDED b");
    set(&cluster, "a", "2").await;
    set(&cluster, "b", "2").await;
    assert_eq!(one.text().await, "MODIFIED b");
    assert_eq!(all.text().await, "MODIFIED a");
}

#[tokio::test]
async fn a_field_that_changes_brings_objects_in_and_takes_them_out() {
    let cluster = Cluster::start().await;
    let query = "fieldSelector=spec.nodeName%3Dn1&watch=true";
    let mut node = Events::of(cluster.open(&format!("GET {PODS}?{query}"), "", &[]).await);
    let unbound = "fieldSelector=spec.nodeName%3D&watch=true";
    let mut waiting = Events::of(
        cluster
            .open(&format!("GET {PODS}?{unbound}"), "", &[])
            .await,
    );
    for name in ["a", "b"] {
        cluster.ok(&format!("POST {PODS}"), &pod(name)).await;
        assert_eq!(waiting.text().await, format!("ADDED {name}"));
        let target = format!(
            r#"{{"target":{{"kind":"Node","name":"{}"}}}}"#,
            if name == "a" { "n2" } else { "n1" }
        );
        cluster
            .ok(&format!("POST {PODS}/{name}/binding"), &target)
            .await;
        assert_eq!(waiting.text().await, format!("DELETED {name}"));
    }
    assert_eq!(node.text().await, "ADDED b");
}

#[tokio::test]
async fn a_watch_from_any_version_replays_to_what_is_there() {
    let cluster = Cluster::start().await;
    let line = format!("GET {MAPS}");
    let mut states = vec![cluster.ok(&line, "").await];
    for round in 0..30_usize {
        let name = format!("m{}", (round * 5) % 7);
        match round % 3 {
            0 => drop(cluster.send(&format!("DELETE {MAPS}/{name}"), "").await),
            1 => drop(
                cluster
                    .send(&format!("POST {MAPS}"), &config_map(&name, "1"))
                    .await,
            ),
            _ => {
                let patch = format!(r#"{{"data":{{"v":"{round}"}}}}"#);
                cluster.send(&format!("PATCH {MAPS}/{name}"), &patch).await;
            }
        }
        states.push(cluster.ok(&line, "").await);
    }
    put(&cluster, "end", "1").await;
    let expected = by_name(&cluster.ok(&line, "").await);
    for state in states {
        let version = state["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version");
        let mut seen = by_name(&state);
        let mut events = Events::open(&cluster, &format!("resourceVersion={version}")).await;
        while !seen.contains_key("end") {
            let event = events.next().await.expect("an event");
            let object = &event["object"];
            let name = object["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned();
            let known = match event["type"].as_str() {
                Some("DELETED") => seen.remove(&name).is_some(),
                Some("ADDED") => seen.insert(name, object.clone()).is_none(),
                _ => seen.insert(name, object.clone()).is_some(),
            };
            assert!(known, "{event}");
        }
        // The items of a list are whole objects too.
        assert_eq!(seen, expected, "from {version}");
    }
}

fn by_name(list: &Value) -> BTreeMap<String, Value> {
    let items = list["items"].as_array().expect("items").iter();
    let named = items.map(|item| {
        let name = item["metadata"]["name"].as_str().expect("a name");
        (name.to_owned(), item.clone())
    });
    named.collect()
}

#[tokio::test]
async fn a_watch_can_be_of_metadata() {
    let cluster = Cluster::start().await;
    put(&cluster, "a", "1").await;
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    )];
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::of(
        cluster
            .open(&format!("GET {MAPS}?watch=1&{query}"), "", &accept)
            .await,
    );
    for kind in ["ADDED", "BOOKMARK"] {
        let event = events.next().await.expect("an event");
        assert_eq!(
            (event["type"].as_str(), event["object"]["kind"].as_str()),
            (Some(kind), Some("PartialObjectMetadata"))
        );
        assert_eq!(event["object"]["data"], Value::Null);
    }
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
        .failure(&format!("GET {MAPS}?watch=true&sendInitialEvents=true"), "")
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
