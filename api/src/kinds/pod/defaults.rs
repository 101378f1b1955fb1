//! What a pod's spec says when its author does not.
//!
//! Templates get the same but for what is decided for each pod when it is made: its
//! requests. Its identity, priority and default tolerations are admission's.

use serde_json::{Map, Value, json};

use super::volume;
use crate::kinds::value::{child, each, entries, fill, fill_text, find, part, put, text};

/// How long a pod may take to stop, in seconds.
pub(crate) const GRACE_SECONDS: i64 = 30;

/// Fills in a whole pod.
pub(crate) fn pod(object: &mut Value) {
    fill(object, "status", Map::new());
    let Some(spec) = child(object, "spec") else {
        return;
    };
    pod_spec(spec);
    fill(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            requests_from_limits(container);
        }
    }
}

/// Fills in what pods and templates share.
pub(crate) fn pod_spec(spec: &mut Value) {
    fill_text(spec, "restartPolicy", "Always");
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", Map::new());
    fill(spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    // The older name of the field, which clients still read.
    for (from, to) in [
        ("/serviceAccountName", "serviceAccount"),
        ("/serviceAccount", "serviceAccountName"),
    ] {
        let name = text(spec, from).to_owned();
        if !name.is_empty() {
            fill_text(spec, to, &name);
        }
    }
    let host_network = part(spec, "/hostNetwork") == &Value::Bool(true);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for one in each(spec, list) {
            container(one, host_network);
        }
    }
    for volume in each(spec, "volumes") {
        volume::default(volume);
    }
}

/// Fills in one container.
pub(super) fn container(container: &mut Value, host_network: bool) {
    let policy = pull_policy(text(container, "/image"));
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", Map::new());
    for port in each(container, "ports") {
        fill_text(port, "protocol", "TCP");
        if host_network {
            let own = part(port, "/containerPort").clone();
            fill(port, "hostPort", own);
        }
    }
    for variable in each(container, "env") {
        if let Some(source) = find(variable, "valueFrom")
            && let Some(field) = find(source, "fieldRef")
        {
            fill_text(field, "apiVersion", "v1");
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = find(container, name) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = find(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(get) = find(lifecycle, hook).and_then(|hook| find(hook, "httpGet")) {
                default_http_get(get);
            }
        }
    }
}

/// `Always` for an image whose tag may move; a local file is as fresh as it gets.
fn pull_policy(image: &str) -> &'static str {
    if image.starts_with("file://") || image.contains('@') {
        return "IfNotPresent";
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    match name.split_once(':') {
        None | Some((_, "latest" | "")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn default_probe(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if part(probe, "").get(field) == Some(&json!(0)) {
            put(probe, field, Value::Null);
        }
        fill(probe, field, value);
    }
    if let Some(get) = find(probe, "httpGet") {
        default_http_get(get);
    }
    if let Some(call) = find(probe, "grpc") {
        fill(call, "service", "");
    }
}

fn default_http_get(get: &mut Value) {
    fill_text(get, "path", "/");
    fill_text(get, "scheme", "HTTP");
}

fn requests_from_limits(container: &mut Value) {
    let limits = part(container, "/resources/limits").clone();
    if entries(&limits, "").next().is_some()
        && let Some(resources) = child(container, "resources")
        && let Some(requests) = child(resources, "requests")
    {
        for (resource, limit) in entries(&limits, "") {
            fill(requests, resource, limit.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::{pod::Pod, tests::defaulted};

    #[test]
    fn a_name_and_an_image_are_enough() {
        expect![[r#"{"spec":{"containers":[{"image":"i","imagePullPolicy":"Always","name":"a","ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":1},"requests":{"cpu":1}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30},"status":{}}"#]]
        .assert_eq(&defaulted(
            &Pod,
            "{spec: {containers: [{name: a, image: i, ports: [{containerPort: 80}], resources: \
             {limits: {cpu: 1}}}]}}",
        ));
    }

    #[test]
    fn only_a_tag_that_may_move_is_always_pulled() {
        for image in ["a", "a:latest", "localhost:5000/a"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["a:1", "localhost:5000/a:1", "a@sha256:00", "file:///a.wasm"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }

    #[test]
    fn a_probe_asks_every_ten_seconds() {
        let mut probe = json!({ "httpGet": { "port": 80 } });
        default_probe(&mut probe);
        expect![[r#"{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1}"#]]
            .assert_eq(&probe.to_string());
    }
}
