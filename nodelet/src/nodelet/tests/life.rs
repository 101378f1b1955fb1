//! The life of a pod: hooks, probes, changes, ends, and what outlives the node's process.

use super::*;

/// The place of a container's status: `containerStatuses`, and the first of them.
pub(super) fn first<'a>(status: &'a Value, list: &str) -> &'a Value {
    &status[list][0]
}

pub(super) fn restarts(status: &Value) -> u64 {
    first(status, "containerStatuses")["restartCount"]
        .as_u64()
        .unwrap_or_default()
}

impl Bench {
    pub(super) async fn gone(&self, name: &str) {
        let gone = |api: &FakeApi| api.get("pods", "ns", name).is_none().then_some(());
        self.api.wait(&format!("{name} to go"), gone).await;
    }

    pub(super) async fn message(&self, reason: &str) -> String {
        let event = self.event(reason).await;
        event["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The calls made to the runtime that begin like this, in order.
    fn called(&self, verb: &str) -> Vec<String> {
        let calls = self.runtime.calls().into_iter();
        calls.filter(|call| call.starts_with(verb)).collect()
    }

    /// Waits for many pods: looks now and then, since looking takes long.
    pub(super) async fn patience<T>(&self, seen: impl Fn(&FakeApi) -> Option<T>) -> T {
        let looks = async {
            loop {
                if let Some(seen) = seen(&self.api) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let limit = Duration::from_secs(900);
        tokio::time::timeout(limit, looks)
            .await
            .expect("within 15 minutes")
    }

    /// The same API and images under a process that knows nothing.
    fn after_kill(self) -> Bench {
        Bench {
            runtime: Arc::new(FakeRuntime::new()),
            network: Arc::new(FakeNetwork::new()),
            ..self
        }
    }
}

fn container(extra: Value) -> Value {
    let mut container = json!({"name": "c", "image": "img"});
    for (name, value) in extra.as_object().into_iter().flatten() {
        container[name] = value.clone();
    }
    json!({"containers": [container]})
}

fn exec(words: &[&str]) -> Value {
    json!({"exec": {"command": words}})
}

#[tokio::test(start_paused = true)]
async fn hooks_run_in_the_container_after_its_start_and_before_its_end() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let hooks = json!({"postStart": exec(&["echo", "up"]), "preStop": exec(&["echo", "down"])});
    bench.pod("web", container(json!({"lifecycle": hooks})));
    bench.ready("web").await;
    bench.api.delete("pods", "ns", "web", 30);
    bench.gone("web").await;
    let calls = bench.runtime.calls();
    let at = |call: &str| calls.iter().position(|other| other == call).expect(call);
    assert!(at("start web-uid/c/0") < at("exec web-uid/c/0 echo up"));
    assert!(at("exec web-uid/c/0 echo up") < at("exec web-uid/c/0 echo down"));
    assert!(at("exec web-uid/c/0 echo down") < at("stop web-uid/c/0"));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_post_start_hook_ends_its_container() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let hooks = json!({"postStart": exec(&["exit", "3"])});
    bench.pod("web", container(json!({"lifecycle": hooks})));
    let waits = |status: &Value| {
        first(status, "containerStatuses")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    let status = bench.status("web", "to back off", waits).await;
    assert_eq!(condition(&status, "Ready"), "False");
    assert_eq!(
        bench.message("FailedPostStartHook").await,
        "PostStartHook failed"
    );
    assert_eq!(bench.message("Killing").await, "FailedPostStartHook");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_pre_stop_hook_is_told_and_holds_nothing_up() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let hooks = json!({"preStop": exec(&["exit", "3"])});
    bench.pod("web", container(json!({"lifecycle": hooks})));
    bench.ready("web").await;
    bench.api.delete("pods", "ns", "web", 30);
    bench.gone("web").await;
    assert_eq!(
        bench.message("FailedPreStopHook").await,
        "PreStopHook failed"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_sleeps_takes_of_the_grace_and_no_more() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let hooks = json!({"preStop": {"sleep": {"seconds": 600}}});
    bench.pod("web", container(json!({"lifecycle": hooks})));
    bench.ready("web").await;
    let asked = Instant::now();
    bench.api.delete("pods", "ns", "web", 20);
    bench.gone("web").await;
    let took = asked.elapsed().as_secs();
    assert!((20..30).contains(&took), "it took {took} s");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_is_ready_while_its_readiness_probe_passes() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let probe = |words: &[&str]| json!({"exec": {"command": words}, "periodSeconds": 1, "failureThreshold": 1});
    bench.pod("up", container(json!({"readinessProbe": probe(&["echo"])})));
    bench.pod(
        "down",
        container(json!({"readinessProbe": probe(&["exit", "1"])})),
    );
    bench.ready("up").await;
    let runs = |status: &Value| status["phase"] == "Running";
    let status = bench.status("down", "to run", runs).await;
    let container = first(&status, "containerStatuses");
    assert_eq!(
        (&container["started"], &container["ready"]),
        (&json!(true), &json!(false))
    );
    bench.event("Unhealthy").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_alive_is_restarted() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let probe =
        json!({"exec": {"command": ["exit", "1"]}, "periodSeconds": 1, "failureThreshold": 2});
    bench.pod("web", container(json!({"livenessProbe": probe})));
    bench
        .status("web", "to restart", |status| restarts(status) == 1)
        .await;
    assert_eq!(
        bench.message("Killing").await,
        "Container c failed liveness probe, will be restarted"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sidecars_end_last_started_first_after_the_containers_they_serve() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let sidecar = |name: &str| json!({"name": name, "image": "img", "restartPolicy": "Always"});
    let spec = json!({"initContainers": [sidecar("s"), sidecar("t")]});
    bench.pod("web", spec);
    bench.ready("web").await;
    bench.api.delete("pods", "ns", "web", 30);
    bench.gone("web").await;
    let mut stops = bench.called("stop");
    stops.truncate(3);
    assert_eq!(
        stops,
        ["stop web-uid/c/0", "stop web-uid/t/0", "stop web-uid/s/0"]
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_leaves_a_message_of_its_end() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let message = json!({"terminationMessagePath": "/tmp/last-words"});
    bench.pod("web", container(message));
    bench.ready("web").await;
    let spec = bench.runtime.spec(&bench.id("web", 0)).expect("a spec");
    let mount = &spec.mounts[0];
    assert_eq!(mount.destination, Path::new("/tmp/last-words"));
    std::fs::write(&mount.source, "so it goes").expect("write");
    assert!(bench.runtime.exit(&bench.id("web", 0), 1));
    let restarted = |status: &Value| restarts(status) == 1;
    let status = bench.status("web", "to restart", restarted).await;
    let ended = &first(&status, "containerStatuses")["lastState"]["terminated"];
    assert_eq!(
        (&ended["message"], &ended["exitCode"]),
        (&json!("so it goes"), &json!(1))
    );
    assert!(!mount.source.exists());
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_fails_in_silence_shows_the_end_of_its_log_if_it_may() {
    let bench = Bench::new();
    let script = Script::exits(2).prints("out of luck");
    bench.runtime.script("img", script);
    let nodelet = bench.run();
    let mut spec = container(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}));
    spec["restartPolicy"] = "Never".into();
    bench.pod("job", spec);
    let failed = |status: &Value| status["phase"] == "Failed";
    let status = bench.status("job", "to fail", failed).await;
    let ended = &first(&status, "containerStatuses")["state"]["terminated"];
    assert_eq!(ended["message"], "out of luck\n");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_joins_a_pod_that_runs() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let add = |name: &'static str, target: &'static str| {
        let added = json!({"name": name, "image": "debug", "targetContainerName": target});
        bench.api.edit("pods", "ns", "web", |pod| {
            let list = &mut pod["spec"]["ephemeralContainers"];
            let mut all = list.as_array().cloned().unwrap_or_default();
            all.push(added);
            *list = all.into();
        });
    };
    add("look", "c");
    let runs = |status: &Value| {
        first(status, "ephemeralContainerStatuses")["state"]["running"].is_object()
    };
    let status = bench.status("web", "to be looked at", runs).await;
    assert_eq!(condition(&status, "Ready"), "True");
    let started = |api: &FakeApi| {
        let mut events = api.list("events").into_iter();
        events.find(|event| {
            event["involvedObject"]["fieldPath"] == "spec.ephemeralContainers{look}"
                && event["reason"] == "Started"
        })
    };
    bench.api.wait("an Event of it", started).await;
    add("lost", "nobody");
    let refused = |status: &Value| {
        status["ephemeralContainerStatuses"][1]["state"]["waiting"]["reason"]
            == "CreateContainerConfigError"
    };
    bench.status("web", "to refuse another", refused).await;
    bench.api.delete("pods", "ns", "web", 30);
    bench.gone("web").await;
    assert!(bench.runtime.list().await.expect("a list").is_empty());
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_image_replaces_the_container() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.pod("web", json!({"restartPolicy": "Never"}));
    bench.ready("web").await;
    bench.api.edit("pods", "ns", "web", |pod| {
        pod["spec"]["containers"][0]["image"] = "img-new".into();
    });
    let replaced = |status: &Value| restarts(status) == 1 && condition(status, "Ready") == "True";
    let status = bench.status("web", "to be replaced", replaced).await;
    assert_eq!(first(&status, "containerStatuses")["image"], "img-new");
    assert_eq!(
        bench.message("Killing").await,
        "Container c definition changed, will be restarted"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_counts_from_when_it_was_given() {
    let bench = Bench::new();
    let stubborn = Script {
        ignores_stop: true,
        ..Script::runs()
    };
    bench.runtime.script("img-web", stubborn);
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    let asked = Instant::now();
    bench.api.delete("pods", "ns", "web", 300);
    bench.event("Killing").await;
    bench.api.delete("pods", "ns", "web", 1);
    bench.gone("web").await;
    let took = asked.elapsed().as_secs();
    assert!(took < 10, "it took {took} s");
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_fails_and_the_next_one_runs() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let asks = |cpu: &str| container(json!({"resources": {"requests": {"cpu": cpu}}}));
    bench.pod("big", asks("1000000"));
    let failed = |status: &Value| status["phase"] == "Failed";
    let status = bench.status("big", "to fail", failed).await;
    assert_eq!(status["reason"], "OutOfcpu");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000000, used: 0, "),
        "{message}"
    );
    assert!(status["containerStatuses"].is_null());
    assert_eq!(bench.event("OutOfcpu").await["type"], "Warning");
    bench.pod("small", asks("1m"));
    bench.ready("small").await;
    bench.api.delete("pods", "ns", "big", 30);
    bench.gone("big").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_port_of_the_node_is_one_pods_at_a_time() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let asks = container(json!({"ports": ports}));
    bench.pod("first", asks.clone());
    bench.ready("first").await;
    bench.pod("second", asks.clone());
    let failed = |status: &Value| status["phase"] == "Failed";
    let status = bench.status("second", "to fail", failed).await;
    assert_eq!(status["reason"], "NodePorts");
    assert_eq!(
        status["message"],
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    );
    assert_eq!(bench.event("NodePorts").await["type"], "Warning");
    bench.api.delete("pods", "ns", "first", 1);
    bench.gone("first").await;
    bench.pod("third", asks);
    bench.ready("third").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_port_stays_with_the_pod_that_had_it() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let asks = container(json!({"ports": ports}));
    bench.pod("web", asks.clone());
    bench.ready("web").await;
    nodelet.stop().await;
    // Listed before the other.
    bench.pod("another", asks);
    let nodelet = bench.run();
    let failed = |status: &Value| status["reason"] == "NodePorts";
    bench.status("another", "to be refused", failed).await;
    bench.ready("web").await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_places_of_pods_that_have_ended_are_free() {
    let bench = Bench::new();
    bench.runtime.script("img-job", Script::exits(0));
    let nodelet = bench.run_with(|config| config.max_pods = 1);
    bench.pod("job", json!({"restartPolicy": "Never"}));
    let done = |status: &Value| status["phase"] == "Succeeded";
    bench.status("job", "to succeed", done).await;
    bench.pod("next", json!({}));
    bench.ready("next").await;
    bench.pod("other", json!({}));
    let failed = |status: &Value| status["reason"] == "OutOfpods";
    bench.status("other", "to be refused", failed).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_outlives_the_nodes_process_as_the_same_container() {
    let bench = Bench::new();
    bench.runtime.script("img-web", Script::serves());
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    let before = bench.ready("web").await;
    nodelet.stop().await;
    let patches = bench.api.patches("pods", "web");
    let bench = bench.after_kill();
    bench.runtime.script("img-web", Script::serves());
    let nodelet = bench.run();
    let serves = async {
        while bench.called("start web-uid/c/0").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    let served = tokio::time::timeout(limit, serves).await;
    served.expect("it serves again");
    assert_eq!(bench.ready("web").await, before);
    assert_eq!(bench.api.patches("pods", "web"), patches);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_ends_with_the_nodes_process_and_its_policy_decides() {
    let bench = Bench::new();
    let nodelet = bench.run();
    for (name, policy) in [("always", "Always"), ("never", "Never")] {
        bench.pod(name, json!({"restartPolicy": policy}));
        bench.ready(name).await;
    }
    nodelet.stop().await;
    let bench = bench.after_kill();
    let nodelet = bench.run();
    let restarted = |status: &Value| restarts(status) == 1 && condition(status, "Ready") == "True";
    bench.status("always", "to restart", restarted).await;
    let failed = |status: &Value| status["phase"] == "Failed";
    let status = bench.status("never", "to fail", failed).await;
    let container = first(&status, "containerStatuses");
    assert_eq!(
        container["state"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    assert_eq!(container["restartCount"], 0);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_are_found_again_and_those_deleted_meanwhile_are_torn_down() {
    const PODS: usize = 1_000;
    let bench = Bench::new();
    bench.runtime.script("img", Script::serves());
    let nodelet = bench.run();
    for number in 0..PODS {
        bench.pod(&format!("p{number}"), container(json!({})));
    }
    let ready = |api: &FakeApi| {
        let pods = api.list("pods");
        let mut all = pods.iter().map(|pod| condition(&pod["status"], "Ready"));
        all.all(|ready| ready == "True").then_some(pods.len())
    };
    let slow = bench.patience(ready).await;
    assert_eq!(slow, PODS);
    nodelet.stop().await;
    // Half of them go while nobody looks; of these, half by force.
    for number in 0..PODS / 2 {
        let grace = if number % 2 == 0 { 30 } else { 0 };
        bench.api.delete("pods", "ns", &format!("p{number}"), grace);
    }
    let bench = bench.after_kill();
    bench.runtime.script("img", Script::serves());
    let nodelet = bench.run();
    let left = bench
        .patience(|api| {
            let left = api.list("pods").len();
            let serving = bench.called("start").len();
            (left == PODS / 2 && serving >= left).then_some(serving)
        })
        .await;
    assert_eq!(left, PODS / 2);
    for pod in bench.api.list("pods") {
        assert_eq!(restarts(&pod["status"]), 0, "{pod}");
    }
    nodelet.stop().await;
}
