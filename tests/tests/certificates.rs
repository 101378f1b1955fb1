//! A user's certificate, from the key to the first call, and a node's: `openssl` and the real `kubectl`, in the steps
//! that Kubernetes' documentation has for it.

use std::time::Duration;

use e2e::{Cluster, eventually};

const SOON: Duration = Duration::from_secs(30);

/// The file of a user's key, certificate or other part.
fn file(cluster: &Cluster, name: &str) -> String {
    let dir = cluster.data_dir();
    let dir = dir.parent().expect("it is in the test's own directory");
    dir.join(name).display().to_string()
}

/// Makes a key and a request of this subject for it, and asks for the certificate.
fn ask(cluster: &Cluster, user: &str, subject: &str, key: &[&str]) {
    let (key_file, request_file) = (
        file(cluster, &format!("{user}.key")),
        file(cluster, &format!("{user}.csr")),
    );
    let mut arguments = vec!["req", "-new", "-nodes", "-subj", subject];
    arguments.extend(["-keyout", &key_file, "-out", &request_file]);
    arguments.extend(key);
    cluster.sandbox.run("openssl", &arguments).ok();
    let request = ["base64", "-A", "-in", &request_file];
    let request = cluster.sandbox.run("openssl", &request).ok();
    let manifest = cluster.manifest(
        &format!("{user}.yaml"),
        &format!(
            "apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata:
  name: {user}
spec:
  request: {request}
  signerName: kubernetes.io/kube-apiserver-client
  expirationSeconds: 86400
  usages: [client auth]
"
        ),
    );
    cluster.kubectl(&["apply", "-f", &manifest]).ok();
}

/// The last column of a request: what became of it.
fn condition(cluster: &Cluster, name: &str) -> String {
    let row = cluster.kubectl(&["get", "csr", name, "--no-headers"]).ok();
    let condition = row.split_whitespace().last();
    condition.unwrap_or_default().to_owned()
}

/// Approves a user's request, waits for the certificate and makes a context of it.
fn approve(cluster: &Cluster, user: &str) {
    assert_eq!(condition(cluster, user), "Pending");
    cluster.kubectl(&["certificate", "approve", user]).ok();
    eventually(SOON, || match condition(cluster, user).as_str() {
        "Approved,Issued" => Ok(()),
        other => Err(other.to_owned()),
    });
    let path = "jsonpath={.status.certificate}";
    let encoded = cluster.kubectl(&["get", "csr", user, "-o", path]).ok();
    let encoded = cluster.manifest(&format!("{user}.crt.base64"), &encoded);
    let certificate = file(cluster, &format!("{user}.crt"));
    let decode = ["base64", "-d", "-A", "-in", &encoded, "-out", &certificate];
    cluster.sandbox.run("openssl", &decode).ok();

    let key = file(cluster, &format!("{user}.key"));
    let name = "jsonpath={.clusters[0].name}";
    let name = cluster.kubectl(&["config", "view", "-o", name]).ok();
    cluster
        .kubectl(&[
            "config",
            "set-credentials",
            user,
            &format!("--client-certificate={certificate}"),
            &format!("--client-key={key}"),
            "--embed-certs=true",
        ])
        .ok();
    cluster
        .kubectl(&[
            "config",
            "set-context",
            user,
            &format!("--cluster={name}"),
            &format!("--user={user}"),
        ])
        .ok();
}

#[test]
fn a_certificate_that_was_approved_makes_its_user_known() {
    let cluster = Cluster::start();
    let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    for (user, key) in [("jane", &["-newkey", "rsa:2048"][..]), ("joe", &elliptic)] {
        ask(&cluster, user, &format!("/CN={user}/O=dev"), key);
        approve(&cluster, user);
        let context = format!("--context={user}");
        let who = cluster
            .kubectl(&[&context, "auth", "whoami", "-o", "json"])
            .ok();
        let who: serde_json::Value = serde_json::from_str(&who).expect("JSON is printed");
        let info = &who["status"]["userInfo"];
        assert_eq!(info["username"], user);
        assert_eq!(
            info["groups"],
            serde_json::json!(["dev", "system:authenticated"])
        );
    }

    let failure = cluster.kubectl(&["--context=jane", "get", "pods"]).fails();
    assert!(
        failure.contains(
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
        ),
        "{failure}"
    );
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "dev",
            "--clusterrole=view",
            "--group=dev",
        ])
        .ok();
    for user in ["jane", "joe"] {
        let context = format!("--context={user}");
        eventually(SOON, || {
            let listed = cluster.kubectl(&[&context, "get", "pods"]);
            match listed.code {
                0 => Ok(()),
                _ => Err(listed.stderr),
            }
        });
        let failure = cluster
            .kubectl(&[&context, "create", "configmap", "c"])
            .fails();
        assert!(failure.contains("is forbidden"), "{failure}");
    }

    ask(&cluster, "eve", "/CN=eve/O=dev", &elliptic);
    cluster.kubectl(&["certificate", "deny", "eve"]).ok();
    assert_eq!(condition(&cluster, "eve"), "Denied");
}

const NAMED: &str = "
apiVersion: v1
kind: Secret
metadata: {name: named}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Secret
metadata: {name: of-function}
stringData: {word: swordfish}
---
apiVersion: functions.wk.dev/v1
kind: Function
metadata: {name: hello}
spec:
  image: file://HELLO
  envFrom: [{secretRef: {name: of-function}}]
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers:
  - name: c
    image: file://HELLO
    ports: [{containerPort: 8080}]
    envFrom: [{secretRef: {name: named}}]
";

#[test]
fn a_nodes_certificate_reads_what_its_pods_name_as_long_as_they_are_there() {
    let cluster = Cluster::start();
    let name = "jsonpath={.items[0].metadata.name}";
    let node = eventually(SOON, || {
        let named = cluster.kubectl(&["get", "nodes", "-o", name]);
        match named.stdout.as_str() {
            "" => Err(named.stderr),
            node => Ok(node.to_owned()),
        }
    });
    let subject = format!("/CN=system:node:{node}/O=system:nodes");
    let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    ask(&cluster, "node", &subject, &elliptic);
    approve(&cluster, "node");
    let as_node =
        |arguments: &[&str]| cluster.kubectl(&[&["--context=node"][..], arguments].concat());
    let unrelated = format!(
        r#"secrets "named" is forbidden: User "system:node:{node}" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node '{node}' and this object"#
    );
    let read = |name: &str| as_node(&["get", "secret", name, "-o", "name"]);

    assert!(
        as_node(&["get", "secret", "named"])
            .fails()
            .contains(&unrelated)
    );
    let manifest = NAMED.replace("HELLO", &e2e::example("hello.wat"));
    let manifest = cluster.manifest("named.yaml", &manifest);
    cluster.kubectl(&["apply", "-f", &manifest]).ok();
    // The node's own nodelet has read it by then.
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s"];
    cluster
        .kubectl(&[&ready[..], &["pod/reader"]].concat())
        .ok();
    assert_eq!(read("named").ok().trim(), "secret/named");
    let other = as_node(&["get", "secret", "other"]).fails();
    assert!(other.contains("no relationship found"), "{other}");
    eventually(SOON, || match read("of-function") {
        read if read.code == 0 => Ok(()),
        refused => Err(refused.stderr),
    });

    // Lists are of what is the node's own.
    let watched = "--field-selector=metadata.name=named";
    as_node(&["get", "secrets", watched]).ok();
    let all = as_node(&["get", "secrets"]).fails();
    assert!(all.contains("No Object name found"), "{all}");
    let pods = as_node(&["get", "pods", "--all-namespaces"]).fails();
    assert!(
        pods.contains("can only list/watch pods with spec.nodeName field selector"),
        "{pods}"
    );
    let own = format!("--field-selector=spec.nodeName={node}");
    let pods = as_node(&["get", "pods", "--all-namespaces", &own, "-o", "name"]).ok();
    assert!(pods.contains("pod/reader"), "{pods}");
    as_node(&["get", "node", &node]).ok();
    let nodes = as_node(&["get", "nodes"]).fails();
    assert!(
        nodes.contains(&format!(
            "node '{node}' cannot read all nodes, only its own Node object"
        )),
        "{nodes}"
    );
    let service_account = as_node(&["create", "token", "default"]).fails();
    assert!(
        service_account.contains("node requested token not bound to a pod"),
        "{service_account}"
    );

    let can = as_node(&["auth", "can-i", "get", "secret/named"]);
    assert_eq!(can.stdout.trim(), "yes");
    let list = as_node(&["auth", "can-i", "--list"]);
    assert_eq!(list.code, 0, "{list:?}");
    let incomplete =
        "the list may be incomplete: node authorizer does not support user rule resolution";
    assert!(list.stderr.contains(incomplete), "{list:?}");
    assert!(!list.stdout.contains("secrets"), "{list:?}");

    cluster
        .kubectl(&["delete", "pod/reader", "function/hello"])
        .ok();
    eventually(SOON, || {
        let read = [read("named"), read("of-function")];
        match read
            .iter()
            .all(|read| read.stderr.contains("no relationship found"))
        {
            true => Ok(()),
            false => Err(format!("{read:?}")),
        }
    });
}
