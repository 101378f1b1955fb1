//! Pods that a node takes, and those it does not.

use serde_json::{Value, json};

use super::*;

/// What a node of 2 cores and 1 GiB, half of it in use, says of a pod. Another pod has its port 8080.
#[track_caller]
fn check(metadata: Value, spec: Value, expected: &str) {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod");
    let labels = [("kubernetes.io/os", "linux"), ("zone", "a"), ("size", "7")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let taint = Taint {
        key: "broken".to_owned(),
        value: Some("yes".to_owned()),
        effect: "NoExecute".to_owned(),
        time_added: None,
    };
    let port = json!({"containerPort": 80, "hostPort": 8080});
    let taken = json!({"spec": {"containers": [{"name": "a", "ports": [port]}]}});
    let taken: Pod = serde_json::from_value(taken).expect("a pod");
    let place = Place {
        name: "n1",
        labels: &labels.into(),
        taints: &[taint],
        allocatable: Amounts {
            cpu: 2000,
            memory: 1 << 30,
            ephemeral_storage: 1 << 30,
            pods: 10,
        },
        used: Amounts {
            cpu: 1000,
            memory: 1 << 29,
            ephemeral_storage: 0,
            pods: 9,
        },
        sysctls: &[],
        taken_ports: &HostPort::wanted(&taken),
        reserved_ports: &[ReservedPort {
            address: "192.0.2.1:10250".parse().expect("an address"),
            what: "the nodelet",
        }],
    };
    let answer = match admit(&pod, &place) {
        Ok(()) => "taken".to_owned(),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    };
    assert_eq!(answer, expected);
}

fn container(cpu: &str, memory: &str) -> Value {
    json!({"name": "a", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

/// A spec that tolerates the node's taint.
fn spec(more: Value) -> Value {
    let mut spec = json!({"containers": [], "tolerations": [{"operator": "Exists"}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    spec
}

#[test]
fn a_parameter_of_the_kernel_that_touches_others_is_refused() {
    let sysctls = json!({"sysctls": [{"name": "kernel.panic", "value": "1"}]});
    check(
        json!({}),
        spec(json!({"securityContext": sysctls})),
        "SysctlForbidden: forbidden sysctl: \"kernel.panic\" not allowlisted",
    );
}

#[test]
fn a_pod_that_fits_is_taken() {
    let containers = json!({"containers": [container("1", "512Mi")]});
    check(json!({}), spec(containers), "taken");
}

#[test]
fn a_pod_that_asks_for_more_than_is_left_is_not() {
    let containers = json!({"containers": [container("600m", "1Mi"), container("500m", "1Mi")]});
    check(
        json!({}),
        spec(containers),
        "OutOfcpu: Node didn't have enough resource: cpu, requested: 1100, used: 1000, capacity: 2000",
    );
    let overhead = json!({"overhead": {"memory": "513Mi"}});
    check(
        json!({}),
        spec(overhead),
        "OutOfmemory: Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824",
    );
}

#[test]
fn init_containers_count_one_by_one_and_sidecars_beside_the_others() {
    let init = json!({"initContainers": [container("1", "1Mi"), container("1", "1Mi")], "containers": [container("1", "1Mi")]});
    check(json!({}), spec(init), "taken");
    let mut sidecar = container("1m", "1Mi");
    sidecar["restartPolicy"] = "Always".into();
    let sidecars = json!({"initContainers": [sidecar], "containers": [container("1", "1Mi")]});
    check(
        json!({}),
        spec(sidecars),
        "OutOfcpu: Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000",
    );
}

#[test]
fn a_pod_for_other_nodes_is_not_taken() {
    let refused = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    check(
        json!({}),
        spec(json!({"nodeSelector": {"zone": "b"}})),
        refused,
    );
    let required = |expressions: Value, fields: Value| {
        let terms = json!([{"matchExpressions": expressions, "matchFields": fields}]);
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        spec(json!({"affinity": {"nodeAffinity": required}}))
    };
    let one = |key: &str, operator: &str, value: &str| json!([{"key": key, "operator": operator, "values": [value]}]);
    for (key, operator, value) in [
        ("zone", "In", "a"),
        ("zone", "NotIn", "b"),
        ("size", "Gt", "6"),
    ] {
        let spec = required(one(key, operator, value), json!([]));
        check(json!({}), spec, "taken");
    }
    for (key, operator, value) in [
        ("zone", "In", "b"),
        ("none", "Exists", ""),
        ("size", "Lt", "7"),
    ] {
        let spec = required(one(key, operator, value), json!([]));
        check(json!({}), spec, refused);
    }
    let named = |name| required(json!([]), one("metadata.name", "In", name));
    check(json!({}), named("n1"), "taken");
    check(json!({}), named("n2"), refused);
    check(json!({}), required(json!([]), json!([])), refused);
}

#[test]
fn a_pod_for_another_operating_system_is_not_taken() {
    check(
        json!({}),
        spec(json!({"os": {"name": "windows"}})),
        "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS",
    );
    check(
        json!({"labels": {"kubernetes.io/os": "windows"}}),
        spec(json!({})),
        "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
    );
}

#[test]
fn a_pod_that_does_not_tolerate_the_node_is_not_taken() {
    let tolerating = |toleration: Value| spec(json!({"tolerations": [toleration]}));
    let equal = json!({"key": "broken", "operator": "Equal", "value": "yes"});
    check(json!({}), tolerating(equal), "taken");
    let other = json!({"key": "broken", "value": "no", "effect": "NoExecute"});
    check(
        json!({}),
        tolerating(other),
        "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
    );
}

#[test]
fn a_pod_whose_ports_are_not_free_is_not_taken() {
    let asks = |port: Value| {
        let container = json!({"name": "a", "ports": [port]});
        spec(json!({"containers": [container]}))
    };
    check(
        json!({}),
        asks(json!({"containerPort": 1, "hostPort": 8081})),
        "taken",
    );
    check(
        json!({}),
        asks(json!({"containerPort": 1, "hostPort": 8080, "hostIP": "192.0.2.1"})),
        "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    );
    check(
        json!({}),
        asks(json!({"containerPort": 1, "hostPort": 10250})),
        "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: \
         on this node the nodelet listens on 192.0.2.1:10250, so hostPort 10250/TCP is not free",
    );
    check(
        json!({}),
        asks(json!({"containerPort": 1, "hostPort": 10250, "protocol": "UDP"})),
        "taken",
    );
}
