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
