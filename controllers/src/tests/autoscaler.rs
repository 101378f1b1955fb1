//! Autoscalers under load that rises and falls, with faults, restarts and rivals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fake_api::{FakeApi, Faults};

/// A Deployment whose pods request a whole CPU.
fn deploy(cluster: &Cluster, replicas: i32) {
    cluster.deploy(replicas, json!({}));
    let containers =
        json!([{"name": "c", "image": "one", "resources": {"requests": {"cpu": "1"}}}]);
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
    let patch = json!({"spec": {"template": template}});
    cluster.api.patch("deployments", "web", patch);
}

/// Half of what is requested should be used.
fn autoscale(cluster: &Cluster, name: &str, behavior: Value) {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let half = json!({"type": "Utilization", "averageUtilization": 50});
    cluster.api.create(
        "horizontalpodautoscalers",
        json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {
                "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 20, "behavior": behavior,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": half}}],
            },
        }),
    );
}

fn wanted(api: &FakeApi) -> i64 {
    let web = api.find("deployments", "web").unwrap();
    web["spec"]["replicas"].as_i64().unwrap()
}

fn condition(api: &FakeApi, name: &str, kind: &str) -> String {
    let autoscaler = api.find("horizontalpodautoscalers", name).unwrap();
    let conditions = autoscaler["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let found = conditions.find(|condition| condition["type"] == kind);
    let text = |found: &Value, field: &str| found[field].as_str().unwrap_or("").to_owned();
    found.map_or(String::new(), |found| {
        format!("{} {}", text(&found, "status"), text(&found, "reason"))
    })
}

/// The messages of Events with a reason, once there are so many.
async fn told(cluster: &Cluster, reason: &str, count: usize) -> Vec<String> {
    let enough = |_: &FakeApi| cluster.messages(reason).len() >= count;
    cluster.wait(reason, enough).await;
    cluster.messages(reason)
}

/// The replicas that the Deployment was given, in order, while `seconds` go by.
async fn watch(cluster: &Cluster, seconds: u64) -> Vec<i64> {
    let mut seen = vec![wanted(&cluster.api)];
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = wanted(&cluster.api);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_deployment_follows_its_load_up_at_once_and_down_after_the_window() {
    let cluster = Cluster::new(0);
    deploy(&cluster, 1);
    cluster.api.set_load(4000);
    autoscale(&cluster, "web", Value::Null);
    cluster.wait("8 replicas", |api| wanted(api) == 8).await;
    let said = told(&cluster, "SuccessfulRescale", 2).await;
    let reason = "cpu resource utilization (percentage of request) above target";
    let sizes = said.iter().map(|said| said.split(';').next().unwrap());
    assert_eq!(sizes.collect::<Vec<_>>(), ["New size: 4", "New size: 8"]);
    assert!(said[0].ends_with(reason), "{said:?}");
    let status = cluster.api.find("horizontalpodautoscalers", "web").unwrap()["status"].take();
    assert_eq!(status["desiredReplicas"], 8, "{status}");
    cluster
        .wait("a metric at its target", |api| {
            let status = &api.find("horizontalpodautoscalers", "web").unwrap()["status"];
            let metric = &status["currentMetrics"][0]["resource"]["current"];
            metric["averageUtilization"] == 50 && metric["averageValue"] == "500m"
        })
        .await;

    cluster.api.set_load(1000);
    assert_eq!(watch(&cluster, 270).await, [8]);
    let held = condition(&cluster.api, "web", "AbleToScale");
    assert_eq!(held, "True ScaleDownStabilized");
    cluster.wait("2 replicas", |api| wanted(api) == 2).await;
    let said = told(&cluster, "SuccessfulRescale", 3).await;
    assert_eq!(
        said.last().unwrap(),
        "New size: 2; reason: All metrics below target"
    );
}

#[tokio::test(start_paused = true)]
async fn a_load_that_swings_faster_than_the_window_changes_nothing_once_it_is_met() {
    for seed in 0..8 {
        let cluster = Cluster::new(seed);
        deploy(&cluster, 2);
        cluster.api.set_load(5000);
        autoscale(&cluster, "web", Value::Null);
        cluster.wait("10 replicas", |api| wanted(api) == 10).await;
        for swing in 0..20 {
            cluster
                .api
                .set_load(if swing % 2 == 0 { 800 } else { 5000 });
            assert_eq!(watch(&cluster, 60 + 20 * seed).await, [10]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_that_is_content_writes_nothing() {
    let cluster = Cluster::new(0);
    deploy(&cluster, 2);
    cluster.api.set_load(1000);
    autoscale(&cluster, "web", Value::Null);
    cluster
        .wait("content", |api| {
            condition(api, "web", "ScalingActive") == "True ValidMetricFound"
                && condition(api, "web", "AbleToScale") == "True ReadyForNewScale"
        })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = *cluster.api.changed().borrow();
    let calls = cluster.api.calls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(*cluster.api.changed().borrow(), before);
    // Forty looks: each reads the scale, and nothing else but what pods use.
    let reads = cluster.api.calls()["get deployments"] - calls["get deployments"];
    assert_eq!(reads, 40);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_set_to_nothing_stays_so_until_it_is_not() {
    let cluster = Cluster::new(0);
    deploy(&cluster, 2);
    cluster.api.set_load(9000);
    cluster
        .api
        .patch("deployments", "web", json!({"spec": {"replicas": 0}}));
    autoscale(&cluster, "web", Value::Null);
    let disabled =
        |api: &FakeApi| condition(api, "web", "ScalingActive") == "False ScalingDisabled";
    cluster.wait("disabled", disabled).await;
    assert_eq!(watch(&cluster, 120).await, [0]);
    cluster
        .api
        .patch("deployments", "web", json!({"spec": {"replicas": 30}}));
    cluster.wait("the most", |api| wanted(api) == 20).await;
    let said = told(&cluster, "SuccessfulRescale", 1).await;
    let reason = "New size: 20; reason: Current number of replicas above Spec.MaxReplicas";
    assert_eq!(said[0], reason);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_scales_by_hand_is_overruled_once_a_period() {
    let cluster = Cluster::new(0);
    deploy(&cluster, 4);
    cluster.api.set_load(2000);
    autoscale(&cluster, "web", Value::Null);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = cluster.api.calls();
    for _ in 0..10 {
        cluster
            .api
            .patch("deployments", "web", json!({"spec": {"replicas": 2}}));
        cluster.wait("overruled", |api| wanted(api) == 4).await;
    }
    let after = cluster.api.calls();
    let writes = after["update deployments"] - before.get("update deployments").unwrap_or(&0);
    // One each, and one more where the Deployment's status was written meanwhile.
    assert!((10..=20).contains(&writes), "{writes}");
}

#[tokio::test(start_paused = true)]
async fn two_autoscalers_of_the_same_pods_do_nothing_and_say_so() {
    let cluster = Cluster::new(0);
    deploy(&cluster, 2);
    cluster.api.set_load(1000);
    autoscale(&cluster, "one", Value::Null);
    autoscale(&cluster, "two", Value::Null);
    cluster
        .wait("both refuse", |api| {
            ["one", "two"]
                .iter()
                .all(|name| condition(api, name, "ScalingActive") == "False AmbiguousSelector")
        })
        .await;
    let said = told(&cluster, "AmbiguousSelector", 2).await;
    let expected = "pods by selector app=web are controlled by multiple HPAs: [ns/one ns/two]";
    assert_eq!(said[0], expected);
    cluster
        .api
        .delete("horizontalpodautoscalers", "two", "Background");
    cluster
        .wait("one works", |api| {
            condition(api, "one", "ScalingActive") == "True ValidMetricFound"
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn without_metrics_nothing_is_scaled_and_the_reason_is_told() {
    let cluster = Cluster::new(0);
    cluster
        .starting
        .store(false, std::sync::atomic::Ordering::SeqCst);
    deploy(&cluster, 2);
    autoscale(&cluster, "web", Value::Null);
    let active = "False FailedGetResourceMetric";
    cluster
        .wait("told", |api| {
            condition(api, "web", "ScalingActive") == active
        })
        .await;
    assert_eq!(watch(&cluster, 600).await, [2]);
    let cause = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned \
                 from resource metrics API";
    assert_eq!(told(&cluster, "FailedGetResourceMetric", 1).await, [cause]);
    let error = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {cause}"
    );
    assert_eq!(
        told(&cluster, "FailedComputeMetricsReplicas", 1).await,
        [error]
    );
    cluster.api.delete("deployments", "web", "Background");
    cluster
        .wait("no scale", |api| {
            condition(api, "web", "AbleToScale") == "False FailedGetScale"
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn faults_and_restarts_do_not_keep_it_from_converging() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(seed);
        let (request, watch) = (15, 20);
        cluster.api.set_faults(Faults { request, watch });
        deploy(&cluster, 1);
        cluster.api.set_load(3000);
        let quick = json!({"scaleDown": {"stabilizationWindowSeconds": 30, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}]},
            "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}});
        autoscale(&cluster, "web", quick);
        cluster.wait("6 replicas", |api| wanted(api) == 6).await;
        cluster.restart().await;
        cluster.api.set_load(1500);
        cluster.wait("3 replicas", |api| wanted(api) == 3).await;
        cluster.restart().await;
        cluster.api.set_load(3500);
        cluster.wait("7 replicas", |api| wanted(api) == 7).await;
        assert!(cluster.api.faulty() > 0);
        cluster.api.set_faults(Faults::default());
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(self::watch(&cluster, 300).await, [7]);
    }
}
