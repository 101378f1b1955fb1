//! The pods of a revision that is a container: a ReplicaSet of the revision's name; and a Function's Service. Pure.
//!
//! A ReplicaSet and no Deployment: a revision never changes, so that there is nothing to roll out. Its pods say by
//! their labels whose they are, which is how gateways find them.

use function_kinds::{FUNCTION_LABEL, REVISION_LABEL, RevisionSpec, pinned_name};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Map, Value, json};

use super::{
    readiness::{Pods, Why},
    revision::{Revision, owner_of},
};

/// Where a container listens if its revision does not say.
const PORT: i32 = 8080;
/// The container's name.
const CONTAINER: &str = "function";
/// How long a pod that is to go still takes requests: until every gateway has heard of it.
const LEAVE_SECONDS: i64 = 2;
/// What a container may take to end once its last request is answered.
const END_SECONDS: i64 = 5;
const TIMEOUT_SECONDS: i32 = 60;

/// What the fields of a revision are called in a container.
const CONTAINER_FIELDS: &[&str] = &[
    "image",
    "command",
    "args",
    "envFrom",
    "volumeMounts",
    "resources",
];
/// The same in a pod.
const POD_FIELDS: &[&str] = &[
    "volumes",
    "serviceAccountName",
    "imagePullSecrets",
    "runtimeClassName",
];

fn port(spec: &RevisionSpec) -> i32 {
    spec.port.unwrap_or(PORT)
}

fn labels(function: &str, revision: &Revision) -> Map<String, Value> {
    let own = revision.typed().labels.iter();
    let mut labels: Map<String, Value> = own
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    labels.insert(FUNCTION_LABEL.to_owned(), function.into());
    labels.insert(REVISION_LABEL.to_owned(), revision.name.clone().into());
    labels
}

fn metadata(function: &DynamicObject, revision: &Revision, object: &DynamicObject) -> Value {
    json!({
        "name": revision.name,
        "namespace": function.namespace(),
        "labels": labels(&function.name_any(), revision),
        "ownerReferences": [owner_of("functions.wk.dev/v1", "FunctionRevision", object)],
    })
}

/// The ReplicaSet of a revision, which `object` is too.
pub(crate) fn replica_set(
    function: &DynamicObject,
    revision: &Revision,
    object: &DynamicObject,
    replicas: i32,
) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata(function, revision, object),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {REVISION_LABEL: revision.name}},
            "template": {
                "metadata": {"labels": labels(&function.name_any(), revision)},
                "spec": pod(revision),
            },
        },
    })
}

fn pod(revision: &Revision) -> Value {
    let (spec, port) = (revision.typed(), port(revision.typed()));
    let timeout = i64::from(spec.timeout_seconds.unwrap_or(TIMEOUT_SECONDS));
    let mut container = json!({
        "name": CONTAINER,
        "env": environment(&revision.spec, port),
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
    });
    copy(&revision.spec, CONTAINER_FIELDS, &mut container);
    let digest = revision.digest();
    if let Some(name) = digest.and_then(|digest| pinned_name(&spec.image, digest)) {
        container["image"] = name.into();
    }
    let mut pod = json!({
        "containers": [container],
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": LEAVE_SECONDS + timeout + END_SECONDS,
    });
    copy(&revision.spec, POD_FIELDS, &mut pod);
    pod
}

/// The revision's variables, and where to listen if it does not say so itself.
fn environment(spec: &Value, port: i32) -> Vec<Value> {
    let mut variables = spec["env"].as_array().cloned().unwrap_or_default();
    if !variables.iter().any(|variable| variable["name"] == "PORT") {
        variables.insert(0, json!({"name": "PORT", "value": port.to_string()}));
    }
    variables
}

fn copy(from: &Value, fields: &[&str], to: &mut Value) {
    for field in fields {
        if let Some(value) = from.get(*field) {
            to[*field] = value.clone();
        }
    }
}

/// The Service of a Function: a name and an address for pods. It selects no pods: gateways answer, who know which
/// revision a request is for, and start one that is not there.
pub(crate) fn function_service(function: &DynamicObject) -> Value {
    let name = function.name_any();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": function.namespace(),
            "labels": {FUNCTION_LABEL: name},
            "ownerReferences": [owner_of("functions.wk.dev/v1", "Function", function)],
        },
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 80}]},
    })
}

/// What the pods of a revision say, and the set that makes them.
pub(crate) fn seen(set: Option<&DynamicObject>, pods: &[DynamicObject]) -> Pods {
    let here: Vec<&DynamicObject> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    let (ready, waiting): (Vec<&DynamicObject>, Vec<_>) =
        here.iter().copied().partition(|pod| is_ready(pod));
    let count = |pods: &[&DynamicObject]| i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let why = waiting.into_iter().find_map(why);
    Pods {
        all: count(&here),
        ready: count(&ready),
        why: why.or_else(|| set.and_then(refused)),
    }
}

fn conditions(object: &DynamicObject) -> impl Iterator<Item = &Value> {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten()
}

fn is_ready(pod: &DynamicObject) -> bool {
    conditions(pod).any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Why a pod is not ready: its container waits for something that is worth telling, or no node takes it.
fn why(pod: &DynamicObject) -> Option<Why> {
    let name = pod.name_any();
    let containers = pod.data["status"]["containerStatuses"].as_array();
    let waiting = containers.into_iter().flatten().find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let ended = &container["lastState"]["terminated"];
        let reason = waiting["reason"].as_str()?;
        let starts = matches!(reason, "ContainerCreating" | "PodInitializing");
        let message = waiting["message"].as_str().unwrap_or(reason);
        let exit = ended["exitCode"].as_i64();
        let exit = exit.map(|code| format!(" (last exit code {code})"));
        let message = format!("pod {name}: {message}{}", exit.unwrap_or_default());
        (!starts).then(|| Why::new(reason, message))
    });
    waiting.or_else(|| {
        let unplaced = conditions(pod).find(|condition| {
            condition["type"] == "PodScheduled" && condition["status"] == "False"
        })?;
        let message = unplaced["message"].as_str().unwrap_or("no node takes it");
        let reason = unplaced["reason"].as_str().unwrap_or("Unschedulable");
        Some(Why::new(reason, format!("pod {name}: {message}")))
    })
}

/// Why a set makes no pods: a quota, a policy.
fn refused(set: &DynamicObject) -> Option<Why> {
    let failure = conditions(set)
        .find(|condition| condition["type"] == "ReplicaFailure" && condition["status"] == "True")?;
    let message = failure["message"].as_str().unwrap_or_default();
    Some(Why::new(
        failure["reason"].as_str().unwrap_or("FailedCreate"),
        message,
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_has_what_its_revision_says_and_time_to_end() {
        let revision = object(json!({
            "metadata": {"name": "f-00001", "namespace": "ns", "uid": "r"},
            "spec": {"image": "i:1", "port": 81, "args": ["a"], "env": [{"name": "A", "new": 1}], "labels": {"tier": "x"},
                "volumes": [{"name": "v", "emptyDir": {}}], "serviceAccountName": "s", "timeoutSeconds": 10},
            "status": {"digest": "sha256:0"},
        }));
        let function = object(json!({"metadata": {"name": "f", "namespace": "ns"}}));
        let read = Revision::read(&revision).unwrap();
        let set = replica_set(&function, &read, &revision, 2);
        expect![[r#"{"containers":[{"args":["a"],"env":[{"name":"PORT","value":"81"},{"name":"A","new":1}],"image":"i@sha256:0","lifecycle":{"preStop":{"sleep":{"seconds":2}}},"name":"function","ports":[{"containerPort":81,"name":"http"}],"readinessProbe":{"failureThreshold":3,"periodSeconds":1,"tcpSocket":{"port":81}}}],"enableServiceLinks":false,"serviceAccountName":"s","terminationGracePeriodSeconds":17,"volumes":[{"emptyDir":{},"name":"v"}]}"#]]
            .assert_eq(&set["spec"]["template"]["spec"].to_string());
        expect![[
            r#"{"functions.wk.dev/function":"f","functions.wk.dev/revision":"f-00001","tier":"x"}"#
        ]]
        .assert_eq(&set["spec"]["template"]["metadata"]["labels"].to_string());
    }

    #[test]
    fn what_keeps_a_pod_from_being_ready_is_told() {
        let pod = |status: Value| object(json!({"metadata": {"name": "p"}, "status": status}));
        let waits = |reason: &str| {
            pod(
                json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "m"}},
                "lastState": {"terminated": {"exitCode": 3}}}]}),
            )
        };
        let told = |pods: &[DynamicObject], set: Option<&DynamicObject>| {
            let seen = seen(set, pods);
            let why = seen
                .why
                .map(|why| format!("{}: {}", why.reason, why.message));
            format!("{}/{} {}", seen.ready, seen.all, why.unwrap_or_default())
        };
        let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        expect!["1/2 CrashLoopBackOff: pod p: m (last exit code 3)"]
            .assert_eq(&told(&[ready, waits("CrashLoopBackOff")], None));
        expect!["0/1 "].assert_eq(&told(&[waits("ContainerCreating")], None));
        let set = object(json!({"metadata": {}, "status": {"conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
        ]}}));
        expect!["0/0 FailedCreate: exceeded quota"].assert_eq(&told(&[], Some(&set)));
    }
}
