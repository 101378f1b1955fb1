//! Requests for certificates: asked for, decided and signed, each by its own path.

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::harness::Cluster;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: &str, signer: &str, organization: &str) -> String {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    let request = params.serialize_request(&key).expect("a request");
    let pem = BASE64_STANDARD.encode(request.pem().expect("PEM"));
    json!({
        "metadata": {"name": name},
        "spec": {"request": pem, "signerName": signer, "usages": ["client auth"], "username": "eve"},
    })
    .to_string()
}

fn certificate() -> String {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::default().self_signed(&key);
    BASE64_STANDARD.encode(certificate.expect("a certificate").pem())
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Test", "message": "by a test"})
}

#[tokio::test]
async fn a_request_is_approved_by_one_path_and_signed_by_another() {
    let cluster = Cluster::start().await;
    let body = request("r", "example.com/s", "dev");
    let made = cluster.ok(&format!("POST {REQUESTS}"), &body).await;
    assert_eq!(made["spec"]["username"], "wk-admin");
    assert_eq!(made["spec"]["groups"], json!(["system:masters"]));
    assert_eq!(made["status"], json!({}));

    let object = format!("{REQUESTS}/r");
    let mut changed = made.clone();
    changed["spec"]["signerName"] = "example.com/other".into();
    changed["status"] = json!({"conditions": [condition("Approved")]});
    let kept = cluster
        .ok(&format!("PUT {object}"), &changed.to_string())
        .await;
    assert_eq!(kept["spec"], made["spec"]);
    assert_eq!(kept["status"], json!({}));

    let mut signed = made.clone();
    signed["status"] = json!({"conditions": [condition("Approved")], "certificate": certificate()});
    let failure = cluster
        .failure(&format!("PUT {object}/status"), &signed.to_string())
        .await;
    assert!(
        failure.contains(r#"updates may not add a condition of type "Approved""#),
        "{failure}"
    );

    let approved = cluster
        .ok(&format!("PUT {object}/approval"), &signed.to_string())
        .await;
    assert_eq!(approved["status"]["certificate"], Value::Null);
    let decision = &approved["status"]["conditions"][0];
    assert_eq!(decision["type"], "Approved");
    assert!(decision["lastUpdateTime"].is_string(), "{decision}");
    assert!(decision["lastTransitionTime"].is_string(), "{decision}");

    let mut withdrawn = approved.clone();
    withdrawn["status"] = json!({"conditions": []});
    let failure = cluster
        .failure(&format!("PUT {object}/approval"), &withdrawn.to_string())
        .await;
    assert!(
        failure.contains(r#"updates may not remove a condition of type "Approved""#),
        "{failure}"
    );

    let mut issued = approved.clone();
    issued["status"]["certificate"] = certificate().into();
    let issued = cluster
        .ok(&format!("PUT {object}/status"), &issued.to_string())
        .await;
    assert_eq!(
        issued["status"]["conditions"],
        approved["status"]["conditions"]
    );
    let table = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let table = cluster
        .send_with(&format!("GET {object}"), "", &table)
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"][5], "Approved,Issued");
}

#[tokio::test]
async fn requests_are_found_by_their_signer() {
    let cluster = Cluster::start().await;
    for (name, signer) in [("a", "example.com/a"), ("b", "example.com/b")] {
        let body = request(name, signer, "dev");
        cluster.ok(&format!("POST {REQUESTS}"), &body).await;
    }
    let line = format!("GET {REQUESTS}?fieldSelector=spec.signerName%3Dexample.com/b");
    let found = cluster.ok(&line, "").await;
    assert_eq!(found["items"][0]["metadata"]["name"], "b");
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn nobody_asks_for_a_certificate_of_the_masters() {
    let cluster = Cluster::start().await;
    let signer = "kubernetes.io/kube-apiserver-client";
    let line = format!("POST {REQUESTS}");
    let failure = cluster
        .failure(&line, &request("r", signer, "system:masters"))
        .await;
    assert_eq!(
        failure,
        "403 Forbidden: certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of \
         kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    cluster.ok(&line, &request("r", signer, "dev")).await;
}
