//! What a node may, by what there is: each case is a node, a verb, what it is done with, and the answer.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{
    graph::Graph,
    references::{of_pod, of_revision, of_volume},
    *,
};
use crate::selector::FieldSelector;

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "annotations": null}, "spec": spec})
}

/// `n1` runs `a/web`, which names things in every way there is; `n2` runs `a/static`, a mirror pod, and made `pv2`;
/// a claim asks it for a volume. A function's revision is there.
fn graph() -> Graph {
    let web = pod(json!({
        "serviceAccountName": "robot",
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]}],
        "containers": [{"name": "c", "env": null, "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "all"}}]}],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}],
        "volumes": [
            {"name": "f", "secret": {"secretName": "files"}},
            {"name": "p", "projected": {"sources": [{"configMap": {"name": "root"}}, {"secret": {"name": "projected"}}, {"serviceAccountToken": {"path": "t"}}]}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "csi", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "inline"}}},
        ],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
    }));
    let mut mirror =
        pod(json!({"serviceAccountName": "robot", "imagePullSecrets": [{"name": "stolen"}]}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let revision = json!({"metadata": {}, "spec": {
        "image": "hello", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "of-function"}}}],
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "shared"}}], "imagePullSecrets": [{"name": "pulled"}],
    }});
    let container = json!({"metadata": {}, "spec": {
        "image": "nginx", "port": 80, "envFrom": [{"secretRef": {"name": "of-pods"}}], "imagePullSecrets": [{"name": "pulled-too"}],
    }});
    let volume = json!({"spec": {
        "claimRef": {"namespace": "a", "name": "data"},
        "csi": {
            "driver": "d", "nodeStageSecretRef": {"name": "stage", "namespace": "kube-system"},
            "controllerPublishSecretRef": {"name": "publish", "namespace": "kube-system"},
        },
    }});
    let bytes = |value: &Value| value.to_string().into_bytes();
    let mut graph = Graph::default();
    let to = of_pod("web", &bytes(&web)).expect("a pod");
    graph.put_pod("a", "web", "n1", &to);
    let to = of_pod("static", &bytes(&mirror)).expect("a pod");
    graph.put_pod("a", "static", "n2", &to);
    for (name, revision) in [("hello-1", &revision), ("nginx-1", &container)] {
        let to = of_revision(&bytes(revision)).expect("a revision");
        graph.put_revision("f", name, &to);
    }
    graph.put_volume("pv1", &of_volume(&bytes(&volume), "").expect("a volume"));
    let own = json!({"spec": {"claimRef": {"namespace": "a", "name": "other"}}});
    graph.put_volume("pv2", &of_volume(&bytes(&own), "n2").expect("a volume"));
    graph.put_asked("a", "other", "n2");
    graph
}

impl Asked for Graph {
    fn answers(&self, question: &dyn Fn(&Graph) -> bool) -> bool {
        question(self)
    }
}

/// Each line is `verb group/resource[/subresource] namespace/name [selector]`, `-` for what is not there.
#[track_caller]
fn check(node: &str, lines: &[&str], expected: Expect) {
    let graph = graph();
    let mut said = String::new();
    for line in lines {
        fn word(word: &str) -> &str {
            if word == "-" { "" } else { word }
        }
        let words: Vec<&str> = line.split(' ').collect();
        let what: Vec<_> = words[1].split('/').map(word).collect();
        let (namespace, name) = words[2].split_once('/').expect("two words");
        let fields = words
            .get(3)
            .map(|text| FieldSelector::parse(text).expect("a selector"));
        let asked = Attributes::resource(
            words[0],
            Resource {
                group: what[0],
                resource: what[1],
                subresource: what.get(2).copied().unwrap_or_default(),
                namespace: word(namespace),
                name: word(name),
                fields: fields.as_ref(),
            },
        );
        let answer = match opinion(&graph, &User::node(node), node, &asked) {
            Ok(()) => "allowed".to_owned(),
            Err(refusal) => format!("denied {}", refusal.reason()).trim_end().to_owned(),
        };
        said.push_str(&format!("{line}: {answer}\n"));
    }
    expected.assert_eq(&said);
}

#[test]
fn secrets_and_config_maps_are_read_by_the_nodes_of_their_pods() {
    check(
        "n1",
        &[
            "get -/secrets a/pull",
            "list -/secrets a/key metadata.name=key",
            "watch -/secrets a/all",
            "get -/secrets a/debug",
            "get -/secrets a/files",
            "get -/secrets a/projected",
            "get -/secrets a/inline",
            "get -/configmaps a/settings",
            "watch -/configmaps a/root",
            "get -/secrets kube-system/stage",
            "get -/secrets kube-system/publish",
            "get -/secrets b/pull",
            "get -/secrets a/settings",
            "get -/secrets a/stolen",
            "list -/secrets a/-",
            "list -/secrets -/pull",
            "delete -/secrets a/pull",
            "get -/secrets/status a/pull",
        ],
        expect![[r#"
            get -/secrets a/pull: allowed
            list -/secrets a/key metadata.name=key: allowed
            watch -/secrets a/all: allowed
            get -/secrets a/debug: allowed
            get -/secrets a/files: allowed
            get -/secrets a/projected: allowed
            get -/secrets a/inline: allowed
            get -/configmaps a/settings: allowed
            watch -/configmaps a/root: allowed
            get -/secrets kube-system/stage: allowed
            get -/secrets kube-system/publish: denied no relationship found between node 'n1' and this object
            get -/secrets b/pull: denied no relationship found between node 'n1' and this object
            get -/secrets a/settings: denied no relationship found between node 'n1' and this object
            get -/secrets a/stolen: denied no relationship found between node 'n1' and this object
            list -/secrets a/-: denied No Object name found
            list -/secrets -/pull: denied can only read namespaced object of this type
            delete -/secrets a/pull: denied can only read resources of this type
            get -/secrets/status a/pull: denied cannot read subresource
        "#]],
    );
    check(
        "n2",
        &[
            "get -/secrets a/pull",
            "get -/secrets a/stolen",
            "get -/configmaps a/root",
            "get -/secrets kube-system/stage",
        ],
        expect![[r#"
            get -/secrets a/pull: denied no relationship found between node 'n2' and this object
            get -/secrets a/stolen: denied no relationship found between node 'n2' and this object
            get -/configmaps a/root: denied no relationship found between node 'n2' and this object
            get -/secrets kube-system/stage: denied no relationship found between node 'n2' and this object
        "#]],
    );
}

#[test]
fn what_a_function_names_is_read_by_every_node() {
    for node in ["n1", "new"] {
        check(
            node,
            &[
                "get -/secrets f/of-function",
                "get -/secrets f/pulled",
                "get -/secrets f/pulled-too",
                "get -/persistentvolumeclaims f/shared",
                "create -/serviceaccounts/token f/default",
                "list functions.wk.dev/functionrevisions -/-",
                "patch functions.wk.dev/functionrevisions/status f/hello-1",
                "patch functions.wk.dev/functionrevisions f/hello-1",
            ],
            expect![[r#"
                get -/secrets f/of-function: allowed
                get -/secrets f/pulled: allowed
                get -/secrets f/pulled-too: allowed
                get -/persistentvolumeclaims f/shared: allowed
                create -/serviceaccounts/token f/default: allowed
                list functions.wk.dev/functionrevisions -/-: allowed
                patch functions.wk.dev/functionrevisions/status f/hello-1: allowed
                patch functions.wk.dev/functionrevisions f/hello-1: denied
            "#]],
        );
    }
    // The pods of a container name what it has.
    check(
        "n1",
        &["get -/secrets f/of-pods"],
        expect![[r#"
            get -/secrets f/of-pods: denied no relationship found between node 'n1' and this object
        "#]],
    );
}

#[test]
fn claims_and_volumes_follow_pods_and_those_whom_they_ask() {
    check(
        "n1",
        &[
            "get -/persistentvolumeclaims a/data",
            "get -/persistentvolumeclaims a/web-tmp",
            "patch -/persistentvolumeclaims/status a/data",
            "get -/persistentvolumeclaims/status a/data",
            "patch -/persistentvolumeclaims a/data",
            "get -/persistentvolumeclaims a/other",
            "list -/persistentvolumeclaims a/data metadata.name=data",
            "list -/persistentvolumeclaims -/- wk.dev/node=n1",
            "list -/persistentvolumeclaims -/- wk.dev/node!=n1",
            "watch -/persistentvolumes -/- wk.dev/node=n2",
            "get -/persistentvolumes -/pv1",
            "get -/persistentvolumes -/pv2",
            "delete -/persistentvolumes -/pv1",
            "create -/persistentvolumes -/-",
            "get resource.k8s.io/resourceclaims a/gpu",
            "get resource.k8s.io/resourceclaims a/tpu",
        ],
        expect![[r#"
            get -/persistentvolumeclaims a/data: allowed
            get -/persistentvolumeclaims a/web-tmp: allowed
            patch -/persistentvolumeclaims/status a/data: allowed
            get -/persistentvolumeclaims/status a/data: denied can only get/update/patch this type
            patch -/persistentvolumeclaims a/data: denied can only get individual resources of this type
            get -/persistentvolumeclaims a/other: denied no relationship found between node 'n1' and this object
            list -/persistentvolumeclaims a/data metadata.name=data: denied can only get individual resources of this type
            list -/persistentvolumeclaims -/- wk.dev/node=n1: allowed
            list -/persistentvolumeclaims -/- wk.dev/node!=n1: denied can only get individual resources of this type
            watch -/persistentvolumes -/- wk.dev/node=n2: denied can only get individual resources of this type
            get -/persistentvolumes -/pv1: allowed
            get -/persistentvolumes -/pv2: denied no relationship found between node 'n1' and this object
            delete -/persistentvolumes -/pv1: denied no relationship found between node 'n1' and this object
            create -/persistentvolumes -/-: allowed
            get resource.k8s.io/resourceclaims a/gpu: allowed
            get resource.k8s.io/resourceclaims a/tpu: denied no relationship found between node 'n1' and this object
        "#]],
    );
    check(
        "n2",
        &[
            "get -/persistentvolumeclaims a/other",
            "get -/persistentvolumeclaims a/data",
            "get -/persistentvolumes -/pv2",
            "patch -/persistentvolumes -/pv2",
            "get -/persistentvolumes -/pv1",
            "watch -/persistentvolumes -/- wk.dev/node=n2",
            "update -/persistentvolumes/status -/pv2",
        ],
        expect![[r#"
            get -/persistentvolumeclaims a/other: allowed
            get -/persistentvolumeclaims a/data: denied no relationship found between node 'n2' and this object
            get -/persistentvolumes -/pv2: allowed
            patch -/persistentvolumes -/pv2: allowed
            get -/persistentvolumes -/pv1: denied no relationship found between node 'n2' and this object
            watch -/persistentvolumes -/- wk.dev/node=n2: allowed
            update -/persistentvolumes/status -/pv2: denied can only get individual resources of this type
        "#]],
    );
}

#[test]
fn a_node_has_its_own_objects() {
    check(
        "n1",
        &[
            "get -/pods a/web",
            "get -/pods a/static",
            "list -/pods -/- spec.nodeName=n1",
            "watch -/pods -/- spec.nodeName=n2",
            "list -/pods a/-",
            "watch -/pods a/web metadata.name=web",
            "create -/pods a/-",
            "patch -/pods a/web",
            "patch -/pods/status a/web",
            "create -/pods/exec a/web",
            "get -/pods/log a/web",
            "get -/nodes -/n1",
            "list -/nodes -/-",
            "watch -/nodes -/n1 metadata.name=n1",
            "get -/nodes -/n2",
            "create -/nodes -/-",
            "patch -/nodes/status -/n1",
            "delete -/nodes -/n1",
            "create -/nodes/proxy -/n1",
            "patch coordination.k8s.io/leases kube-node-lease/n1",
            "get coordination.k8s.io/leases kube-node-lease/n2",
            "create coordination.k8s.io/leases kube-node-lease/-",
            "list coordination.k8s.io/leases kube-node-lease/-",
            "get coordination.k8s.io/leases kube-system/n1",
            "update storage.k8s.io/csinodes -/n1",
            "get storage.k8s.io/csinodes -/n2",
            "list storage.k8s.io/csinodes -/-",
        ],
        expect![[r#"
            get -/pods a/web: allowed
            get -/pods a/static: denied no relationship found between node 'n1' and this object
            list -/pods -/- spec.nodeName=n1: allowed
            watch -/pods -/- spec.nodeName=n2: denied can only list/watch pods with spec.nodeName field selector
            list -/pods a/-: denied can only list/watch pods with spec.nodeName field selector
            watch -/pods a/web metadata.name=web: allowed
            create -/pods a/-: allowed
            patch -/pods a/web: denied
            patch -/pods/status a/web: allowed
            create -/pods/exec a/web: denied
            get -/pods/log a/web: denied
            get -/nodes -/n1: allowed
            list -/nodes -/-: denied node 'n1' cannot read all nodes, only its own Node object
            watch -/nodes -/n1 metadata.name=n1: allowed
            get -/nodes -/n2: denied node 'n1' cannot read 'n2', only its own Node object
            create -/nodes -/-: allowed
            patch -/nodes/status -/n1: allowed
            delete -/nodes -/n1: denied
            create -/nodes/proxy -/n1: denied
            patch coordination.k8s.io/leases kube-node-lease/n1: allowed
            get coordination.k8s.io/leases kube-node-lease/n2: denied can only access node lease with the same name as the requesting node
            create coordination.k8s.io/leases kube-node-lease/-: allowed
            list coordination.k8s.io/leases kube-node-lease/-: denied can only get, create, update, patch, or delete a node lease
            get coordination.k8s.io/leases kube-system/n1: denied can only access leases in the "kube-node-lease" system namespace
            update storage.k8s.io/csinodes -/n1: allowed
            get storage.k8s.io/csinodes -/n2: denied can only access CSINode with the same name as the requesting node
            list storage.k8s.io/csinodes -/-: denied can only get, create, update, patch, or delete a CSINode
        "#]],
    );
}

#[test]
fn accounts_have_tokens_where_their_pods_run() {
    check(
        "n1",
        &[
            "create -/serviceaccounts/token a/robot",
            "create -/serviceaccounts/token a/default",
            "get -/serviceaccounts a/robot",
            "create -/serviceaccounts a/robot",
        ],
        expect![[r#"
            create -/serviceaccounts/token a/robot: allowed
            create -/serviceaccounts/token a/default: denied no relationship found between node 'n1' and this object
            get -/serviceaccounts a/robot: denied can only create tokens for individual service accounts
            create -/serviceaccounts a/robot: denied can only create token subresource of serviceaccount
        "#]],
    );
    check(
        "n2",
        &["create -/serviceaccounts/token a/robot"],
        expect![[r#"
            create -/serviceaccounts/token a/robot: denied no relationship found between node 'n2' and this object
        "#]],
    );
}

#[test]
fn the_rest_is_what_nodelets_do_and_no_more() {
    check(
        "n1",
        &[
            "create -/events a/-",
            "watch -/services -/-",
            "get node.k8s.io/runtimeclasses -/kata",
            "get storage.k8s.io/storageclasses -/wk-local",
            "list -/namespaces -/-",
            "list discovery.k8s.io/endpointslices -/-",
            "create authentication.k8s.io/tokenreviews -/-",
            "create certificates.k8s.io/certificatesigningrequests -/-",
            "get functions.wk.dev/functions f/hello",
        ],
        expect![[r#"
            create -/events a/-: allowed
            watch -/services -/-: allowed
            get node.k8s.io/runtimeclasses -/kata: allowed
            get storage.k8s.io/storageclasses -/wk-local: allowed
            list -/namespaces -/-: denied
            list discovery.k8s.io/endpointslices -/-: denied
            create authentication.k8s.io/tokenreviews -/-: denied
            create certificates.k8s.io/certificatesigningrequests -/-: denied
            get functions.wk.dev/functions f/hello: denied
        "#]],
    );
}

#[test]
fn a_node_without_a_name_is_nobody() {
    check(
        "",
        &["get -/nodes -/-"],
        expect![[r#"
        get -/nodes -/-: denied unknown node for user "system:node:"
    "#]],
    );
}
