//! Events: an hour after they were last seen they are gone.

use jiff::{Timestamp, ToSpan};

use crate::harness::Cluster;

const EVENTS: &str = "/api/v1/namespaces/default/events";

fn event(name: &str, last: Timestamp) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"involvedObject":{{"kind":"Pod","namespace":"default","name":"p"}},"reason":"Tried","lastTimestamp":"{last:.0}"}}"#
    )
}

async fn names(cluster: &Cluster) -> Vec<String> {
    let list = cluster.ok(&format!("GET {EVENTS}"), "").await;
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|item| {
            item["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn an_event_lives_for_an_hour_after_it_was_last_seen() {
    let cluster = Cluster::start().await;
    let now = Timestamp::now();
    for (name, last) in [("early", now), ("late", now + 30.minutes())] {
        cluster
            .ok(&format!("POST {EVENTS}"), &event(name, last))
            .await;
    }
    let server = &cluster.server;
    assert_eq!(server.expire_events(now + 50.minutes()).await, 0);
    assert_eq!(names(&cluster).await, ["early", "late"]);
    assert_eq!(server.expire_events(now + 70.minutes()).await, 1);
    assert_eq!(names(&cluster).await, ["late"]);
    // Seen again: it starts anew.
    let seen = format!(r#"{{"lastTimestamp":"{:.0}"}}"#, now + 80.minutes());
    cluster.ok(&format!("PATCH {EVENTS}/late"), &seen).await;
    assert_eq!(server.expire_events(now + 100.minutes()).await, 0);
    assert_eq!(server.expire_events(now + 150.minutes()).await, 1);
    assert!(names(&cluster).await.is_empty());
}

#[tokio::test]
async fn nothing_but_events_expires() {
    let cluster = Cluster::start().await;
    cluster
        .ok(
            &format!("POST {}", crate::harness::PODS),
            &crate::harness::pod("p"),
        )
        .await;
    let later = Timestamp::now() + 1000.hours();
    assert_eq!(cluster.server.expire_events(later).await, 0);
    cluster
        .ok(&format!("GET {}/p", crate::harness::PODS), "")
        .await;
}
