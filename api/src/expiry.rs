//! The end of Events: an hour after they were last seen they are deleted, as in Kubernetes.
//!
//! Looks at the Events in the cache and deletes through the API like anyone else, each on the condition
//! that it is still the version that was looked at: one that is seen again in between stays. A sweep
//! deletes a bounded number, oldest first. Never touches another kind.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use store::{Item, ResourceKey};
use tokio_util::sync::CancellationToken;

use crate::{object, server::state::Server, time};

/// How long an Event is kept after it was last seen.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// How often Events are looked through.
const INTERVAL: Duration = Duration::from_secs(60);
/// Events that one sweep deletes at most; the next one goes on.
const MOST: usize = 5_000;
/// Deletes in flight: enough to share commits, few enough to leave room for others.
const CONCURRENT: usize = 16;

/// Sweeps until `stop`.
pub(crate) async fn run(client: Client, server: &Arc<Server>, stop: CancellationToken) {
    let sweeps = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let removed = sweep(&client, server, server.now()).await;
            tracing::debug!(removed, "Events were looked through");
        }
    };
    stop.run_until_cancelled(sweeps).await;
}

/// Deletes the Events whose time is over at `now`; answers how many.
pub(crate) async fn sweep(client: &Client, server: &Server, now: Timestamp) -> usize {
    let events = server.cache.list(&ResourceKey::new("", "events"), None);
    let expired = expired(events.items, now);
    stream::iter(expired)
        .map(|item| remove(client.clone(), item))
        .buffer_unordered(CONCURRENT)
        .filter(|removed| std::future::ready(*removed))
        .count()
        .await
}

/// The Events whose time is over, oldest first. Pure.
fn expired(events: Vec<Arc<Item>>, now: Timestamp) -> Vec<Arc<Item>> {
    let Ok(before) = now.checked_sub(LIFE) else {
        return Vec::new();
    };
    let mut expired: Vec<_> = events
        .into_iter()
        .filter_map(|item| {
            let event: Value = serde_json::from_slice(&item.decoded.value).ok()?;
            let seen = last_seen(&event, now)?;
            (seen <= before).then_some((seen, item))
        })
        .collect();
    expired.sort_by_key(|(seen, item)| (*seen, item.revision));
    expired.truncate(MOST);
    expired.into_iter().map(|(_, item)| item).collect()
}

/// The latest time that an Event names: it was seen then, or made then. A time far in the future is
/// nobody's clock but a mistake, and counts for nothing: no Event stays for ever.
fn last_seen(event: &Value, now: Timestamp) -> Option<Timestamp> {
    let latest = now.checked_add(LIFE).unwrap_or(now);
    let created = object::metadata(event).and_then(|metadata| metadata.get("creationTimestamp"));
    [
        event.pointer("/series/lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        created,
    ]
    .into_iter()
    .flatten()
    .filter_map(time::parse)
    .filter(|seen| *seen <= latest)
    .max()
}

/// Deletes one; true if it is gone by it.
async fn remove(client: Client, item: Arc<Item>) -> bool {
    let path = format!(
        "/api/v1/namespaces/{}/events/{}",
        item.key.namespace(),
        item.key.name()
    );
    let options = json!({"preconditions": {"resourceVersion": item.revision.to_string()}});
    let request = Request::builder()
        .method(Method::DELETE)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(options.to_string().into_bytes())
        .expect("the names of stored objects are parts of a path");
    match client.request::<Value>(request).await {
        Ok(_) => true,
        // It was seen again, or somebody else deleted it.
        Err(kube::Error::Api(status))
            if [StatusCode::CONFLICT, StatusCode::NOT_FOUND]
                .iter()
                .any(|code| status.code == code.as_u16()) =>
        {
            false
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, name = item.key.name(), "an Event was not removed");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(event: Value, expected: &str) {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let seen = last_seen(&event, now)
            .map(time::seconds)
            .unwrap_or_default();
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_event_is_as_young_as_the_last_time_it_was_seen() {
        let metadata = json!({"creationTimestamp": "2026-01-01T00:00:00Z"});
        check(json!({"metadata": metadata}), "2026-01-01T00:00:00Z");
        check(
            json!({"metadata": metadata, "lastTimestamp": "2026-01-01T05:00:00Z"}),
            "2026-01-01T05:00:00Z",
        );
        check(
            json!({
                "metadata": metadata,
                "eventTime": "2026-01-01T01:00:00.000000Z",
                "series": {"lastObservedTime": "2026-01-01T07:00:00.000000Z"},
            }),
            "2026-01-01T07:00:00Z",
        );
        check(
            json!({"metadata": metadata, "lastTimestamp": "2020-01-01T00:00:00Z"}),
            "2026-01-01T00:00:00Z",
        );
        check(
            json!({"metadata": metadata, "lastTimestamp": "9999-01-01T00:00:00Z"}),
            "2026-01-01T00:00:00Z",
        );
        check(json!({"metadata": {}, "lastTimestamp": null}), "");
    }
}
