//! Pod: containers that run together on one node.
//!
//! - `defaults`: what is filled in, in pods and in templates of pods.
//! - `template`: the template inside Deployments, Jobs and others.
//! - `validation`: what is wrong with a spec, by `volume`, `container`, `environment`, `handler`,
//!   `resources`, `security` and `affinity`.
//! - `instance`: what kinds that run something without a pod share with pods.
//! - `label_keys`: keys of affinity and spread that stand for the pod's own labels.
//! - `change`: what of a spec may change once the pod is there; `ephemeral` and `resize`: what may
//!   through a subresource.
//! - `row`: its line of a table.

mod affinity;
pub(crate) mod change;
mod container;
pub(crate) mod defaults;
mod environment;
pub(crate) mod ephemeral;
mod handler;
pub(crate) mod instance;
mod label_keys;
pub(crate) mod qos;
pub(crate) mod resize;
mod resources;
pub(crate) mod row;
mod security;
pub(crate) mod template;
pub(crate) mod validation;
pub(crate) mod volume;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, not_acted_on,
    value::{self, number, part, present, text, truth},
};
use crate::field::{FieldErrors, Path};

/// The kind.
pub(crate) struct Pod;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &["po"],
    categories: &["all"],
    namespaced: true,
    definition: "io.k8s.api.core.v1.Pod",
};

impl Kind for Pod {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[
            Subresource::Attach,
            Subresource::Binding,
            Subresource::EphemeralContainers,
            Subresource::Eviction,
            Subresource::Exec,
            Subresource::Log,
            Subresource::PortForward,
            Subresource::Proxy,
            Subresource::Resize,
            Subresource::Status,
        ]
    }

    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        let status = self.new_status(object);
        value::put(object, "status", status);
        label_keys::merge(object);
    }

    fn new_status(&self, object: &Value) -> Value {
        let mut status =
            json!({ "phase": "Pending", "qosClass": qos::class(part(object, "/spec")) });
        if !value::items(object, "/spec/schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        status
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        validation::spec(&Path::root("spec"), part(object, "/spec"), errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        if !value::items(object, "/spec/ephemeralContainers").is_empty() {
            errors.forbidden(
                &Path::root("spec").field("ephemeralContainers"),
                "cannot be set on create",
            );
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        change::validate(part(object, "/spec"), part(old, "/spec"), errors);
        change::validate_mirror(object, old, errors);
    }

    fn validate_status(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        change::validate_mirror(object, old, errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        not_acted_on::of_pod_spec("spec", part(object, "/spec"))
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let text = |pointer: &str| text(object, pointer).to_owned();
        vec![
            ("spec.nodeName", text("/spec/nodeName")),
            ("spec.restartPolicy", text("/spec/restartPolicy")),
            ("spec.schedulerName", text("/spec/schedulerName")),
            ("spec.serviceAccountName", text("/spec/serviceAccountName")),
            (
                "spec.hostNetwork",
                truth(object, "/spec/hostNetwork").to_string(),
            ),
            ("status.phase", text("/status/phase")),
            ("status.podIP", text("/status/podIP")),
            (
                "status.nominatedNodeName",
                text("/status/nominatedNodeName"),
            ),
        ]
    }

    fn field_names(&self) -> &[&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    /// A pod without a node, or whose containers have ended, has nothing to wait for.
    fn grace_seconds(&self, object: &Value, requested: Option<i64>) -> i64 {
        let ended = matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
        if !present(object, "/spec/nodeName") || text(object, "/spec/nodeName").is_empty() || ended
        {
            return 0;
        }
        let wanted = requested
            .or_else(|| number(object, "/spec/terminationGracePeriodSeconds"))
            .unwrap_or(defaults::GRACE_SECONDS);
        // A negative period is the API's way to say: as soon as can be, but let the nodelet know.
        if wanted < 0 { 1 } else { wanted }
    }

    fn columns(&self) -> &[Column] {
        row::COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row::cells(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::tests::read;

    #[track_caller]
    fn check(yaml: &str, requested: Option<i64>, seconds: i64) {
        assert_eq!(Pod.grace_seconds(&read(yaml), requested), seconds);
    }

    #[test]
    fn only_a_pod_that_may_be_running_is_waited_for() {
        check("{spec: {}}", None, 0);
        check("{spec: {nodeName: n1}}", None, 30);
        check(
            "{spec: {nodeName: n1, terminationGracePeriodSeconds: 5}}",
            None,
            5,
        );
        check("{spec: {nodeName: n1}}", Some(0), 0);
        check("{spec: {nodeName: n1}}", Some(-1), 1);
        check(
            "{spec: {nodeName: n1}, status: {phase: Failed}}",
            Some(9),
            0,
        );
    }
}
