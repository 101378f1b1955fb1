//! The process is killed at any moment: what was acknowledged is there, and nothing by half.
#![expect(clippy::unwrap_used, reason = "a test fails where its scenery does")]

mod fake_cluster;
mod served;

use std::sync::Mutex;

use served::Served;

/// Kills in a row; each with pushes under way.
const KILLS: usize = 4;
/// Acknowledged pushes before each.
const PUSHES: usize = 6;
/// Who push at once.
const CLIENTS: usize = 3;

#[tokio::test]
async fn serves() {
    served::serve().await;
}

/// Bytes that no other push has.
fn layer(number: usize) -> Vec<u8> {
    (0..40_000_usize)
        .map(|at| ((at * 31 + number * 7919) >> 3) as u8)
        .collect()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_there_by_half() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().to_str().unwrap();
    let acknowledged: Mutex<Vec<(String, String)>> = Mutex::default();
    for round in 0..KILLS {
        let served = Served::start(storage, &[]);
        let goal = (round + 1) * PUSHES;
        let push = async |client: usize| {
            let mut number = 0;
            loop {
                let tag = format!("r{round}-c{client}-{number}");
                let unique = round * 10_000 + client * 1_000 + number;
                let Ok(digest) = served.push_image(&tag, &layer(unique), 9_000).await else {
                    return;
                };
                acknowledged.lock().unwrap().push((tag, digest));
                number += 1;
            }
        };
        let pushes = futures::future::join_all((0..CLIENTS).map(push));
        let enough = async {
            while acknowledged.lock().unwrap().len() < goal {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = pushes => panic!("the pushes ended before the process was killed"),
            () = enough => {}
        }
        served.kill();
    }
    let served = Served::start(storage, &[]);
    for (tag, digest) in &acknowledged.into_inner().unwrap() {
        assert_eq!(
            served.check_image(tag).await.as_ref(),
            Some(digest),
            "{tag}"
        );
        assert!(served.check_image(digest).await.is_some());
    }
    let tags = served.pull("/v2/a/x/tags/list").await.unwrap();
    let tags: serde_json::Value = serde_json::from_slice(&tags).unwrap();
    for tag in tags["tags"].as_array().unwrap() {
        assert!(
            served.check_image(tag.as_str().unwrap()).await.is_some(),
            "{tag}"
        );
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_the_process_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().to_str().unwrap();
    let served = Served::start(storage, &[]);
    let begun = served
        .request("POST", "/v2/a/x/blobs/uploads/")
        .send()
        .await
        .unwrap();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    for chunk in ["hello, ", "wor"] {
        let patch = served
            .request("PATCH", &location)
            .body(chunk)
            .send()
            .await
            .unwrap();
        assert_eq!(patch.status(), 202);
    }
    served.kill();
    let served = Served::start(storage, &[]);
    let told = served.request("GET", &location).send().await.unwrap();
    assert_eq!(told.headers()["range"], "0-9");
    let digest = registry::Digest::of(b"hello, world");
    let put = served.request("PUT", &format!("{location}?digest={digest}"));
    let put = put
        .header("Content-Range", "10-11")
        .body("ld")
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 201);
    let pulled = served.pull(&format!("/v2/a/x/blobs/{digest}")).await;
    assert_eq!(pulled.as_deref(), Some(&b"hello, world"[..]));
}
