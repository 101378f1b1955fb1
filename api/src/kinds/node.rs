//! Node: a machine that runs pods; its nodelet registers it and writes its status.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, check, column,
    value::{entries, fill, find, items, part, present, put, text, truth},
    write,
};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// The kind.
pub(crate) struct Node;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &["no"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.core.v1.Node",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Status", "Whether it is ready and takes new pods"),
    column::shown("Roles", "What its role labels say"),
    column::AGE,
    column::shown("Version", "Version of its nodelet"),
    column::wide("Internal-IP", "Its address in the cluster"),
    column::wide("External-IP", "Its address outside"),
    column::wide("OS-Image", "Its operating system"),
    column::wide("Kernel-Version", "Its kernel"),
    column::wide("Container-Runtime", "What runs its containers"),
];

impl Kind for Node {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Proxy, Subresource::Status]
    }

    fn default(&self, object: &mut Value) {
        fill(object, "spec", write::empty());
        fill(object, "status", write::empty());
        if let Some(spec) = find(object, "spec") {
            let one = text(spec, "/podCIDR").to_owned();
            if !one.is_empty() && items(spec, "/podCIDRs").is_empty() {
                put(spec, "podCIDRs", json!([one]));
            }
        }
    }

    /// A nodelet registers its node with the status it sees, so that stays.
    fn prepare_create(&self, _object: &mut Value) {}

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        write::keep_status(object, old);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("taints");
        let mut seen = check::Seen::new();
        for (index, taint) in items(object, "/spec/taints").iter().enumerate() {
            let path = path.index(index);
            let key = text(taint, "/key");
            check::problems(
                &path.field("key"),
                key,
                name::qualified_problems(key),
                errors,
            );
            let value = text(taint, "/value");
            check::problems(
                &path.field("value"),
                value,
                name::label_value_problems(value),
                errors,
            );
            let effect = text(taint, "/effect");
            if effect.is_empty() {
                errors.required(&path.field("effect"), "");
            }
            check::one_of(
                &path.field("effect"),
                part(taint, "/effect"),
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
                errors,
            );
            check::unique(&path, &format!("{key}:{effect}"), &mut seen, errors);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let pointer = format!("/spec/{field}");
            if present(old, &pointer)
                && !text_or_list_empty(part(old, &pointer))
                && part(object, &pointer) != part(old, &pointer)
            {
                errors.forbidden(
                    &Path::root("spec").field(field),
                    format!("node updates may not change {field} except from \"\" to valid"),
                );
            }
        }
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let unschedulable = truth(object, "/spec/unschedulable");
        vec![("spec.unschedulable", unschedulable.to_string())]
    }

    fn field_names(&self) -> &[&'static str] {
        &["spec.unschedulable"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let address = |kind: &str| {
            let found = items(object, "/status/addresses")
                .iter()
                .find(|address| text(address, "/type") == kind);
            column::or_none(found.map_or("", |address| text(address, "/address")))
        };
        let info = |field: &str| match text(object, &format!("/status/nodeInfo/{field}")) {
            "" => Value::from("<unknown>"),
            text => text.into(),
        };
        vec![
            column::name(object),
            status(object).into(),
            column::or_none(&roles(object)),
            column::age(object, now),
            text(object, "/status/nodeInfo/kubeletVersion").into(),
            address("InternalIP"),
            address("ExternalIP"),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    }
}

fn text_or_list_empty(value: &Value) -> bool {
    value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty)
}

fn status(object: &Value) -> String {
    let ready = items(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if truth(object, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<_> = entries(object, "/metadata/labels")
        .filter_map(|(key, value)| {
            match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            }
            .filter(|role| !role.is_empty())
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn a_row_says_ready_cordoned_and_roles() {
        expect![
            "n1|Ready,SchedulingDisabled|a,b|60m|v1|10.0.0.1|<none>|<unknown>|<unknown>|<unknown>"
        ]
        .assert_eq(&row(
            &Node,
            "{metadata: {name: n1, labels: {node-role.kubernetes.io/b: '', kubernetes.io/role: \
                 a}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: \
                 'True'}], nodeInfo: {kubeletVersion: v1}, addresses: [{type: InternalIP, address: \
                 10.0.0.1}]}}",
        ));
    }

    #[test]
    fn a_pod_range_once_set_stays() {
        expect![""].assert_eq(&update_errors(
            &Node,
            "{}",
            "{spec: {podCIDR: 10.64.0.0/18}}",
        ));
        expect![[r#"
            spec.podCIDR: Forbidden: node updates may not change podCIDR except from "" to valid
            spec.podCIDRs: Forbidden: node updates may not change podCIDRs except from "" to valid
        "#]]
        .assert_eq(&update_errors(
            &Node,
            "{spec: {podCIDR: 10.64.0.0/18}}",
            "{spec: {podCIDR: 10.64.64.0/18}}",
        ));
    }

    #[test]
    fn a_taint_has_an_effect() {
        expect![[r#"
            spec.taints[0].effect: Required value
        "#]]
        .assert_eq(&errors(&Node, "{spec: {taints: [{key: a}]}}"));
    }
}
