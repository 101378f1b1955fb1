//! Lists: selectors, pages, and the views that clients ask for.

use serde_json::Value;

use crate::harness::{Cluster, MAPS, PODS, config_map, pod};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. \
    You can start a new list without the continue parameter, or use the continue token in this response \
    to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent \
    list - objects that were created, modified, or deleted between the time the first chunk was returned \
    and now may show up in the list.";

fn names(list: &Value) -> String {
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    names.join(" ")
}

async fn maps(cluster: &Cluster, count: usize) {
    for index in 0..count {
        let value = if index % 2 == 0 { "even" } else { "odd" };
        let body = config_map(&format!("m{index}"), value);
        cluster.ok(&format!("POST {MAPS}"), &body).await;
    }
}

#[tokio::test]
async fn a_list_is_of_its_kind_and_has_a_version() {
    let cluster = Cluster::start().await;
    maps(&cluster, 2).await;
    let list = cluster.ok(&format!("GET {MAPS}"), "").await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&"ConfigMapList".into(), &"v1".into())
    );
    assert!(list["metadata"]["resourceVersion"].is_string());
    assert_eq!(names(&list), "m0 m1");
    let all = cluster
        .ok("GET /api/v1/configmaps?resourceVersion=0", "")
        .await;
    assert_eq!(names(&all), "m0 m1");
    let empty = cluster
        .ok("GET /api/v1/namespaces/none/configmaps", "")
        .await;
    assert_eq!(empty["items"], serde_json::json!([]));
}

#[tokio::test]
async fn selectors_choose() {
    let cluster = Cluster::start().await;
    maps(&cluster, 4).await;
    for (query, expected) in [
        ("labelSelector=v%3Deven", "m0 m2"),
        ("labelSelector=v%20in%20(odd)", "m1 m3"),
        ("fieldSelector=metadata.name%3Dm1", "m1"),
        ("fieldSelector=metadata.namespace%21%3Ddefault", ""),
    ] {
        assert_eq!(
            names(&cluster.ok(&format!("GET {MAPS}?{query}"), "").await),
            expected,
            "{query}"
        );
    }
    assert_eq!(
        cluster
            .failure(&format!("GET {MAPS}?fieldSelector=spec.x%3D1"), "")
            .await,
        "400 BadRequest: field label not supported: spec.x"
    );
    assert!(
        cluster
            .failure(&format!("GET {MAPS}?labelSelector=%21%21"), "")
            .await
            .starts_with("400 BadRequest")
    );
}

#[tokio::test]
async fn pages_are_of_the_state_of_the_first() {
    let cluster = Cluster::start().await;
    maps(&cluster, 5).await;
    let first = cluster.ok(&format!("GET {MAPS}?limit=2"), "").await;
    assert_eq!(names(&first), "m0 m1");
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    cluster.ok(&format!("DELETE {MAPS}/m2"), "").await;
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("m9", "new"))
        .await;
    let mut token = first["metadata"]["continue"]
        .as_str()
        .expect("a token")
        .to_owned();
    let mut rest = Vec::new();
    loop {
        let page = cluster
            .ok(&format!("GET {MAPS}?limit=2&continue={token}"), "")
            .await;
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        rest.push(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(rest, ["m2 m3", "m4"]);
    assert_eq!(
        cluster
            .failure(&format!("GET {MAPS}?continue=nonsense"), "")
            .await,
        "400 BadRequest: continue key is not valid"
    );
}

#[tokio::test]
async fn an_exact_version_is_that_state_and_a_future_one_times_out() {
    let cluster = Cluster::start().await;
    maps(&cluster, 1).await;
    let list = cluster.ok(&format!("GET {MAPS}"), "").await;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    maps_more(&cluster).await;
    let old = cluster
        .ok(
            &format!("GET {MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"),
            "",
        )
        .await;
    assert_eq!(names(&old), "m0");
    let future = cluster
        .failure(&format!("GET {MAPS}?resourceVersion=99999"), "")
        .await;
    assert!(
        future.starts_with("504 Timeout: Too large resource version: 99999, current: "),
        "{future}"
    );
    let wrong = cluster
        .failure(&format!("GET {MAPS}?resourceVersion=x"), "")
        .await;
    assert!(
        wrong.starts_with("400 BadRequest: resourceVersion: Invalid value"),
        "{wrong}"
    );
}

async fn maps_more(cluster: &Cluster) {
    cluster
        .ok(&format!("POST {MAPS}"), &config_map("z", "1"))
        .await;
}

#[tokio::test]
async fn tables_and_metadata_are_views_of_the_same() {
    let cluster = Cluster::start().await;
    maps(&cluster, 2).await;
    let accept = |value| [("accept", value)];
    let table = cluster
        .send_with(&format!("GET {MAPS}"), "", &accept(TABLE))
        .await
        .json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(table["rows"][0]["cells"][0], "m0");
    let one = cluster
        .send_with(&format!("GET {MAPS}/m1"), "", &accept(TABLE))
        .await
        .json();
    assert_eq!(one["rows"][0]["cells"][0], "m1");
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = cluster
        .send_with(&format!("GET {MAPS}"), "", &accept(partial))
        .await
        .json();
    assert_eq!(
        (list["kind"].as_str(), names(&list).as_str()),
        (Some("PartialObjectMetadataList"), "m0 m1")
    );
    assert_eq!(list["items"][0]["data"], Value::Null);
    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(
        cluster
            .send_with(&format!("GET {MAPS}"), "", &accept(protobuf))
            .await
            .code,
        406
    );
    let fallback = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(
        cluster
            .send_with(&format!("GET {MAPS}"), "", &accept(fallback))
            .await
            .code,
        200
    );
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let cluster = Cluster::start().await;
    maps(&cluster, 4).await;
    let deleted = cluster
        .ok(&format!("DELETE {MAPS}?labelSelector=v%3Deven"), "")
        .await;
    assert_eq!(names(&deleted), "m0 m2");
    assert_eq!(
        names(&cluster.ok(&format!("GET {MAPS}"), "").await),
        "m1 m3"
    );
    assert_eq!(
        cluster.send("DELETE /api/v1/configmaps", "").await.code,
        405
    );
}

#[tokio::test]
async fn a_page_or_a_version_that_is_forgotten_is_expired() {
    let cluster = Cluster::start_forgetful().await;
    for name in ["a", "b", "c"] {
        let body = config_map(name, "1");
        cluster.ok(&format!("POST {MAPS}"), &body).await;
    }
    let page = cluster.ok(&format!("GET {MAPS}?limit=1"), "").await;
    let (next, version) = (
        page["metadata"]["continue"].as_str().expect("a token"),
        page["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version"),
    );
    for value in ["2", "3", "4", "5"] {
        let patch = format!(r#"{{"data":{{"v":"{value}"}}}}"#);
        cluster.ok(&format!("PATCH {MAPS}/a"), &patch).await;
    }
    let second = cluster
        .ok(&format!("GET {MAPS}?limit=1&continue={next}"), "")
        .await;
    assert_eq!(second["items"][0]["metadata"]["name"], "b");
    cluster.compact().await;
    assert_eq!(
        cluster
            .failure(&format!("GET {MAPS}?limit=1&continue={next}"), "")
            .await,
        format!("410 Expired: {TOO_OLD}")
    );
    // The answer leads on: from whatever is there now.
    let expired = cluster
        .send(&format!("GET {MAPS}?limit=1&continue={next}"), "")
        .await
        .json();
    let next = expired["metadata"]["continue"].as_str().expect("a token");
    cluster.ok(&format!("DELETE {MAPS}/b"), "").await;
    let rest = cluster.ok(&format!("GET {MAPS}?continue={next}"), "").await;
    assert_eq!(names(&rest), "c");
    assert_ne!(rest["metadata"]["resourceVersion"], version);
    assert_eq!(
        cluster
            .failure(
                &format!("GET {MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"),
                ""
            )
            .await,
        "410 Expired: The resourceVersion for the provided list is too old."
    );
}

#[tokio::test]
async fn pods_are_selected_by_node_and_phase() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster.ok(&format!("POST {PODS}"), &pod(name)).await;
    }
    let bound = r#"{"target":{"kind":"Node","name":"n1"}}"#;
    cluster.ok(&format!("POST {PODS}/a/binding"), bound).await;
    for (selector, expected) in [
        ("spec.nodeName=n1", vec!["a"]),
        ("spec.nodeName=", vec!["b"]),
        ("spec.nodeName!=n1,status.phase=Pending", vec!["b"]),
        ("status.phase=Running", vec![]),
        ("metadata.name=a", vec!["a"]),
    ] {
        let selector = selector.replace('=', "%3D");
        let list = cluster
            .ok(&format!("GET {PODS}?fieldSelector={selector}"), "")
            .await;
        let names: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect();
        assert_eq!(names, expected, "{selector}");
    }
    let wrong = cluster
        .failure(&format!("GET {PODS}?fieldSelector=spec.image%3Da"), "")
        .await;
    assert_eq!(
        wrong,
        "400 BadRequest: field label not supported: spec.image"
    );
}
