//! The nodelet against an API, a runtime, images and a network that are all in memory, under paused time.

mod images;
mod static_pods;

use std::{net::Ipv4Addr, path::Path, time::Duration};

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use jiff::Timestamp;
use runtimes::{
    ContainerId,
    fake::{Call, FakeImages, FakeNetwork, FakeRuntime, Script},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::{config::PodRange, fake_api::FakeApi};

mod containers;
mod functions;
mod life;
mod outlive;
#[path = "tests/streams.rs"]
mod streams;
mod volumes;

/// A node whose every neighbour is a fake.
struct Bench {
    api: FakeApi,
    runtime: Arc<FakeRuntime>,
    /// Runs containers.
    oci: Arc<FakeRuntime>,
    images: Arc<FakeImages>,
    network: Arc<FakeNetwork>,
    dir: TempDir,
}

/// A nodelet that runs; stopped by [`Running::stop`].
struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
    /// Of those tests that have some; they end with this.
    connections: JoinSet<()>,
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        self.task
            .join_next()
            .await
            .expect("a task")
            .expect("no panic")
            .expect("no error");
    }
}

impl Bench {
    fn new() -> Bench {
        Bench {
            api: FakeApi::new(),
            runtime: Arc::new(FakeRuntime::new()),
            oci: Arc::new(FakeRuntime::oci()),
            images: Arc::new(FakeImages::new()),
            network: Arc::new(FakeNetwork::new()),
            dir: TempDir::new().expect("a directory"),
        }
    }

    fn run(&self) -> Running {
        self.run_with(|_| {})
    }

    fn run_with(&self, change: impl FnOnce(&mut Config)) -> Running {
        let (nodelet, handle) = self.make(change);
        Bench::start(nodelet, handle)
    }

    fn start(nodelet: Nodelet, handle: Handle) -> Running {
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(nodelet.run(stop.clone()));
        Running {
            handle,
            stop,
            task,
            connections: JoinSet::new(),
        }
    }

    fn make(&self, change: impl FnOnce(&mut Config)) -> (Nodelet, Handle) {
        let mut config = Config::new(
            "n1",
            vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            self.dir.path(),
        );
        config.pod_range = PodRange::Fixed("10.64.0.0/18".to_owned());
        config.memory_dir = None;
        config.cluster_dns = vec![Ipv4Addr::new(10, 43, 0, 10).into()];
        config.min_free_disk_bytes = 0;
        config.min_free_memory_bytes = 0;
        change(&mut config);
        let mut runtimes: Vec<Arc<dyn Runtime>> = vec![self.runtime.clone()];
        if !config.unavailable_runtimes.contains_key("oci") {
            runtimes.push(self.oci.clone());
        }
        let clock = Clock::Tokio(
            Timestamp::from_second(crate::fake_api::BEGIN).expect("a time"),
            Instant::now(),
        );
        Nodelet::with_clock(
            self.api.client(),
            config,
            runtimes,
            self.images.clone(),
            self.network.clone(),
            clock,
        )
        .expect("a valid config")
    }

    fn pod(&self, name: &str, extra: Value) {
        let mut spec = json!({"nodeName": "n1", "containers": [{"name": "c", "image": format!("img-{name}")}]});
        for (name, value) in extra.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        self.api.create(
            "pods",
            json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec}),
        );
    }

    async fn status(&self, name: &str, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let status = |api: &FakeApi| {
            let status = api.get("pods", "ns", name)?["status"].clone();
            seen(&status).then_some(status)
        };
        self.api.wait(&format!("{name} {what}"), status).await
    }

    async fn ready(&self, name: &str) -> Value {
        self.status(name, "to be ready", |status| {
            condition(status, "Ready") == "True"
        })
        .await
    }

    async fn event(&self, reason: &str) -> Value {
        let find = |api: &FakeApi| {
            api.list("events")
                .into_iter()
                .find(|event| event["reason"] == reason)
        };
        self.api.wait(&format!("an Event {reason}"), find).await
    }

    fn id(&self, name: &str, attempt: u32) -> ContainerId {
        ContainerId(format!("{name}-uid/c/{attempt}").into())
    }
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a str {
    let list = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .find(|c| c["type"] == type_)
        .and_then(|c| c["status"].as_str())
        .unwrap_or_default()
}

async fn get(handle: &Handle, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = handle.router().oneshot(request).await.expect("an answer");
    let code = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(start_paused = true)]
async fn the_node_registers_reports_and_renews_its_lease() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let ready = |api: &FakeApi| {
        api.get("nodes", "", "n1")
            .filter(|node| condition(&node["status"], "Ready") == "True")
    };
    let node = bench.api.wait("the node", ready).await;
    assert_eq!(node["spec"]["podCIDR"], "10.64.0.0/18");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    assert_eq!(
        node["status"]["nodeInfo"]["containerRuntimeVersion"],
        "fake://1,fake://1"
    );
    assert_eq!(
        node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"],
        10250
    );
    let lease = |api: &FakeApi| {
        Some(api.get("leases", "kube-node-lease", "n1")?["spec"]["renewTime"].clone())
    };
    let first = bench.api.wait("the lease", lease).await;
    bench
        .api
        .wait("the lease renewed", |api| {
            lease(api).filter(|time| *time != first)
        })
        .await;
    bench.api.delete("nodes", "", "n1", 0);
    bench.api.wait("the node anew", ready).await;
    nodelet.stop().await;
    let node = bench.api.get("nodes", "", "n1").expect("the node");
    assert_eq!(condition(&node["status"], "Ready"), "False");
}

#[tokio::test(start_paused = true)]
async fn the_labels_say_which_runtimes_the_node_has_now() {
    let bench = Bench::new();
    bench.api.create(
        "nodes",
        json!({"metadata": {"name": "n1", "labels": {"runtime.wk.dev/gone": "true", "rack": "7"}}}),
    );
    let nodelet = bench.run();
    let labels = |api: &FakeApi| {
        let labels = api.get("nodes", "", "n1")?["metadata"]["labels"].take();
        (labels["runtime.wk.dev/wasm"] == "true").then_some(labels)
    };
    let labels = bench.api.wait("the labels", labels).await;
    assert_eq!(labels["rack"], "7");
    assert_eq!(labels["runtime.wk.dev/oci"], "true");
    assert!(labels["runtime.wk.dev/gone"].is_null(), "{labels}");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_becomes_ready_with_one_status_write_and_keeps_others_conditions() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.api.create(
        "pods",
        json!({
            "metadata": {"namespace": "ns", "name": "web"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "img",
                "args": ["--name=$(HOSTNAME)"], "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}]},
            "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]},
        }),
    );
    let status = bench.ready("web").await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.64.0.1");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(condition(&status, "PodScheduled"), "True");
    assert_eq!(
        status["containerStatuses"][0]["containerID"],
        "wasm://web-uid/c/0"
    );
    assert_eq!(bench.api.patches("pods", "web"), 1);
    let spec = bench
        .runtime
        .spec(&bench.id("web", 0))
        .expect("the container");
    assert_eq!(spec.args, ["--name=web"]);
    assert!(
        spec.env
            .contains(&("IP".to_owned(), "10.64.0.1".to_owned())),
        "{:?}",
        spec.env
    );
    for reason in ["Pulling", "Pulled", "Created", "Started"] {
        bench.event(reason).await;
    }
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_backs_off_and_its_logs_stay_readable() {
    let bench = Bench::new();
    bench
        .runtime
        .script("img-crash", Script::exits(3).prints("hello"));
    let nodelet = bench.run();
    bench.pod("crash", json!({}));
    let waiting = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    let status = bench.status("crash", "to back off", waiting).await;
    let container = &status["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(
        container["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=c pod=crash_ns(crash-uid)"
    );
    assert_eq!(status["phase"], "Running");
    assert_eq!(
        get(&nodelet.handle, "/containerLogs/ns/crash/c").await,
        (200, "hello\n".to_owned())
    );
    assert_eq!(
        get(&nodelet.handle, "/containerLogs/ns/crash/c?previous=true")
            .await
            .0,
        200
    );
    assert_eq!(
        get(&nodelet.handle, "/containerLogs/ns/crash/x").await.0,
        400
    );
    assert_eq!(
        get(&nodelet.handle, "/containerLogs/ns/none/c").await.0,
        404
    );
    let again = |status: &Value| status["containerStatuses"][0]["restartCount"] == 3;
    bench.status("crash", "to restart", again).await;
    assert_eq!(bench.event("BackOff").await["type"], "Warning");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_ends_says_so_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let logs = bench.dir.path().join("logs/ns_web_web-uid");
    assert!(logs.exists());
    bench.api.delete("pods", "ns", "web", 30);
    bench
        .api
        .wait("the pod to go", |api| {
            api.get("pods", "ns", "web").is_none().then_some(())
        })
        .await;
    let last = bench.api.last_patch("pods", "web").expect("a final status");
    let ended = &last["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 143);
    bench.event("Killing").await;
    gone(&logs).await;
    assert!(bench.network.find("web-uid").is_none());
    assert!(bench.runtime.list().await.expect("a list").is_empty());
    nodelet.stop().await;
}

/// Waits until a directory is removed.
async fn gone(path: &Path) {
    let removed = async {
        while path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, removed)
        .await
        .expect("the directory is removed");
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_by_force_is_ended_too() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    bench.api.delete("pods", "ns", "web", 0);
    gone(&bench.dir.path().join("logs/ns_web_web-uid")).await;
    assert!(bench.runtime.list().await.expect("a list").is_empty());
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_backs_off_and_recovers() {
    let bench = Bench::new();
    bench.images.refuse("img-web", "no such thing");
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    let reason =
        |status: &Value| status["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    bench
        .status("web", "to fail", |status| reason(status) == "ErrImagePull")
        .await;
    bench
        .status("web", "to back off", |status| {
            reason(status) == "ImagePullBackOff"
        })
        .await;
    bench.images.allow("img-web");
    bench.ready("web").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_named_and_waited_for() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let from = json!([{"configMapRef": {"name": "settings"}}]);
    bench.pod(
        "web",
        json!({"containers": [{"name": "c", "image": "img", "envFrom": from}]}),
    );
    let waiting = |status: &Value| status["containerStatuses"][0]["state"]["waiting"].clone();
    let status = bench
        .status("web", "to miss it", |status| {
            waiting(status)["reason"] == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(
        waiting(&status)["message"],
        "configmap \"settings\" not found"
    );
    bench.api.create(
        "configmaps",
        json!({"metadata": {"namespace": "ns", "name": "settings"}, "data": {"COLOUR": "red"}}),
    );
    bench.ready("web").await;
    let spec = bench
        .runtime
        .spec(&bench.id("web", 0))
        .expect("the container");
    assert!(spec.env.contains(&("COLOUR".to_owned(), "red".to_owned())));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_lost_containers_start_again_at_their_address_and_strangers_are_removed() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("other", json!({}));
    bench.ready("other").await;
    bench.pod("web", json!({}));
    let before = bench.ready("web").await;
    nodelet.stop().await;
    let stranger = bench.dir.path().join("logs/ns_old_old-uid/c");
    std::fs::create_dir_all(&stranger).expect("a directory");
    bench.api.delete("pods", "ns", "other", 0);
    // Nothing of Wasm survives its process.
    let bench = Bench {
        runtime: Arc::new(FakeRuntime::new()),
        network: Arc::new(FakeNetwork::new()),
        ..bench
    };
    let nodelet = bench.run();
    let restarted = |status: &Value| {
        status["containerStatuses"][0]["restartCount"] == 1 && condition(status, "Ready") == "True"
    };
    let after = bench.status("web", "to restart", restarted).await;
    assert_eq!(after["podIP"], before["podIP"]);
    let last = &after["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (&last["reason"], &last["exitCode"]),
        (&json!("ContainerStatusUnknown"), &json!(137))
    );
    gone(&stranger).await;
    gone(&bench.dir.path().join("logs/ns_other_other-uid")).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn containers_that_still_run_are_adopted_as_they_are() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    nodelet.stop().await;
    let calls = bench.runtime.calls().len();
    let nodelet = bench.run();
    bench.runtime.exit(&bench.id("web", 0), 0);
    let restarted = |status: &Value| {
        status["containerStatuses"][0]["restartCount"] == 1 && condition(status, "Ready") == "True"
    };
    bench.status("web", "to restart", restarted).await;
    assert!(!bench.runtime.calls()[calls..].contains(&"start web-uid/c/0".to_owned()));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn thirty_pods_become_ready_with_at_most_two_writes_each() {
    let bench = Bench::new();
    let nodelet = bench.run();
    for number in 0..30 {
        bench.pod(
            &format!("p{number}"),
            json!({"containers": [{"name": "c", "image": "img"}]}),
        );
    }
    bench.ready("p29").await;
    for number in 0..30 {
        bench.ready(&format!("p{number}")).await;
    }
    let most = (0..30)
        .map(|number| bench.api.patches("pods", &format!("p{number}")))
        .max();
    assert!(most <= Some(2), "{most:?} writes for one pod");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_containers_use_is_told_while_they_run() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let summary = async || {
        let (code, text) = get(&nodelet.handle, "/stats/summary").await;
        assert_eq!(code, 200, "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let rated = async {
        loop {
            let summary = summary().await;
            let pod = summary.pointer("/pods/0").cloned().unwrap_or_default();
            if pod["cpu"]["usageNanoCores"].is_u64() {
                return pod;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let pod = tokio::time::timeout(Duration::from_secs(60), rated).await;
    let pod = pod.expect("a rate within a minute");
    assert_eq!(
        pod["podRef"],
        json!({"name": "web", "namespace": "ns", "uid": "web-uid"})
    );
    // The fake's containers have all used the same.
    let container = &pod["containers"][0];
    assert_eq!(container["name"], "c");
    assert_eq!(container["cpu"]["usageCoreNanoSeconds"], 1_000_000);
    assert_eq!(container["cpu"]["usageNanoCores"], 0);
    assert_eq!(container["memory"]["workingSetBytes"], 65_536);
    assert!(summary().await["node"]["cpu"]["usageNanoCores"].is_u64());
    let (_, text) = get(&nodelet.handle, "/metrics/resource").await;
    let line =
        "container_memory_working_set_bytes{container=\"c\",namespace=\"ns\",pod=\"web\"} 65536 ";
    assert!(text.contains(line), "{text}");
    nodelet.stop().await;
}
