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

/// Name and version of each object.
fn shown(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items").iter();
    let shown = items.map(|item| {
        let metadata = &item["metadata"];
        format!("{}@{}", metadata["name"], metadata["resourceVersion"])
    });
    shown.collect()
}

/// Every page from the first on, and the version that they are of.
async fn pages(cluster: &Cluster, limit: usize) -> (Vec<String>, String) {
    let mut all = Vec::new();
    let mut version = None;
    let mut next = String::new();
    loop {
        let page = cluster
            .ok(&format!("GET {MAPS}?limit={limit}{next}"), "")
            .await;
        let items = shown(&page);
        assert!(items.len() <= limit);
        all.extend(items);
        let of = page["metadata"]["resourceVersion"]
            .as_str()
            .map(str::to_owned);
        assert_eq!(*version.get_or_insert(of.clone()), of);
        match page["metadata"]["continue"].as_str() {
            Some(token) => next = format!("&continue={token}"),
            None => return (all, version.flatten().expect("a version")),
        }
    }
}

async fn writes_while_pages_are_read(cluster: Cluster) {
    maps(&cluster, 12).await;
    let busy = async {
        for round in 0..40_usize {
            let name = format!("m{}", (round * 7) % 15);
            let value = format!("{round}");
            let patch = format!(r#"{{"data":{{"v":"{value}"}}}}"#);
            match round % 3 {
                0 => drop(cluster.send(&format!("DELETE {MAPS}/{name}"), "").await),
                1 => drop(
                    cluster
                        .send(&format!("POST {MAPS}"), &config_map(&name, &value))
                        .await,
                ),
                _ => drop(cluster.send(&format!("PATCH {MAPS}/{name}"), &patch).await),
            }
            tokio::task::yield_now().await;
        }
    };
    let reads = async {
        for limit in [1, 2, 3, 5, 100, 4] {
            let (paged, version) = pages(&cluster, limit).await;
            let query = format!("resourceVersion={version}&resourceVersionMatch=Exact");
            let whole = cluster.ok(&format!("GET {MAPS}?{query}"), "").await;
            assert_eq!(paged, shown(&whole), "pages of {limit}");
        }
    };
    tokio::join!(busy, reads);
}

#[tokio::test]
async fn pages_together_are_the_whole_list_whatever_is_written_meanwhile() {
    writes_while_pages_are_read(Cluster::start().await).await;
    writes_while_pages_are_read(Cluster::start_forgetful().await).await;
}

#[tokio::test]
async fn one_object_is_listed_by_its_name() {
    let cluster = Cluster::start().await;
    maps(&cluster, 3).await;
    let first = cluster.ok(&format!("GET {MAPS}"), "").await;
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    cluster.ok(&format!("DELETE {MAPS}/m1"), "").await;
    for (query, expected) in [
        ("fieldSelector=metadata.name%3Dm2", "m2"),
        ("fieldSelector=metadata.name%3Dm1", ""),
        ("fieldSelector=metadata.name%3Dm2,metadata.name%21%3Dm2", ""),
        ("fieldSelector=metadata.name%3Dm2&labelSelector=v%3Dodd", ""),
        ("fieldSelector=metadata.name%3Dm0&limit=1", "m0"),
    ] {
        let list = cluster.ok(&format!("GET {MAPS}?{query}"), "").await;
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list["metadata"]["continue"], Value::Null);
    }
    let then = format!(
        "fieldSelector=metadata.name%3Dm1&resourceVersion={version}&resourceVersionMatch=Exact"
    );
    let list = cluster.ok(&format!("GET {MAPS}?{then}"), "").await;
    assert_eq!(names(&list), "m1");
}

#[tokio::test]
async fn a_version_that_is_too_large_says_so_and_when_to_come_back() {
    let cluster = Cluster::start().await;
    let reply = cluster
        .send(&format!("GET {MAPS}?resourceVersion=99999"), "")
        .await;
    let status = reply.json();
    assert_eq!(
        (reply.code.as_u16(), &reply.headers["retry-after"]),
        (504, &"1".parse().expect("a value"))
    );
    assert_eq!(
        status["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
}

#[tokio::test]
async fn a_collection_is_deleted_page_by_page_or_only_tried() {
    let cluster = Cluster::start().await;
    maps(&cluster, 4).await;
    let tried = cluster.ok(&format!("DELETE {MAPS}?dryRun=All"), "").await;
    assert_eq!(names(&tried), "m0 m1 m2 m3");
    let first = cluster.ok(&format!("DELETE {MAPS}?limit=2"), "").await;
    assert_eq!(names(&first), "m0 m1");
    assert_eq!(
        names(&cluster.ok(&format!("GET {MAPS}"), "").await),
        "m2 m3"
    );
    let options = r#"{"preconditions":{"uid":"other"}}"#;
    let refused = cluster.failure(&format!("DELETE {MAPS}"), options).await;
    assert!(refused.starts_with("409 Conflict"), "{refused}");
    assert_eq!(
        cluster.failure(&format!("DELETE {MAPS}/none"), "").await,
        "404 NotFound: configmaps \"none\" not found"
    );
}
