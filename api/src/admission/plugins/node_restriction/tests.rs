use expect_test::{Expect, expect};

use super::*;
use crate::auth::{NODES, User};
use crate::kinds::tests::read;

/// What is said of a write by the node `n1`: `line` is an operation, a path
/// (`group/namespace/plural/name/subresource`, each may be empty), then the object, the old one and
/// the pod in question, or for a volume `{claim: …, class: …, volume: …}`.
#[track_caller]
fn check(line: &str, values: [&str; 3], expected: Expect) {
    let (operation, path) = line.split_once(' ').expect("an operation and a path");
    let [group, namespace, plural, name, subresource] = path
        .split('/')
        .collect::<Vec<_>>()
        .try_into()
        .expect("five parts");
    let [object, old, pod] = values.map(read);
    let write = Write {
        node: "n1",
        operation: match operation {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Delete,
        },
        group,
        plural,
        subresource,
        namespace,
        name,
        object: &object,
        old: &old,
        pod: &pod,
        claim: &pod["claim"],
        class: &pod["class"],
        volume: &pod["volume"],
        hostname: "host",
    };
    expected.assert_eq(&match super::check(&write) {
        Ok(()) => "allowed".to_owned(),
        Err(message) => message,
    });
}

const OWN: &str = "{spec: {nodeName: n1}, metadata: {uid: u}}";
const OTHER: &str = "{spec: {nodeName: n2}, metadata: {uid: u}}";

#[test]
fn a_node_writes_only_itself() {
    check(
        "CREATE //nodes/n1/",
        ["{}", "null", "null"],
        expect!["allowed"],
    );
    check(
        "CREATE //nodes/n2/",
        ["{}", "null", "null"],
        expect![[r#"node "n1" is not allowed to modify node "n2""#]],
    );
    check(
        "UPDATE //nodes/n1/status",
        ["{}", "{}", "null"],
        expect!["allowed"],
    );
    check(
        "UPDATE //nodes/n2/status",
        ["{}", "{}", "null"],
        expect![[r#"node "n1" is not allowed to modify node "n2""#]],
    );
    check(
        "DELETE //nodes/n2/",
        ["null", "{}", "null"],
        expect![[r#"node "n1" is not allowed to modify node "n2""#]],
    );
    check(
        "UPDATE //nodes/n1/",
        [
            "{spec: {taints: []}}",
            "{spec: {taints: [{key: a}]}}",
            "null",
        ],
        expect![[r#"node "n1" is not allowed to modify taints"#]],
    );
    check(
        "UPDATE //nodes/n1/",
        ["{metadata: {ownerReferences: [{name: a}]}}", "{}", "null"],
        expect![[r#"node "n1" is not allowed to modify ownerReferences"#]],
    );
}

#[test]
fn a_node_labels_itself_with_its_own_labels() {
    let own = "{metadata: {labels: {kubernetes.io/os: linux, example.com/a: b, x.node.kubernetes.io/a: b}}}";
    check(
        "CREATE //nodes/n1/",
        [own, "null", "null"],
        expect!["allowed"],
    );
    check(
        "UPDATE //nodes/n1/",
        [own, "{}", "null"],
        expect!["allowed"],
    );
    let role = "{metadata: {labels: {node-role.kubernetes.io/x: '', a.node-restriction.kubernetes.io/a: b}}}";
    check(
        "CREATE //nodes/n1/",
        [role, "null", "null"],
        expect![[
            r#"node "n1" is not allowed to set the following labels: a.node-restriction.kubernetes.io/a, node-role.kubernetes.io/x"#
        ]],
    );
    check(
        "UPDATE //nodes/n1/",
        ["{}", role, "null"],
        expect![[
            r#"node "n1" is not allowed to modify labels: a.node-restriction.kubernetes.io/a, node-role.kubernetes.io/x"#
        ]],
    );
    check(
        "UPDATE //nodes/n1/",
        [role, role, "null"],
        expect!["allowed"],
    );
}

#[test]
fn a_node_writes_the_status_and_the_end_of_its_pods() {
    check(
        "UPDATE /d/pods/p/status",
        [OWN, OWN, "null"],
        expect!["allowed"],
    );
    check(
        "UPDATE /d/pods/p/status",
        [OWN, OTHER, "null"],
        expect![[
            r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#
        ]],
    );
    check(
        "UPDATE /d/pods/p/status",
        [
            "{spec: {nodeName: n1}, metadata: {labels: {a: b}}}",
            OWN,
            "null",
        ],
        expect![[r#"node "n1" cannot update labels through pod status"#]],
    );
    check(
        "UPDATE /d/pods/p/status",
        [
            "{spec: {nodeName: n1}, status: {resourceClaimStatuses: [{name: a, resourceClaimName: b}]}}",
            OWN,
            "null",
        ],
        expect![[r#"node "n1" cannot update resource claim statuses"#]],
    );
    check(
        "DELETE /d/pods/p/",
        ["null", OWN, "null"],
        expect!["allowed"],
    );
    check(
        "DELETE /d/pods/p/",
        ["null", OTHER, "null"],
        expect![[r#"node "n1" can only delete pods with spec.nodeName set to itself"#]],
    );
    check(
        "CREATE /d/pods/p/eviction",
        ["{}", "null", OWN],
        expect!["allowed"],
    );
    check(
        "CREATE /d/pods/p/eviction",
        ["{}", "null", OTHER],
        expect![[r#"node "n1" can only evict pods with spec.nodeName set to itself"#]],
    );
    check(
        "UPDATE /d/pods/p/",
        [OWN, OWN, "null"],
        expect![[
            r#"unexpected operation "UPDATE", node "n1" can only create and delete mirror pods"#
        ]],
    );
    check(
        "CREATE /d/pods/p/binding",
        ["{}", "null", "null"],
        expect![[
            r#"unexpected pod subresource "binding", only 'status' and 'eviction' are allowed"#
        ]],
    );
}

#[test]
fn a_node_makes_mirrors_of_what_it_has() {
    let mirror = |spec: &str| {
        format!(
            "{{metadata: {{annotations: {{{MIRROR}: x}}, ownerReferences: [{{apiVersion: v1, kind: Node, name: n1, controller: true}}]}}, spec: {{nodeName: n1{spec}}}}}"
        )
    };
    check(
        "CREATE /d/pods/p/",
        [&mirror(""), "null", "null"],
        expect!["allowed"],
    );
    check(
        "CREATE /d/pods/p/",
        [OWN, "null", "null"],
        expect![[
            r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#
        ]],
    );
    check(
        "CREATE /d/pods/p/",
        [&mirror(", serviceAccountName: a"), "null", "null"],
        expect![[r#"node "n1" can not create pods that reference a service account"#]],
    );
    check(
        "CREATE /d/pods/p/",
        [
            &mirror(", containers: [{env: [{valueFrom: {secretKeyRef: {name: s}}}]}]"),
            "null",
            "null",
        ],
        expect![[r#"node "n1" can not create pods that reference secrets"#]],
    );
    check(
        "CREATE /d/pods/p/",
        [
            &mirror(", volumes: [{projected: {sources: [{configMap: {name: c}}]}}]"),
            "null",
            "null",
        ],
        expect![[r#"node "n1" can not create pods that reference configmaps"#]],
    );
    check(
        "CREATE /d/pods/p/",
        [
            &mirror(", volumes: [{name: v, azureFile: {secretName: s}}], containers: []"),
            "null",
            "null",
        ],
        expect![[r#"node "n1" can not create pods that reference objects of the API"#]],
    );
    let unowned = format!("{{metadata: {{annotations: {{{MIRROR}: x}}}}, spec: {{nodeName: n1}}}}");
    check(
        "CREATE /d/pods/p/",
        [&unowned, "null", "null"],
        expect![[
            r#"node "n1" can only create pods with a controller owner reference set to itself"#
        ]],
    );
}

#[test]
fn a_node_renews_its_lease() {
    let path = "coordination.k8s.io/kube-node-lease/leases";
    check(
        &format!("CREATE {path}/n1/"),
        ["{}", "null", "null"],
        expect!["allowed"],
    );
    check(
        &format!("UPDATE {path}/n1/"),
        ["{}", "{}", "null"],
        expect!["allowed"],
    );
    check(
        &format!("DELETE {path}/n2/"),
        ["null", "{}", "null"],
        expect!["can only access node lease with the same name as the requesting node"],
    );
    check(
        "UPDATE coordination.k8s.io/kube-system/leases/n1/",
        ["{}", "{}", "null"],
        expect![[r#"can only access leases in the "kube-node-lease" system namespace"#]],
    );
}

#[test]
fn a_node_asks_for_tokens_of_its_pods() {
    let path = "CREATE /d/serviceaccounts/a/token";
    let bound = "{spec: {boundObjectRef: {apiVersion: v1, kind: Pod, name: p, uid: u}}}";
    check(path, [bound, "null", OWN], expect!["allowed"]);
    check(
        path,
        [bound, "null", OTHER],
        expect!["node requested token bound to a pod scheduled on a different node"],
    );
    check(
        path,
        ["{}", "null", "null"],
        expect!["node requested token not bound to a pod"],
    );
    check(
        path,
        [
            "{spec: {boundObjectRef: {apiVersion: v1, kind: Pod, name: p}}}",
            "null",
            OWN,
        ],
        expect!["node requested token with a pod binding without a uid"],
    );
}

#[test]
fn a_node_asks_for_tokens_of_revisions_that_there_are() {
    let path = "CREATE /d/serviceaccounts/a/token";
    let bound = "{spec: {boundObjectRef: {apiVersion: functions.wk.dev/v1, kind: FunctionRevision, name: p, uid: u}}}";
    check(path, [bound, "null", OWN], expect!["allowed"]);
    let other = "{metadata: {name: p, uid: another}}";
    check(
        path,
        [bound, "null", other],
        expect![
            "the UID in the bound object reference (u) does not match the UID in record. The object might have been deleted and then recreated"
        ],
    );
    check(
        path,
        [bound, "null", "null"],
        expect!["node requested token not bound to a pod"],
    );
}

#[test]
fn other_objects_are_for_roles_to_say() {
    check(
        "CREATE /d/events/e/",
        ["{}", "null", "null"],
        expect!["allowed"],
    );
    check(
        "UPDATE /d/persistentvolumeclaims/c/",
        ["{}", "{}", "null"],
        expect!["may only update PVC status"],
    );
    check(
        "UPDATE storage.k8s.io//csinodes/n2/",
        ["{}", "{}", "null"],
        expect!["can only access CSINode with the same name as the requesting node"],
    );
}

#[test]
fn only_a_node_of_the_group_is_one() {
    assert_eq!(User::node("n1").node_name(), Some("n1"));
    assert_eq!(User::new("system:node:n1", &[]).node_name(), None);
    assert_eq!(User::new("jane", &[NODES]).node_name(), None);
}

/// A claim that asks `n1` for a volume, its class, and what `n1` may make of it.
const ASKED: &str = "{claim: {metadata: {uid: u, annotations: {volume.kubernetes.io/storage-provisioner: \
     wk.dev/local, volume.kubernetes.io/selected-node: n1}}, spec: {storageClassName: wk-local, \
     accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}, class: {provisioner: \
     wk.dev/local, reclaimPolicy: Delete}}";

fn made(node: &str, capacity: &str, host: &str, extra: &str) -> String {
    format!(
        "{{metadata: {{annotations: {{pv.kubernetes.io/provisioned-by: wk.dev/local, wk.dev/node: {node}}}, \
         finalizers: [wk.dev/local-volume]}}, spec: {{storageClassName: wk-local, accessModes: [ReadWriteOnce], \
         persistentVolumeReclaimPolicy: Delete, capacity: {{storage: {capacity}}}, claimRef: {{uid: u}}, \
         local: {{path: /a}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: \
         kubernetes.io/hostname, operator: In, values: [{host}]}}]}}]}}}}{extra}}}}}"
    )
}

#[test]
fn a_node_makes_the_volumes_that_claims_ask_it_for() {
    let create = "CREATE //persistentvolumes/pvc-u/";
    let own = made("n1", "2Gi", "host", "");
    check(create, [&own, "null", ASKED], expect!["allowed"]);
    check(
        "CREATE //persistentvolumes/pvc-other/",
        [&own, "null", ASKED],
        expect![[r#"node "n1" can only create a volume under the name of its claim"#]],
    );
    check(
        create,
        [&made("n2", "2Gi", "host", ""), "null", ASKED],
        expect![[r#"node "n1" can only create volumes that it made"#]],
    );
    check(
        create,
        [&own, "null", "{}"],
        expect![[r#"node "n1" can only create volumes for claims that ask it for one"#]],
    );
    check(
        create,
        [
            &own,
            "null",
            &ASKED.replace("selected-node: n1", "selected-node: n2"),
        ],
        expect![[r#"node "n1" can only create volumes for claims that ask it for one"#]],
    );
    for wrong in [
        made("n1", "9Gi", "host", ""),
        made("n1", "2Gi", "elsewhere", ""),
    ] {
        check(
            create,
            [&wrong, "null", ASKED],
            expect![[
                r#"node "n1" can only create local volumes of its own, as the claim and its class ask for them"#
            ]],
        );
    }
}

#[test]
fn a_node_changes_and_deletes_only_volumes_that_it_made() {
    let update = "UPDATE //persistentvolumes/pvc-u/";
    let (small, large) = (made("n1", "1Gi", "host", ""), made("n1", "2Gi", "host", ""));
    let other = made("n2", "1Gi", "host", "");
    check(update, [&large, &small, ASKED], expect!["allowed"]);
    check(
        update,
        [&made("n1", "3Gi", "host", ""), &small, ASKED],
        expect![[r#"node "n1" can only make a volume as large as its claim asks for"#]],
    );
    check(
        update,
        [
            &small.replace("finalizers: [wk.dev/local-volume]", "finalizers: []"),
            &small,
            ASKED,
        ],
        expect!["allowed"],
    );
    check(
        update,
        [&small.replace("path: /a", "path: /b"), &small, ASKED],
        expect![[r#"node "n1" can only change the capacity and its own finalizer of volumes"#]],
    );
    check(
        update,
        [&other, &other, ASKED],
        expect![[r#"node "n1" can only change volumes that it made"#]],
    );
    let phase = |phase: &str| small.replacen('{', &format!("{{status: {{phase: {phase}}}, "), 1);
    let delete = "DELETE //persistentvolumes/pvc-u/";
    check(
        delete,
        ["null", &phase("Released"), "null"],
        expect!["allowed"],
    );
    check(
        delete,
        ["null", &phase("Bound"), "null"],
        expect![[r#"node "n1" can only delete volumes that are released and to be deleted"#]],
    );
    check(
        "UPDATE //persistentvolumes/pvc-u/status",
        [&small, &small, "null"],
        expect![[r#"node "n1" can not write "status" of volumes"#]],
    );
}

#[test]
fn a_node_says_how_large_the_claims_of_its_volumes_are() {
    let status = "UPDATE /ns/persistentvolumeclaims/c/status";
    let claim = "{metadata: {uid: u}, status: {phase: Bound}}";
    let related = |node: &str| format!("{{volume: {}}}", made(node, "1Gi", "host", ""));
    check(status, [claim, claim, &related("n1")], expect!["allowed"]);
    check(
        status,
        [claim, claim, &related("n2")],
        expect![[r#"node "n1" can only update the status of claims bound to its own volumes"#]],
    );
    check(
        status,
        [
            "{metadata: {uid: u}, status: {phase: Lost}}",
            claim,
            &related("n1"),
        ],
        expect![[r#"node "n1" can not change what a claim is bound as"#]],
    );
}

#[test]
fn a_node_says_of_a_revision_what_it_has_made_of_it_itself() {
    let path = "UPDATE functions.wk.dev/ns/functionrevisions/f-00001/status";
    let old = "{status: {runtime: wasm, nodes: [{name: n2, ready: true}]}}";
    check(
        path,
        [
            "{status: {runtime: wasm, nodes: [{name: n1, ready: true}, {name: n2, ready: true}]}}",
            old,
            "null",
        ],
        expect!["allowed"],
    );
    check(
        path,
        [
            "{status: {runtime: wasm, nodes: [{name: n2, ready: false}]}}",
            old,
            "null",
        ],
        expect![[r#"node "n1" can only update its own entry of status.nodes"#]],
    );
    check(
        path,
        [
            "{status: {runtime: oci, nodes: [{name: n2, ready: true}]}}",
            old,
            "null",
        ],
        expect![[r#"node "n1" can only update status.nodes of a FunctionRevision"#]],
    );
    check(
        "DELETE functions.wk.dev/ns/functionrevisions/f-00001/",
        ["null", old, "null"],
        expect![[r#"node "n1" can only update status of a FunctionRevision"#]],
    );
}
