//! `kube` in this process: the typed client and both kinds of watcher.

use std::pin::pin;

use api::auth::{MASTERS, User};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Cluster, DEADLINE};

fn maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::default_namespaced(cluster.server.client(User::new("test", &[MASTERS])))
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).expect("a map")
}

#[tokio::test]
async fn a_typed_client_creates_reads_patches_and_deletes() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster);
    maps.create(&PostParams::default(), &map("a"))
        .await
        .expect("created");
    let patch = json!({"data": {"k": "w"}});
    for patch in [Patch::Merge(&patch), Patch::Strategic(&patch)] {
        maps.patch("a", &PatchParams::default(), &patch)
            .await
            .expect("patched");
    }
    let mut read = maps.get("a").await.expect("read");
    assert_eq!(read.data.as_ref().expect("data")["k"], "w");
    read.data
        .get_or_insert_default()
        .insert("l".to_owned(), "x".to_owned());
    maps.replace("a", &PostParams::default(), &read)
        .await
        .expect("replaced");
    let conflict = maps
        .replace("a", &PostParams::default(), &read)
        .await
        .expect_err("stale");
    assert!(matches!(conflict, kube::Error::Api(status) if status.code == 409));
    assert_eq!(
        maps.list(&ListParams::default().limit(1))
            .await
            .expect("listed")
            .items
            .len(),
        1
    );
    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert!(maps.get_opt("a").await.expect("read").is_none());
}

/// Reads watcher events until `count` objects were seen.
async fn names(
    stream: &mut (impl Stream<Item = watcher::Result<watcher::Event<ConfigMap>>> + Unpin),
    count: usize,
) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        let event = timeout(DEADLINE, stream.try_next())
            .await
            .expect("an event in time")
            .expect("no error")
            .expect("no end");
        match event {
            watcher::Event::InitApply(map) | watcher::Event::Apply(map) => {
                names.push(map.metadata.name.unwrap_or_default());
            }
            watcher::Event::Delete(map) => {
                names.push(format!("-{}", map.metadata.name.unwrap_or_default()));
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
    }
    names
}

#[tokio::test]
async fn both_kinds_of_watcher_see_what_is_and_what_comes() {
    let cluster = Cluster::start().await;
    let maps = maps(&cluster);
    maps.create(&PostParams::default(), &map("a"))
        .await
        .expect("created");
    for (config, name) in [
        (watcher::Config::default(), "b"),
        (watcher::Config::default().streaming_lists(), "c"),
    ] {
        let mut stream = pin!(watcher::watcher(maps.clone(), config).boxed());
        assert_eq!(names(&mut stream, 1).await, ["a"]);
        maps.create(&PostParams::default(), &map(name))
            .await
            .expect("created");
        assert_eq!(names(&mut stream, 1).await, [name]);
        maps.delete(name, &DeleteParams::default())
            .await
            .expect("deleted");
        assert_eq!(names(&mut stream, 1).await, [format!("-{name}")]);
    }
}
