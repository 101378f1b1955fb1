//! Cluster addresses: given once, given back, refused in words.

use serde_json::Value;

use crate::harness::{Cluster, config};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}"}},"spec":{{"ports":[{{"port":80}}],"selector":{{"app":"a"}}{spec}}}}}"#
    )
}

async fn create(cluster: &Cluster, name: &str, spec: &str) -> Value {
    cluster
        .ok(&format!("POST {SERVICES}"), &service(name, spec))
        .await
}

#[tokio::test]
async fn a_service_gets_an_address_and_keeps_it() {
    let cluster = Cluster::start().await;
    let created = create(&cluster, "a", "").await;
    let address = created["spec"]["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned();
    assert!(address.starts_with("10.43."), "{address}");
    assert_eq!(created["spec"]["clusterIPs"][0], *address);
    let replaced = cluster
        .ok(
            &format!("PUT {SERVICES}/a"),
            &service("a", r#","sessionAffinity":"None""#),
        )
        .await;
    assert_eq!(replaced["spec"]["clusterIP"], *address);
    let other = create(&cluster, "b", "").await;
    assert_ne!(other["spec"]["clusterIP"], *address);
}

#[tokio::test]
async fn an_address_is_free_again_when_its_service_is_gone() {
    let cluster = Cluster::start().await;
    let fixed = r#","clusterIP":"10.43.0.50""#;
    create(&cluster, "a", fixed).await;
    let taken = cluster
        .failure(&format!("POST {SERVICES}"), &service("b", fixed))
        .await;
    assert_eq!(
        taken,
        r#"422 Invalid: Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.43.0.50"]: failed to allocate IP 10.43.0.50: provided IP is already allocated"#
    );
    cluster.ok(&format!("DELETE {SERVICES}/a"), "").await;
    create(&cluster, "b", fixed).await;
}

#[tokio::test]
async fn of_two_who_want_one_address_one_gets_it() {
    let cluster = Cluster::start().await;
    let tries = (0..8).map(|index| {
        let cluster = &cluster;
        async move {
            let body = service(&format!("s{index}"), r#","clusterIP":"10.43.0.60""#);
            cluster
                .send(&format!("POST {SERVICES}"), &body)
                .await
                .code
                .as_u16()
        }
    });
    let mut codes = futures::future::join_all(tries).await;
    codes.sort_unstable();
    assert_eq!(codes, [201, 422, 422, 422, 422, 422, 422, 422]);
}

#[tokio::test]
async fn headless_services_have_none_and_others_are_refused() {
    let cluster = Cluster::start().await;
    let headless = create(&cluster, "a", r#","clusterIP":"None""#).await;
    assert_eq!(headless["spec"]["clusterIP"], "None");
    let outside = cluster
        .failure(
            &format!("POST {SERVICES}"),
            &service("b", r#","clusterIP":"10.9.0.1""#),
        )
        .await;
    assert!(outside.contains("failed to allocate IP 10.9.0.1: the provided IP (10.9.0.1) is not in the valid range. The range of valid IPs is 10.43.0.0/16"), "{outside}");
}

#[tokio::test]
async fn a_node_port_belongs_to_one_service_until_it_is_given_back() {
    let cluster = Cluster::start().await;
    let at = |name: &str, port: u16| {
        let ports = format!(r#"[{{"port":80,"nodePort":{port}}}]"#);
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"type":"NodePort","ports":{ports}}}}}"#
        )
    };
    let post = format!("POST {SERVICES}");
    let first = cluster.ok(&post, &at("a", 30080)).await;
    assert_eq!(first["spec"]["ports"][0]["nodePort"], 30080);
    let taken = cluster.failure(&post, &at("b", 30080)).await;
    assert_eq!(
        taken,
        r#"422 Invalid: Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"#
    );
    let outside = cluster.failure(&post, &at("b", 80)).await;
    assert_eq!(
        outside,
        r#"422 Invalid: Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"#
    );
    let given = create(&cluster, "b", r#","type":"LoadBalancer""#).await;
    let number = given["spec"]["ports"][0]["nodePort"]
        .as_i64()
        .expect("a number");
    assert!(
        (30_000..=32_767).contains(&number) && number != 30080,
        "{number}"
    );
    let again = service("b", r#","type":"NodePort""#);
    let again = cluster.ok(&format!("PUT {SERVICES}/b"), &again).await;
    assert_eq!(
        again["spec"]["ports"][0]["nodePort"], number,
        "it keeps its number"
    );

    let patch = r#"{"spec":{"type":"ClusterIP"}}"#;
    let plain = cluster.ok(&format!("PATCH {SERVICES}/a"), patch).await;
    assert!(plain["spec"]["ports"][0]["nodePort"].is_null(), "{plain}");
    cluster.ok(&post, &at("c", 30080)).await;
    cluster.ok(&format!("DELETE {SERVICES}/c"), "").await;
    cluster.ok(&post, &at("d", 30080)).await;
}

#[tokio::test]
async fn the_cluster_has_a_service_of_its_own() {
    let cluster = Cluster::start().await;
    let own = cluster.ok(&format!("GET {SERVICES}/kubernetes"), "").await;
    assert_eq!(own["spec"]["clusterIP"], "10.43.0.1");
    let slice = cluster
        .ok(
            "GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
            "",
        )
        .await;
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.1");
    assert_eq!(slice["ports"][0]["port"], 6443);
    let dns = "GET /api/v1/namespaces/kube-system/services/kube-dns";
    let dns = cluster.ok(dns, "").await;
    assert_eq!(dns["spec"]["clusterIP"], "10.43.0.10");
    assert_eq!(dns["spec"]["ports"][1]["protocol"], "TCP");
}

/// The addresses that the cluster's own Service leads to, by slice.
async fn endpoints(cluster: &Cluster) -> Vec<String> {
    let slices = "GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slices = cluster.ok(slices, "").await;
    let slices = slices["items"].as_array().expect("items").iter();
    let shown = slices.map(|slice| {
        let endpoints = slice["endpoints"].as_array().expect("endpoints").iter();
        let addresses: Vec<_> = endpoints
            .filter_map(|endpoint| endpoint["addresses"][0].as_str())
            .collect();
        let name = slice["metadata"]["name"].as_str().expect("a name");
        format!(
            "{name} {} {}",
            slice["ports"][0]["port"],
            addresses.join(",")
        )
    });
    shown.collect()
}

#[tokio::test]
async fn the_service_leads_to_every_apiserver_until_it_stops() {
    let cluster = Cluster::start().await;
    let with = |address: &str| api::Config {
        advertised: address.parse().expect("an address"),
        ..config()
    };
    let second = cluster.join(with("192.0.2.2:6443")).await;
    let third = cluster.join(with("192.0.2.1:7443")).await;
    assert_eq!(
        endpoints(&cluster).await,
        [
            "kubernetes 6443 192.0.2.1,192.0.2.2",
            "kubernetes-ipv4-7443 7443 192.0.2.1"
        ]
    );
    second.stop().await;
    third.stop().await;
    assert_eq!(endpoints(&cluster).await, ["kubernetes 6443 192.0.2.1"]);
    let leases = "GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let leases = cluster.ok(leases, "").await;
    let leases = leases["items"].as_array().expect("items");
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0]["spec"]["holderIdentity"], "192.0.2.1:6443");
}

#[tokio::test]
async fn a_full_range_is_said_to_be_full() {
    let mut config = config();
    config.service_range = "10.43.0.0/30".parse().expect("a range");
    let cluster = Cluster::start_with(config).await;
    create(&cluster, "a", "").await;
    let full = cluster
        .failure(&format!("POST {SERVICES}"), &service("b", ""))
        .await;
    assert_eq!(
        full,
        "500 InternalError: Internal error occurred: failed to allocate a serviceIP: range is full"
    );
    cluster.ok(&format!("DELETE {SERVICES}/a"), "").await;
    create(&cluster, "b", "").await;
}
