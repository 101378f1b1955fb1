//! Pods of ordinary containers, and of both kinds: what their runtime is told, and where their sockets are.

use super::*;

impl Bench {
    /// A pod of one ordinary container `c`; `container` and `spec` are merged into its fields.
    pub(super) fn contained(&self, name: &str, container: Value, spec: Value) {
        let image = format!("oci-{name}");
        self.images.contain(&image);
        let mut fields = json!({"name": "c", "image": image});
        for (name, value) in container.as_object().into_iter().flatten() {
            fields[name] = value.clone();
        }
        let mut all = json!({"containers": [fields]});
        for (name, value) in spec.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        self.pod(name, all);
    }

    fn waiting(status: &Value) -> (String, String) {
        let waiting = &status["containerStatuses"][0]["state"]["waiting"];
        let text = |field: &str| waiting[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// Why the pod's container waits, once it waits for that reason.
    async fn waits(&self, name: &str, reason: &str) -> String {
        let seen = |status: &Value| Bench::waiting(status).0 == reason;
        let status = self.status(name, &format!("to show {reason}"), seen).await;
        Bench::waiting(&status).1
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_has_its_pods_address_in_a_namespace_of_the_pods_own() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.contained("web", json!({}), json!({}));
    let status = bench.ready("web").await;
    assert_eq!(
        status["containerStatuses"][0]["containerID"],
        "oci://web-uid/c/0"
    );
    assert_eq!(status["podIP"], "10.64.0.1");
    let spec = bench.oci.spec(&bench.id("web", 0)).expect("a container");
    let namespace = spec.namespaces.network.as_deref();
    assert_eq!(namespace, Some(Path::new("/run/fake/web-uid")));
    assert_eq!(spec.address.loopback.to_string(), "127.0.0.1");
    assert_eq!(spec.hostname, "web");
    bench.pod("component", json!({}));
    bench.ready("component").await;
    assert!(bench.network.isolated("component-uid").is_none());
    bench.api.delete("pods", "ns", "web", 0);
    gone(&bench.dir.path().join("logs/ns_web_web-uid")).await;
    assert!(bench.network.find("web-uid").is_none());
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_both_kinds_has_one_namespace_for_all() {
    let bench = Bench::new();
    bench.images.contain("box");
    let nodelet = bench.run();
    let containers = json!([{"name": "c", "image": "component"}, {"name": "d", "image": "box"}]);
    bench.pod("mixed", json!({"containers": containers}));
    bench.ready("mixed").await;
    let component = bench.runtime.spec(&bench.id("mixed", 0)).expect("it runs");
    let container = bench
        .oci
        .spec(&ContainerId("mixed-uid/d/0".into()))
        .expect("it runs");
    assert_eq!(component.namespaces.network, container.namespaces.network);
    assert!(component.namespaces.network.is_some());
    assert_eq!(component.address, container.address);
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_does_not_join_components_that_have_no_namespace() {
    let bench = Bench::new();
    bench.images.contain("box");
    let nodelet = bench.run();
    bench.pod("web", json!({}));
    bench.ready("web").await;
    bench.api.edit("pods", "ns", "web", |pod| {
        pod["spec"]["ephemeralContainers"] = json!([{"name": "look", "image": "box"}]);
    });
    let refused = |status: &Value| {
        let waiting = &status["ephemeralContainerStatuses"][0]["state"]["waiting"];
        waiting["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("a container cannot join this pod"))
    };
    bench.status("web", "to refuse it", refused).await;
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_joins_the_processes_of_its_target() {
    let bench = Bench::new();
    bench.images.contain("box");
    let nodelet = bench.run();
    bench.contained("web", json!({}), json!({}));
    bench.ready("web").await;
    bench.api.edit("pods", "ns", "web", |pod| {
        let look = json!({"name": "look", "image": "box", "targetContainerName": "c"});
        pod["spec"]["ephemeralContainers"] = json!([look]);
    });
    let runs =
        |status: &Value| status["ephemeralContainerStatuses"][0]["state"]["running"].is_object();
    bench.status("web", "to be looked at", runs).await;
    let spec = bench
        .oci
        .spec(&ContainerId("web-uid/look/0".into()))
        .expect("it runs");
    assert_eq!(spec.namespaces.target, Some(bench.id("web", 0)));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_on_its_nodes_network_has_its_nodes_address() {
    let bench = Bench::new();
    let nodelet = bench.run();
    let host = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true});
    bench.contained("host", json!({}), host.clone());
    let status = bench.ready("host").await;
    assert_eq!(status["podIP"], "192.0.2.1");
    let spec = bench.oci.spec(&bench.id("host", 0)).expect("a container");
    assert_eq!(spec.namespaces.network, None);
    assert!(spec.namespaces.host_pid && spec.namespaces.host_ipc);
    assert!(bench.network.find("host-uid").is_none());
    bench.pod("component", json!({"hostNetwork": true}));
    let message = bench.waits("component", "CreateContainerConfigError").await;
    assert!(
        message.starts_with("hostNetwork is not supported"),
        "{message}"
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_asserts_the_kind_of_image() {
    let bench = Bench::new();
    let nodelet = bench.run();
    bench.contained("a", json!({}), json!({"runtimeClassName": "wasm"}));
    let message = bench.waits("a", "CreateContainerError").await;
    assert_eq!(
        message,
        "image \"oci-a\" runs under oci, but the pod's runtimeClassName says \"wasm\""
    );
    let class = |name: &str, handler: &str| {
        let class = json!({"metadata": {"name": name}, "handler": handler});
        bench.api.create("runtimeclasses", class);
    };
    class("usual", "oci");
    bench.contained("b", json!({}), json!({"runtimeClassName": "usual"}));
    bench.ready("b").await;
    class("strange", "kata");
    bench.contained("c", json!({}), json!({"runtimeClassName": "strange"}));
    let event = bench.event("FailedCreatePodSandBox").await;
    assert_eq!(
        event["message"],
        "Failed to create pod sandbox: no runtime for \"kata\" is configured, which RuntimeClass \"strange\" names as its handler: there are \"oci\" and \"wasm\""
    );
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_runs_no_containers_says_what_it_lacks() {
    let bench = Bench::new();
    let nodelet = bench.run_with(|config| {
        let why = "runc is not installed".to_owned();
        config.unavailable_runtimes.insert("oci", why);
    });
    bench.contained("a", json!({}), json!({}));
    let message = bench.waits("a", "CreateContainerError").await;
    assert_eq!(
        message,
        "image \"oci-a\" is a container image, which this node cannot run: runc is not installed"
    );
    bench.contained("b", json!({}), json!({"runtimeClassName": "oci"}));
    let event = bench.event("FailedCreatePodSandBox").await;
    assert_eq!(
        event["message"],
        "Failed to create pod sandbox: runtimeClassName is \"oci\", but this node runs no containers: runc is not installed"
    );
    // Two components that are not known yet need no namespace where there are no containers.
    let two = json!([{"name": "c", "image": "x"}, {"name": "d", "image": "y"}]);
    bench.pod("two", json!({"containers": two}));
    bench.ready("two").await;
    assert!(bench.network.isolated("two-uid").is_none());
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_is_told_its_security_and_resources_and_a_component_beside_it_is_refused_them()
{
    let bench = Bench::new();
    let nodelet = bench.run();
    let context = json!({"privileged": true, "runAsUser": 7});
    let limits = json!({"limits": {"memory": "64Mi", "cpu": "100m"}});
    let fields = json!({
        "securityContext": context, "resources": limits, "lifecycle": {"stopSignal": "SIGQUIT"},
    });
    bench.contained("web", fields, json!({"shareProcessNamespace": true}));
    bench.ready("web").await;
    let spec = bench.oci.spec(&bench.id("web", 0)).expect("a container");
    assert!(spec.security.privileged && spec.namespaces.shared_pid);
    assert_eq!(spec.security.user, Some(7));
    assert_eq!(spec.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(spec.oom_score_adj, -997);
    assert_eq!(spec.requests, spec.limits);
    assert_eq!(spec.pod_resources.limits.memory_bytes, Some(64 << 20));
    nodelet.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_finds_its_names_in_etc_but_where_it_mounts_its_own() {
    let bench = Bench::new();
    let nodelet = bench.run_with(|config| {
        let host = config.state_dir.join("resolv.conf");
        std::fs::write(&host, "search lan\nnameserver 192.0.2.53\n").expect("written");
        config.resolv_conf = host;
    });
    let mounts = json!([{"name": "own", "mountPath": "/etc/hostname", "subPath": "name"}]);
    let volumes = json!([{"name": "own", "emptyDir": {}}]);
    bench.contained(
        "web",
        json!({"volumeMounts": mounts}),
        json!({"volumes": volumes, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["db"]}]}),
    );
    bench.ready("web").await;
    let spec = bench.oci.spec(&bench.id("web", 0)).expect("a container");
    let read = |path: &str| {
        let mut found = spec.mounts.iter();
        let mount = found.find(|mount| mount.destination == Path::new(path));
        std::fs::read_to_string(&mount.expect(path).source).expect("a file")
    };
    assert_eq!(
        read("/etc/resolv.conf"),
        "search ns.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\noptions ndots:5\n"
    );
    let hosts = read("/etc/hosts");
    assert!(
        hosts.starts_with("# Kubernetes-managed hosts file.\n"),
        "{hosts}"
    );
    assert!(hosts.contains("10.64.0.1\tweb\n"), "{hosts}");
    let names = spec
        .mounts
        .iter()
        .filter(|mount| mount.destination == Path::new("/etc/hostname"));
    assert_eq!(names.count(), 1);
    bench.pod("component", json!({}));
    bench.ready("component").await;
    let spec = bench
        .runtime
        .spec(&bench.id("component", 0))
        .expect("it runs");
    let etc = |mount: &runtimes::Mount| mount.destination.starts_with("/etc");
    assert!(!spec.mounts.iter().any(etc));
    nodelet.stop().await;
}
