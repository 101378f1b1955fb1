//! Endpoints, EndpointSlices and what mirrors one to the other.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::fake_api::FakeApi;

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"team": "a"}}, "spec": spec})
}

fn addresses(api: &FakeApi) -> usize {
    let endpoints = api.find("endpoints", "web").unwrap_or_default();
    let subsets = endpoints["subsets"].as_array().cloned();
    let subsets = subsets.unwrap_or_default().into_iter();
    subsets
        .map(|subset| subset["addresses"].as_array().map_or(0, Vec::len))
        .sum()
}

#[tokio::test(start_paused = true)]
async fn endpoints_and_slices_are_made_follow_and_go_with_their_service() {
    let cluster = Cluster::new(0);
    let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}});
    cluster.api.patch("nodes", "n", zone);
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    cluster.api.create("services", service(spec));
    cluster.deploy(3, json!({}));
    cluster
        .wait("three addresses", |api| addresses(api) == 3)
        .await;
    let slices = |api: &FakeApi| -> usize {
        let slices = api.all("endpointslices");
        let of = slices
            .iter()
            .map(|slice| slice["endpoints"].as_array().unwrap().len());
        of.sum()
    };
    cluster
        .wait("three in slices", |api| slices(api) == 3)
        .await;
    let slice = cluster.api.all("endpointslices").remove(0);
    let metadata = &slice["metadata"];
    let label = |name: &str| metadata["labels"][name].clone();
    assert_eq!(label("team"), "a");
    assert_eq!(label("kubernetes.io/service-name"), "web");
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Service");
    assert!(
        metadata["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"].is_string()
    );
    assert_eq!(slice["endpoints"][0]["zone"], "z");
    let labels = json!({"metadata": {"labels": {"team": "b"}}});
    cluster.api.patch("services", "web", labels);
    let relabelled = |api: &FakeApi| {
        let labels = |of: &str| api.all(of).remove(0)["metadata"]["labels"]["team"].clone();
        labels("endpointslices") == "b" && labels("endpoints") == "b"
    };
    cluster.wait("new labels", relabelled).await;
    let none = json!({"spec": {"replicas": 0}});
    cluster.api.patch("deployments", "web", none);
    let empty = |api: &FakeApi| addresses(api) == 0 && slices(api) == 0;
    cluster.wait("nothing in them", empty).await;
    assert_eq!(cluster.api.count("endpointslices"), 1);
    cluster.api.delete("services", "web", "Background");
    let gone = |api: &FakeApi| api.count("endpoints") + api.count("endpointslices") == 0;
    cluster.wait("nothing left", gone).await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_a_users_own_are_mirrored_until_the_service_selects() {
    let cluster = Cluster::new(0);
    let ports = json!([{"port": 80}]);
    cluster
        .api
        .create("services", service(json!({"ports": ports})));
    cluster.api.create(
        "endpoints",
        json!({
            "metadata": {"name": "web", "namespace": "ns", "labels": {"by": "hand"}},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": ports}],
        }),
    );
    let mirrored = |api: &FakeApi| {
        api.all("endpointslices").iter().any(|slice| {
            slice["endpoints"][0]["addresses"][0] == "192.0.2.1"
                && slice["metadata"]["labels"]["by"] == "hand"
                && slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
                    == "endpointslicemirroring-controller.k8s.io"
        })
    };
    cluster.wait("a mirror", mirrored).await;
    let skip = |value: Value| {
        let labels = json!({"endpointslice.kubernetes.io/skip-mirror": value});
        json!({"metadata": {"labels": labels}})
    };
    cluster.api.patch("endpoints", "web", skip("true".into()));
    let none = |api: &FakeApi| api.count("endpointslices") == 0;
    cluster.wait("no mirror", none).await;
    cluster.api.patch("endpoints", "web", skip(Value::Null));
    cluster.wait("a mirror again", mirrored).await;
    let selector = json!({"spec": {"selector": {"app": "web"}}});
    cluster.api.patch("services", "web", selector);
    let own = |api: &FakeApi| {
        let endpoints = api.find("endpoints", "web").unwrap();
        !mirrored(api) && api.count("endpointslices") == 1 && endpoints["subsets"] == json!([])
    };
    cluster.wait("slices of its own", own).await;
}
