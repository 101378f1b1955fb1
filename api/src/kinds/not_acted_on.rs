//! Fields that are stored and served but that no component of this version acts on.
//!
//! One table a shape; `docs/compatibility.md` lists every path of it, and a test holds the two
//! together. A field at its default, or empty, is no news to anyone and is not warned of.

use serde_json::Value;

use super::Names;

/// A path below the object, with `[]` for each item of a list, and the values that mean nothing.
pub(crate) type Field = (&'static str, &'static [&'static str]);

/// Of a pod's spec, or a template's. What is said of `containers[]` is so of `initContainers[]` too.
const POD_SPEC: &[Field] = &[
    ("containers[].resizePolicy", &[]),
    ("containers[].volumeDevices", &[]),
    ("resources", &[]),
];

/// Of a Service.
pub(crate) const SERVICE: &[Field] = &[
    ("spec.allocateLoadBalancerNodePorts", &["true"]),
    ("spec.externalIPs", &[]),
    ("spec.healthCheckNodePort", &["0"]),
    ("spec.internalTrafficPolicy", &["Cluster"]),
    ("spec.ipFamilyPolicy", &["SingleStack"]),
    ("spec.loadBalancerClass", &[]),
    ("spec.loadBalancerIP", &[]),
    ("spec.loadBalancerSourceRanges", &[]),
    ("spec.sessionAffinity", &["None"]),
    ("spec.trafficDistribution", &[]),
    ("spec.type", &["ClusterIP", "ExternalName", "NodePort"]),
];

/// Of a ServiceAccount.
pub(crate) const SERVICE_ACCOUNT: &[Field] = &[("secrets", &[])];

/// Of a PersistentVolume.
pub(crate) const PERSISTENT_VOLUME: &[Field] = &[
    ("spec.mountOptions", &[]),
    ("spec.volumeAttributesClassName", &[]),
];

/// Of a PersistentVolumeClaim.
pub(crate) const PERSISTENT_VOLUME_CLAIM: &[Field] = &[("spec.volumeAttributesClassName", &[])];

/// Kinds of which nothing is acted on, and what is missing.
pub(crate) const KINDS: &[(&str, &str)] = &[
    (
        "APIService",
        "requests for its group are not passed on to its service",
    ),
    ("CSIDriver", "no CSI driver is called"),
    ("CSINode", "no CSI driver is called"),
    ("CSIStorageCapacity", "no CSI driver is called"),
    ("DeviceClass", "devices are not allocated"),
    (
        "FlowSchema",
        "the levels that requests are bounded by are fixed",
    ),
    ("IPAddress", "the addresses of Services are kept elsewhere"),
    (
        "MutatingAdmissionPolicy",
        "admission policies are not evaluated",
    ),
    (
        "MutatingAdmissionPolicyBinding",
        "admission policies are not evaluated",
    ),
    (
        "PriorityLevelConfiguration",
        "the levels that requests are bounded by are fixed",
    ),
    ("ResourceClaim", "devices are not allocated"),
    ("ResourceClaimTemplate", "devices are not allocated"),
    ("ResourceSlice", "devices are not allocated"),
    (
        "ServiceCIDR",
        "Services get addresses from the range that the cluster was started with",
    ),
    (
        "ValidatingAdmissionPolicy",
        "admission policies are not evaluated",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "admission policies are not evaluated",
    ),
    ("VolumeAttachment", "no CSI driver is called"),
    ("VolumeAttributesClass", "no CSI driver is called"),
];

/// What to warn of where nothing of a kind is acted on.
pub(crate) fn whole(names: &Names) -> Vec<String> {
    let found = KINDS.iter().find(|(kind, _)| *kind == names.kind);
    found
        .map(|(_, missing)| {
            kind(
                &format!("act on {}", names.plural),
                &format!("but {missing}"),
            )
        })
        .into_iter()
        .collect()
}

/// What is said of a kind that nothing works on yet: what is not done, and what is missed by it.
pub(crate) fn kind(undone: &str, missed: &str) -> String {
    format!("wk does not {undone} yet: the object is stored, {missed}")
}

/// One line for each field of the table that the object uses; `prefix` is where the object stands.
pub(crate) fn warnings(prefix: &str, object: &Value, table: &[Field]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, silent) in table {
        let steps: Vec<_> = path.split('.').collect();
        walk(prefix.to_owned(), object, &steps, silent, &mut found);
        if steps[0] == "containers[]" {
            let steps = [&["initContainers[]"], &steps[1..]].concat();
            walk(prefix.to_owned(), object, &steps, silent, &mut found);
        }
    }
    found
}

/// The same for a pod's spec.
pub(crate) fn of_pod_spec(prefix: &str, spec: &Value) -> Vec<String> {
    warnings(prefix, spec, POD_SPEC)
}

fn walk(at: String, value: &Value, steps: &[&str], silent: &[&str], found: &mut Vec<String>) {
    let Some((step, rest)) = steps.split_first() else {
        if says_something(value, silent) {
            found.push(format!("{at}: not acted on yet"));
        }
        return;
    };
    let (field, is_list) = match step.strip_suffix("[]") {
        Some(field) => (field, true),
        None => (*step, false),
    };
    let Some(value) = value.get(field) else {
        return;
    };
    let at = if at.is_empty() {
        field.to_owned()
    } else {
        format!("{at}.{field}")
    };
    if is_list {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            walk(format!("{at}[{index}]"), item, rest, silent, found);
        }
    } else {
        walk(at, value, rest, silent, found);
    }
}

fn says_something(value: &Value, silent: &[&str]) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => !silent.contains(&"true"),
        Value::Number(number) => !silent.contains(&number.to_string().as_str()),
        Value::String(text) => !text.is_empty() && !silent.contains(&text.as_str()),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    const TABLES: [&[Field]; 5] = [
        POD_SPEC,
        SERVICE,
        SERVICE_ACCOUNT,
        PERSISTENT_VOLUME,
        PERSISTENT_VOLUME_CLAIM,
    ];

    #[test]
    fn a_used_field_is_named_with_its_place_and_a_default_is_not() {
        let pod = json!({
            "securityContext": {},
            "dnsPolicy": "ClusterFirst",
            "resources": { "limits": {} },
            "containers": [{ "tty": false }, { "resizePolicy": [{}] }],
        });
        expect![[r#"
            spec.containers[1].resizePolicy: not acted on yet
            spec.resources: not acted on yet"#]]
        .assert_eq(&warnings("spec", &pod, POD_SPEC).join("\n"));
    }

    #[test]
    fn an_init_container_is_acted_on_but_for_the_fields_that_are_not_in_containers_either() {
        let pod = json!({
            "volumes": [{}],
            "initContainers": [
                { "restartPolicy": "Always", "env": [], "image": "sidecar", "volumeMounts": [{}] },
                { "resizePolicy": [{}], "workingDir": "/" },
            ],
            "affinity": { "nodeAffinity": { "a": 1 } },
        });
        expect!["spec.initContainers[1].resizePolicy: not acted on yet"]
            .assert_eq(&warnings("spec", &pod, POD_SPEC).join("\n"));
    }

    #[test]
    fn the_compatibility_page_lists_no_field_that_is_acted_on() {
        let page = include_str!("../../../docs/compatibility.md");
        let (_, kept) = page
            .split_once("## Accepted, kept, not acted on")
            .expect("the page has that section");
        let (kept, _) = kept.split_once("\n## ").unwrap_or((kept, ""));
        let tables = TABLES.concat();
        for row in kept.lines().filter_map(|line| line.strip_prefix("| `")) {
            let path = row.split('`').next().unwrap_or_default();
            assert!(
                tables.iter().any(|(known, _)| *known == path)
                    || KINDS.iter().any(|(kind, _)| *kind == path),
                "docs/compatibility.md lists `{path}`"
            );
        }
    }

    #[test]
    fn the_compatibility_page_lists_every_field() {
        let page = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/compatibility.md"
        ))
        .expect("docs/compatibility.md is in the tree");
        for (path, _) in TABLES.concat() {
            assert!(
                page.contains(&format!("`{path}`")),
                "docs/compatibility.md does not list `{path}`"
            );
        }
        for (kind, missing) in KINDS {
            assert!(
                page.contains(&format!("| `{kind}` | {missing} |")),
                "docs/compatibility.md does not list `{kind}`: {missing}"
            );
        }
    }
}
