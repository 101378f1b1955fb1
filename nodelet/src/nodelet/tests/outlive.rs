//! Containers outlive the nodelet's process, and fail to start: what their pods show.

use super::{
    life::{first, restarts},
    *,
};

fn reason(status: &Value) -> &str {
    first(status, "containerStatuses")["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_of_containers_go_on_as_if_nothing_had_happened() {
    const PODS: usize = 1_000;
    let bench = Bench::new();
    bench.images.contain("img");
    let nodelet = bench.run();
    let spec = json!({"containers": [{"name": "c", "image": "img"}]});
    for number in 0..PODS {
        bench.pod(&format!("p{number}"), spec.clone());
    }
    let ready = |api: &FakeApi| {
        let pods = api.list("pods");
        let mut all = pods.iter().map(|pod| condition(&pod["status"], "Ready"));
        (pods.len() == PODS && all.all(|ready| ready == "True")).then_some(())
    };
    bench.patience(ready).await;
    nodelet.stop().await;
    let statuses = |api: &FakeApi| {
        let pods = api.list("pods").into_iter();
        pods.map(|pod| pod["status"].clone()).collect::<Vec<_>>()
    };
    let (before, calls) = (statuses(&bench.api), bench.oci.calls().len());
    let patches: usize = (0..PODS)
        .map(|number| bench.api.patches("pods", &format!("p{number}")))
        .sum();
    let nodelet = bench.run();
    // Each worker has its pod once it starts another container of it.
    for number in 0..PODS {
        let id = ContainerId(format!("p{number}-uid/c/0").into());
        if number % 100 == 0 {
            assert!(bench.oci.exit(&id, 0));
        }
    }
    let again = |api: &FakeApi| {
        let pods = api.list("pods");
        let restarted = pods.iter().filter(|pod| {
            restarts(&pod["status"]) == 1 && condition(&pod["status"], "Ready") == "True"
        });
        (restarted.count() == PODS / 100).then_some(())
    };
    bench.patience(again).await;
    let after = statuses(&bench.api);
    let same = before.iter().zip(&after).filter(|(old, new)| old == new);
    assert_eq!(same.count(), PODS - PODS / 100);
    let starts = bench.oci.calls()[calls..]
        .iter()
        .filter(|call| call.starts_with("start") && call.ends_with("/0"))
        .count();
    assert_eq!(starts, 0, "nothing is started that runs");
    let left = bench.network.held().len();
    assert_eq!(left, PODS);
    let written: usize = (0..PODS)
        .filter(|number| number % 100 != 0)
        .map(|number| bench.api.patches("pods", &format!("p{number}")))
        .sum();
    let others: usize = patches - patches / 100;
    assert!(
        written <= others + PODS / 100,
        "{written} writes of {others}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ended_while_nobody_looked_ended_as_it_did() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.contained("job", json!({}), json!({"restartPolicy": "Never"}));
    bench.contained("crash", json!({}), json!({}));
    let running = |status: &Value| condition(status, "Ready") == "True";
    bench.status("job", "to run", running).await;
    bench.status("crash", "to run", running).await;
    nodelet.stop().await;
    assert!(bench.oci.exit(&bench.id("job", 0), 0));
    assert!(bench.oci.exit(&bench.id("crash", 0), 7));
    let nodelet = bench.run();
    let done = |status: &Value| status["phase"] == "Succeeded";
    bench.status("job", "to succeed", done).await;
    let again = |status: &Value| restarts(status) == 1 && condition(status, "Ready") == "True";
    let status = bench.status("crash", "to restart", again).await;
    let last = &first(&status, "containerStatuses")["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 7);
    nodelet.stop().await;
    // An end that is known is not learned anew.
    let calls = bench.oci.calls().len();
    let nodelet = bench.run();
    assert!(bench.oci.exit(&bench.id("crash", 1), 0));
    let again = |status: &Value| restarts(status) == 2;
    bench.status("crash", "to restart", again).await;
    let status = bench.status("job", "to stay", done).await;
    assert_eq!(restarts(&status), 0);
    assert!(!bench.oci.calls()[calls..].contains(&"start job-uid/c/1".to_owned()));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn containers_of_pods_that_went_while_nobody_looked_are_ended_with_grace() {
    let bench = Bench::new();
    let stubborn = Script {
        ignores_stop: true,
        ..Script::runs()
    };
    bench.oci.script("oci-gone", stubborn);
    let nodelet = bench.run();
    bench.contained("gone", json!({}), json!({}));
    bench.contained("stays", json!({}), json!({}));
    bench.ready("gone").await;
    let before = bench.ready("stays").await;
    nodelet.stop().await;
    bench.api.delete("pods", "ns", "gone", 0);
    let begun = Instant::now();
    let nodelet = bench.run();
    // Others do not wait for it.
    bench.pod("new", json!({}));
    bench.ready("new").await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    gone(&bench.dir.path().join("logs/ns_gone_gone-uid")).await;
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let left = bench.oci.list().await.expect("a list");
    let left: Vec<_> = left.iter().map(|container| &*container.id.0).collect();
    assert_eq!(left, ["stays-uid/c/0"]);
    assert_eq!(bench.network.held(), ["new-uid", "stays-uid"]);
    assert!(!bench.dir.path().join("pods/gone-uid").exists());
    let after = bench.api.get("pods", "ns", "stays").expect("it stays");
    assert_eq!(after["status"], before);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_start_crashes_in_a_loop_and_comes_back() {
    let bench = Bench::new();
    let nodelet = bench.run();
    for _ in 0..3 {
        bench
            .oci
            .fail_next(Call::Start, "exec: \"nope\": not found");
    }
    bench.contained("web", json!({}), json!({}));
    let status = bench
        .status("web", "to fail", |status| {
            reason(status) == "RunContainerError"
        })
        .await;
    let container = first(&status, "containerStatuses");
    assert_eq!(
        container["state"]["waiting"]["message"],
        "exec: \"nope\": not found"
    );
    let looped = |status: &Value| reason(status) == "CrashLoopBackOff";
    let status = bench.status("web", "to loop", looped).await;
    let container = first(&status, "containerStatuses");
    assert_eq!(container["restartCount"], 1);
    let last = &container["lastState"]["terminated"];
    assert_eq!(
        (&last["reason"], &last["exitCode"]),
        (&json!("StartError"), &json!(128))
    );
    assert_eq!(
        bench.message("BackOff").await,
        "Back-off restarting failed container c in pod web_ns(web-uid)"
    );
    let logs = get(&nodelet.handle, "/containerLogs/ns/web/c").await;
    assert_eq!(logs, (200, String::new()));
    let again = |status: &Value| condition(status, "Ready") == "True" && restarts(status) == 3;
    bench.status("web", "to run in the end", again).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_the_image_is_an_error_of_configuration() {
    let bench = Bench::new();
    let script = Script {
        misfit: Some("container has runAsNonRoot and image will run as root".to_owned()),
        ..Script::runs()
    };
    bench.oci.script("oci-web", script);
    let nodelet = bench.run();
    bench.contained("web", json!({}), json!({}));
    let seen = |status: &Value| reason(status) == "CreateContainerConfigError";
    let status = bench.status("web", "to be refused", seen).await;
    assert_eq!(restarts(&status), 0);
    bench.oci.script("oci-web", Script::runs());
    let status = bench.ready("web").await;
    assert_eq!(restarts(&status), 0);
    nodelet.stop().await;
}
