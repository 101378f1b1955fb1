//! Fields that are stored and served but that no component of this version acts on.
//!
//! One table a shape; `docs/compatibility.md` lists every path of it, and a test holds the two
//! together. A field at its default, or empty, is no news to anyone and is not warned of.

use serde_json::Value;

/// A path below the object, with `[]` for each item of a list, and the values that mean nothing.
pub(crate) type Field = (&'static str, &'static [&'static str]);

/// Of a pod's spec, or a template's.
pub(crate) const POD_SPEC: &[Field] = &[
    ("affinity", &[]),
    ("automountServiceAccountToken", &[]),
    ("containers[].env[].valueFrom.fileKeyRef", &[]),
    ("containers[].env[].valueFrom.resourceFieldRef", &[]),
    ("containers[].lifecycle", &[]),
    ("containers[].livenessProbe", &[]),
    ("containers[].ports[].hostIP", &[]),
    ("containers[].ports[].hostPort", &[]),
    ("containers[].readinessProbe", &[]),
    ("containers[].resizePolicy", &[]),
    ("containers[].resources.claims", &[]),
    ("containers[].restartPolicy", &[]),
    ("containers[].restartPolicyRules", &[]),
    ("containers[].securityContext", &[]),
    ("containers[].startupProbe", &[]),
    ("containers[].stdin", &[]),
    ("containers[].stdinOnce", &[]),
    (
        "containers[].terminationMessagePath",
        &["/dev/termination-log"],
    ),
    ("containers[].terminationMessagePolicy", &["File"]),
    ("containers[].tty", &[]),
    ("containers[].volumeDevices", &[]),
    ("containers[].volumeMounts", &[]),
    ("containers[].workingDir", &[]),
    ("dnsConfig", &[]),
    ("dnsPolicy", &["ClusterFirst"]),
    ("ephemeralContainers", &[]),
    ("hostAliases", &[]),
    ("hostIPC", &[]),
    ("hostNetwork", &[]),
    ("hostPID", &[]),
    ("hostUsers", &["true"]),
    ("hostname", &[]),
    ("hostnameOverride", &[]),
    ("imagePullSecrets", &[]),
    ("initContainers", &[]),
    ("os", &[]),
    ("overhead", &[]),
    ("preemptionPolicy", &["PreemptLowerPriority"]),
    ("priorityClassName", &[]),
    ("readinessGates", &[]),
    ("resourceClaims", &[]),
    ("resources", &[]),
    ("runtimeClassName", &[]),
    ("schedulerName", &["default-scheduler"]),
    ("schedulingGates", &[]),
    ("securityContext", &[]),
    ("setHostnameAsFQDN", &[]),
    ("shareProcessNamespace", &[]),
    ("subdomain", &[]),
    ("topologySpreadConstraints", &[]),
    ("volumes", &[]),
];

/// Of a Service.
pub(crate) const SERVICE: &[Field] = &[
    ("spec.allocateLoadBalancerNodePorts", &["true"]),
    ("spec.externalIPs", &[]),
    ("spec.externalName", &[]),
    ("spec.externalTrafficPolicy", &["Cluster"]),
    ("spec.healthCheckNodePort", &["0"]),
    ("spec.internalTrafficPolicy", &["Cluster"]),
    ("spec.ipFamilyPolicy", &["SingleStack"]),
    ("spec.loadBalancerClass", &[]),
    ("spec.loadBalancerIP", &[]),
    ("spec.loadBalancerSourceRanges", &[]),
    ("spec.ports[].nodePort", &["0"]),
    ("spec.publishNotReadyAddresses", &[]),
    ("spec.sessionAffinity", &["None"]),
    ("spec.trafficDistribution", &[]),
    ("spec.type", &["ClusterIP"]),
];

/// Of a ServiceAccount.
pub(crate) const SERVICE_ACCOUNT: &[Field] = &[
    ("automountServiceAccountToken", &[]),
    ("imagePullSecrets", &[]),
    ("secrets", &[]),
];

/// One line for each field of the table that the object uses; `prefix` is where the object stands.
pub(crate) fn warnings(prefix: &str, object: &Value, table: &[Field]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, silent) in table {
        let steps: Vec<_> = path.split('.').collect();
        walk(prefix.to_owned(), object, &steps, silent, &mut found);
    }
    found
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

    #[test]
    fn a_used_field_is_named_with_its_place_and_a_default_is_not() {
        let pod = json!({
            "securityContext": {},
            "dnsPolicy": "ClusterFirst",
            "volumes": [{}],
            "containers": [{ "tty": false }, { "livenessProbe": { "periodSeconds": 1 } }],
        });
        expect![[r#"
            spec.containers[1].livenessProbe: not acted on yet
            spec.volumes: not acted on yet"#]]
        .assert_eq(&warnings("spec", &pod, POD_SPEC).join("\n"));
    }

    #[test]
    fn the_compatibility_page_lists_every_field() {
        let page = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/compatibility.md"
        ))
        .expect("docs/compatibility.md is in the tree");
        for (path, _) in [POD_SPEC, SERVICE, SERVICE_ACCOUNT].concat() {
            assert!(
                page.contains(&format!("`{path}`")),
                "docs/compatibility.md does not list `{path}`"
            );
        }
    }
}
