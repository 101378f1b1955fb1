//! A user's certificate, from the key to the first call: `openssl` and the real `kubectl`, in the steps that
//! Kubernetes' documentation has for it.

use std::time::Duration;

use e2e::{Cluster, eventually};

const SOON: Duration = Duration::from_secs(30);

/// The file of a user's key, certificate or other part.
fn file(cluster: &Cluster, name: &str) -> String {
    let dir = cluster.data_dir();
    let dir = dir.parent().expect("it is in the test's own directory");
    dir.join(name).display().to_string()
}

/// Makes a key and a request of `CN=<user>, O=dev` for it, and asks for the certificate.
fn ask(cluster: &Cluster, user: &str, key: &[&str]) {
    let (key_file, request_file) = (
        file(cluster, &format!("{user}.key")),
        file(cluster, &format!("{user}.csr")),
    );
    let subject = format!("/CN={user}/O=dev");
    let mut arguments = vec!["req", "-new", "-nodes", "-subj", &subject];
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
        ask(&cluster, user, key);
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

    ask(&cluster, "eve", &elliptic);
    cluster.kubectl(&["certificate", "deny", "eve"]).ok();
    assert_eq!(condition(&cluster, "eve"), "Denied");
}
