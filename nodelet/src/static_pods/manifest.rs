//! From a manifest to a static pod. Pure.
//!
//! The API completes and checks the mirror; the pod runs before that, so a file must hold what a node needs to run it,
//! and may name nothing that only the API has. Fields that are none are told of and left out, as the kubelet does.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus, Toleration};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    StaticPod,
    mirror::{HASH, MIRROR, SEEN, SOURCE},
};

/// How deep a manifest may nest.
const DEEPEST: usize = 64;

/// Fields that name objects of the API, and what they name.
const REFERENCES: &[(&str, &str)] = &[
    ("secret", "Secrets"),
    ("secretName", "Secrets"),
    ("secretRef", "Secrets"),
    ("secretKeyRef", "Secrets"),
    ("imagePullSecrets", "Secrets"),
    ("configMap", "ConfigMaps"),
    ("configMapRef", "ConfigMaps"),
    ("configMapKeyRef", "ConfigMaps"),
    ("persistentVolumeClaim", "PersistentVolumeClaims"),
    ("serviceAccount", "ServiceAccounts"),
    ("serviceAccountName", "ServiceAccounts"),
    ("serviceAccountToken", "ServiceAccounts"),
    ("clusterTrustBundle", "ClusterTrustBundles"),
    ("resourceClaims", "ResourceClaims"),
];

/// A pod, and the fields of its file that mean nothing.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) pod: StaticPod,
    pub(super) unknown: Vec<String>,
}

/// Reads YAML or JSON. The error says what is wrong with it.
pub(super) fn parse(text: &str, file: &str, node: &str, now: Timestamp) -> Result<Parsed, String> {
    let value = decode(text)?;
    let kind = (value["apiVersion"].as_str(), value["kind"].as_str());
    if kind != (Some("v1"), Some("Pod")) {
        let said = value["kind"].as_str().unwrap_or("no kind");
        return Err(format!(
            "it holds {said}: expected one Pod of apiVersion v1"
        ));
    }
    if let Some((field, what)) = reference(&value["spec"]) {
        return Err(format!(
            "spec names {what} ({field}): a static pod runs without the API and may not refer to what it holds"
        ));
    }
    let mut pod: Pod = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let known = serde_json::to_value(&pod).map_err(|error| error.to_string())?;
    let mut unknown = Vec::new();
    compare("", &value, &known, &mut unknown);

    let metadata = &mut pod.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    if !is_name(&name, 253, true) {
        return Err(format!(
            "metadata.name {name:?} is not a name: lower-case letters, digits, '-' and '.'"
        ));
    }
    let namespace = metadata.namespace.clone();
    let namespace = namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    if !is_name(&namespace, 63, false) {
        return Err(format!("metadata.namespace {namespace:?} is not a name"));
    }
    let spec = pod.spec.get_or_insert_default();
    check(spec)?;
    spec.node_name = Some(node.to_owned());
    // Nothing drives it off the node.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });

    let uid = uid(file, node, &value);
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    annotations.retain(|name, _| !name.starts_with("kubernetes.io/config."));
    annotations.extend([
        (HASH.to_owned(), uid.clone()),
        (SOURCE.to_owned(), "file".to_owned()),
        (SEEN.to_owned(), now.to_string()),
    ]);
    let named = |annotations: BTreeMap<String, String>| {
        k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some(format!("{name}-{node}")),
            namespace: Some(namespace.clone()),
            labels: pod.metadata.labels.clone(),
            annotations: Some(annotations),
            ..Default::default()
        }
    };
    let mut mirror = Pod {
        metadata: named(annotations.clone()),
        spec: pod.spec.clone(),
        status: None,
    };
    if let Some(annotations) = &mut mirror.metadata.annotations {
        annotations.insert(MIRROR.to_owned(), uid.clone());
    }
    let mut own = Pod {
        metadata: named(annotations),
        spec: pod.spec,
        status: Some(PodStatus::default()),
    };
    own.metadata.uid = Some(uid.clone());
    if let Some(spec) = &mut own.spec {
        complete(spec);
    }
    Ok(Parsed {
        pod: StaticPod {
            uid,
            pod: Arc::new(own),
            mirror: Arc::new(mirror),
        },
        unknown,
    })
}

fn decode(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEEPEST },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        match error.without_snippet() {
            serde_saphyr::Error::MultipleDocuments { .. } => {
                "it holds several YAML documents: expected one".to_owned()
            }
            error => error.to_string(),
        }
    })
}

/// The same for the same file on the same node, so that what runs of it is found again.
fn uid(file: &str, node: &str, value: &Value) -> String {
    let mut digest = Sha256::new();
    for part in [node, file, &value.to_string()] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A field that names an object of the API, anywhere.
fn reference(value: &Value) -> Option<(&'static str, &'static str)> {
    match value {
        Value::Array(items) => items.iter().find_map(reference),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let named = REFERENCES.iter().find(|(field, _)| field == name);
            let empty = value.is_null()
                || value.as_str() == Some("")
                || value.as_array().is_some_and(Vec::is_empty);
            named
                .copied()
                .filter(|_| !empty)
                .or_else(|| reference(value))
        }),
        _ => None,
    }
}

/// Fields that are in `given` and were not understood.
fn compare(path: &str, given: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match known.get(name) {
                    Some(known) => compare(&path, value, known, unknown),
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                compare(&format!("{path}[{index}]"), given, known, unknown);
            }
        }
        _ => {}
    }
}

/// What a node cannot do without.
fn check(spec: &PodSpec) -> Result<(), String> {
    if spec.containers.is_empty() {
        return Err("spec.containers is empty: a pod has at least one container".to_owned());
    }
    if spec.ephemeral_containers.is_some() {
        return Err("spec.ephemeralContainers must not be set on a new pod".to_owned());
    }
    let mut names = Vec::new();
    for container in all(spec) {
        let name = container.name.as_str();
        if !is_name(name, 63, false) {
            return Err(format!(
                "container name {name:?} is not a name: lower-case letters, digits and '-'"
            ));
        }
        if names.contains(&name) {
            return Err(format!("container name {name:?} is there twice"));
        }
        if container.image.as_deref().is_none_or(str::is_empty) {
            return Err(format!("container {name:?} has no image"));
        }
        names.push(name);
    }
    match spec.restart_policy.as_deref() {
        None | Some("Always" | "OnFailure" | "Never") => Ok(()),
        Some(other) => Err(format!(
            "spec.restartPolicy {other:?}: expected Always, OnFailure or Never"
        )),
    }
}

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers)
}

fn is_name(name: &str, longest: usize, dots: bool) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = name.split('.').all(label);
    name.len() <= longest && labels && (dots || !name.contains('.'))
}

/// The API's defaults, as far as the node acts on them.
fn complete(spec: &mut PodSpec) {
    let default = |field: &mut Option<String>, value: &str| {
        field.get_or_insert_with(|| value.to_owned());
    };
    default(&mut spec.restart_policy, "Always");
    default(&mut spec.dns_policy, "ClusterFirst");
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
        let image = container.image.clone().unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        let newest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
        let policy = if newest { "Always" } else { "IfNotPresent" };
        default(&mut container.image_pull_policy, policy);
        default(
            &mut container.termination_message_path,
            "/dev/termination-log",
        );
        default(&mut container.termination_message_policy, "File");
        for port in container.ports.iter_mut().flatten() {
            default(&mut port.protocol, "TCP");
        }
        // What is limited and not requested is requested as limited.
        if let Some(resources) = &mut container.resources
            && let Some(limits) = &resources.limits
        {
            let requests = resources.requests.get_or_insert_default();
            for (name, limit) in limits {
                requests
                    .entry(name.clone())
                    .or_insert_with(|| limit.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn parse_at(text: &str, file: &str) -> Result<Parsed, String> {
        parse(text, file, "n1", Timestamp::UNIX_EPOCH)
    }

    #[track_caller]
    fn refuses(text: &str, want: Expect) {
        let error = parse_at(text, "a.yaml").expect_err("it must be refused");
        want.assert_eq(&error);
    }

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
  annotations: {a: b, kubernetes.io/config.mirror: x}
spec:
  containers:
  - name: c
    image: example.org/web
    imagee: x
    ports: [{containerPort: 80, portocol: UDP}]
";

    #[test]
    fn a_pod_is_named_for_its_node_and_shows_where_it_comes_from() {
        let parsed = parse_at(POD, "a.yaml").expect("a pod");
        assert_eq!(
            parsed.unknown,
            [
                "spec.containers[0].imagee",
                "spec.containers[0].ports[0].portocol"
            ]
        );
        let StaticPod { uid, pod, mirror } = parsed.pod;
        assert_eq!(uid.len(), 32);
        let shown = serde_json::to_string_pretty(&mirror).expect("JSON");
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Pod",
              "metadata": {
                "annotations": {
                  "a": "b",
                  "kubernetes.io/config.hash": "UID",
                  "kubernetes.io/config.mirror": "UID",
                  "kubernetes.io/config.seen": "1970-01-01T00:00:00Z",
                  "kubernetes.io/config.source": "file"
                },
                "labels": {
                  "app": "web"
                },
                "name": "web-n1",
                "namespace": "default"
              },
              "spec": {
                "containers": [
                  {
                    "image": "example.org/web",
                    "name": "c",
                    "ports": [
                      {
                        "containerPort": 80
                      }
                    ]
                  }
                ],
                "nodeName": "n1",
                "tolerations": [
                  {
                    "effect": "NoExecute",
                    "operator": "Exists"
                  }
                ]
              }
            }"#]]
        .assert_eq(&shown.replace(&uid, "UID"));
        assert_eq!(pod.metadata.uid, Some(uid));
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        assert_eq!(container.image_pull_policy.as_deref(), Some("Always"));
    }

    #[test]
    fn a_pod_keeps_its_uid_until_its_file_says_something_else() {
        let uid = |text: &str, file| parse_at(text, file).expect("a pod").pod.uid;
        let with_comment = format!("# more\n{POD}");
        assert_eq!(uid(POD, "a"), uid(&with_comment, "a"));
        assert_ne!(uid(POD, "a"), uid(&POD.replace(": web", ": shop"), "a"));
        assert_ne!(uid(POD, "a"), uid(POD, "b"));
    }

    #[test]
    fn a_file_that_is_no_pod_is_refused_in_words() {
        refuses("a: [", expect!["unclosed bracket '[' at line 1, column 4"]);
        refuses(
            "kind: Service\napiVersion: v1",
            expect!["it holds Service: expected one Pod of apiVersion v1"],
        );
        refuses(
            "just text",
            expect!["it holds no kind: expected one Pod of apiVersion v1"],
        );
        refuses(
            &POD.replace("name: web", "name: Web"),
            expect![[
                r#"metadata.name "Web" is not a name: lower-case letters, digits, '-' and '.'"#
            ]],
        );
        refuses(
            &POD.replace("name: c", "name: ../c"),
            expect![[r#"container name "../c" is not a name: lower-case letters, digits and '-'"#]],
        );
        refuses(
            &POD.replace("image: example.org/web", ""),
            expect![[r#"container "c" has no image"#]],
        );
        refuses(
            &POD.replace("containerPort: 80", "containerPort: eighty"),
            expect![[r#"invalid type: string "eighty", expected i32"#]],
        );
        refuses(
            &format!("{POD}\n---\n{POD}"),
            expect!["it holds several YAML documents: expected one"],
        );
        refuses(
            &format!("{POD}    envFrom: [{{secretRef: {{name: s}}}}]"),
            expect![
                "spec names Secrets (secretRef): a static pod runs without the API and may not refer to what it holds"
            ],
        );
        refuses(
            &format!("{POD}  serviceAccountName: s"),
            expect![
                "spec names ServiceAccounts (serviceAccountName): a static pod runs without the API and may not refer to what it holds"
            ],
        );
    }
}
