//! Space that images take, and what a component's securityContext may say.

use super::*;
use crate::image_gc::ImageGc;

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_images_that_no_pod_names_and_says_what_it_lacks() {
    let bench = Bench::new();
    bench.images.insert(FakeImages::image("unused"));
    let nodelet = bench.run();
    bench.pod("a", json!({}));
    bench.ready("a").await;
    let handle = &nodelet.handle;
    let mut gc = ImageGc::new(handle.context.clone(), handle.pods.clone());
    let names = || async {
        let images = bench.images.list().await.expect("images");
        images
            .into_iter()
            .map(|image| image.reference)
            .collect::<Vec<_>>()
    };
    // Young as they are, they stay.
    gc.collect((100, 10))
        .await
        .expect_err("nothing is old enough");
    assert_eq!(names().await, ["img-a", "unused"]);
    tokio::time::advance(Duration::from_secs(121)).await;
    gc.collect((100, 16)).await.expect("there is room");
    assert_eq!(names().await, ["img-a", "unused"]);
    gc.collect((100, 15)).await.expect("six bytes are enough");
    assert_eq!(names().await, ["img-a"]);
    let failed = gc
        .collect((100, 10))
        .await
        .expect_err("the pod's image stays");
    assert!(
        failed.contains("Attempted to free 10 bytes, but only found 0 bytes"),
        "{failed}"
    );
    assert_eq!(names().await, ["img-a"]);
    bench.event("FreeDiskSpaceFailed").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_component_that_asks_for_the_host_is_refused_before_it_is_made() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let container = json!({"name": "c", "image": "img", "securityContext": {"privileged": true}});
    bench.pod("a", json!({"containers": [container]}));
    let waiting = |status: &Value| status["containerStatuses"][0]["state"]["waiting"].clone();
    let status = bench
        .status("a", "to be refused", |status| {
            waiting(status)["reason"] == "CreateContainerConfigError"
        })
        .await;
    let message = waiting(&status)["message"].clone();
    assert!(
        message
            .as_str()
            .is_some_and(|text| text.starts_with("securityContext.privileged")),
        "{message}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_lasts_is_told_of() {
    let bench = Bench::new();
    let progress = runtimes::Progress {
        received_bytes: 120_000_000,
        total_bytes: 430_000_000,
    };
    bench.images.stall("img-a", progress);
    let nodelet = bench.run();
    bench.pod("a", json!({}));
    let told = "Pulling image \"img-a\": 120 of 430 MB";
    let find = |api: &FakeApi| {
        let mut events = api.list("events").into_iter();
        events.find(|event| event["message"] == told)
    };
    bench.api.wait(told, find).await;
    bench.images.allow("img-a");
    bench.ready("a").await;
    nodelet.stop().await;
}

/// What the nodelet's server answers, JSON as it is.
async fn ask(handle: &Handle, method: &str, path: &str, body: &str) -> String {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = handle.router().oneshot(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body");
    let text = String::from_utf8(body.to_bytes().into()).expect("text");
    format!("{code} {text}")
}

#[tokio::test(start_paused = true)]
async fn images_are_listed_removed_and_pulled_for_who_asks() {
    let bench = Bench::new();
    bench.images.insert(FakeImages::image("unused"));
    let nodelet = bench.run();
    bench.pod("a", json!({}));
    bench.ready("a").await;
    let handle = &nodelet.handle;
    let listed = ask(handle, "GET", "/images", "").await;
    let listed: Value =
        serde_json::from_str(listed.strip_prefix("200 ").expect("a list")).expect("JSON");
    assert_eq!(listed["images"][0]["name"], "img-a");
    assert_eq!(listed["images"][0]["usedBy"], json!(["ns/a"]));
    assert_eq!(listed["images"][1]["name"], "unused");
    assert_eq!(listed["images"][1]["kind"], "wasm");

    let refused = ask(handle, "DELETE", "/images?image=img-a", "").await;
    assert!(
        refused.starts_with("409 ") && refused.contains("in use by pod ns/a: delete the pod"),
        "{refused}"
    );
    let id = FakeImages::image("unused").digest;
    let removed = ask(
        handle,
        "DELETE",
        &format!("/images?image={}", &id[7..15]),
        "",
    )
    .await;
    assert_eq!(removed, r#"200 {"freedBytes":6,"removed":["unused"]}"#);
    let forced = ask(handle, "DELETE", "/images?image=img-a&force=true", "").await;
    assert!(forced.contains(r#""removed":["img-a"]"#), "{forced}");
    for (query, want) in [
        ("?image=unused", "404 "),
        ("", "400 "),
        ("?image=x&froce=true", "400 "),
    ] {
        let refused = ask(handle, "DELETE", &format!("/images{query}"), "").await;
        assert!(refused.starts_with(want), "{refused}");
    }

    bench.images.refuse("absent", "manifest unknown");
    let pulled = ask(handle, "POST", "/images/pull", r#"{"image": "absent"}"#).await;
    assert_eq!(
        pulled,
        "200 {\"error\":\"failed to pull image \\\"absent\\\": manifest unknown\"}\n"
    );
    let progress = runtimes::Progress {
        received_bytes: 1,
        total_bytes: 2,
    };
    bench.images.stall("slow", progress);
    let request = r#"{"image": "slow", "username": "ann", "password": "secret"}"#;
    let (pulled, ()) = tokio::join!(ask(handle, "POST", "/images/pull", request), async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        bench.images.allow("slow");
    });
    let told = r#"{"progress":{"receivedBytes":1,"totalBytes":2}}"#;
    assert!(
        pulled.starts_with(&format!("200 {told}\n{told}\n{{\"image\":")),
        "{pulled}"
    );
    assert!(
        pulled.contains(r#""name":"docker.io/library/slow:latest""#),
        "{pulled}"
    );
    nodelet.stop().await;
}

#[tokio::test]
async fn archives_stream_both_ways() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let handle = &nodelet.handle;
    let names: String = (0..10_000).map(|n| format!("image-{n}\n")).collect();
    let imported = ask(handle, "POST", "/images/import", &names).await;
    assert!(imported.starts_with("200 "), "{imported}");
    assert_eq!(bench.images.list().await.expect("images").len(), 10_000);
    let exported = ask(
        handle,
        "GET",
        "/images/export?image=image-7&image=image-8",
        "",
    )
    .await;
    assert_eq!(exported, "200 image-7\nimage-8\n");
    let refused = ask(handle, "GET", "/images/export?image=image-7&image=gone", "").await;
    assert!(refused.starts_with("404 "), "{refused}");
    nodelet.stop().await;
}
