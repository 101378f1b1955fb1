//! What a user gets wrong is said in words, and nothing else is lost by it.

use e2e::Cluster;

#[test]
fn a_bad_document_does_not_keep_the_others_from_being_applied() {
    let cluster = Cluster::start();
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n---\nkind: [\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: three\n";
    let path = cluster.manifest("three.yaml", text);
    let output = cluster.wkctl(&["apply", "-f", &path]);
    assert_eq!(output.code, 1);
    assert_eq!(
        output.stdout,
        "configmap/one created\nconfigmap/three created\n"
    );
    assert!(
        output.stderr.contains("three.yaml, document 2"),
        "{}",
        output.stderr
    );
}

#[test]
fn unknown_fields_and_wrong_types_name_their_path() {
    let cluster = Cluster::start();
    let pod = |spec: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - name: a\n    image: a\n{spec}"
        );
        cluster
            .kubectl(&[
                "create",
                "-f",
                &cluster.manifest("pod.yaml", &text),
                "--validate=strict",
            ])
            .fails()
    };
    let unknown = pod("    bogus: 1\n");
    assert!(
        unknown.contains("unknown field \"spec.containers[0].bogus\""),
        "{unknown}"
    );
    let wrong = pod("    ports: seven\n");
    assert!(
        wrong.contains("spec.containers[0].ports") || wrong.contains("ports"),
        "{wrong}"
    );
}

#[test]
fn mistakes_get_the_status_that_kubernetes_gives() {
    let cluster = Cluster::start();
    let status = |arguments: &[&str]| cluster.kubectl(arguments).fails();
    let missing = status(&["get", "pods", "nope"]);
    assert_eq!(
        missing.trim(),
        "Error from server (NotFound): pods \"nope\" not found"
    );
    let namespace = status(&[
        "create",
        "configmap",
        "a",
        "-n",
        "nope",
        "--dry-run=server",
        "--from-literal=a=b",
    ]);
    assert!(
        namespace.contains("namespaces \"nope\" not found"),
        "{namespace}"
    );
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", path]);
    assert!(
        raw("/api/v1/pods?fieldSelector=spec.bogus%3D1")
            .fails()
            .contains("field label not supported")
    );
    assert!(raw("/apis/nope/v1").fails().contains("NotFound"));
}

#[test]
fn nobody_is_let_in_without_credentials() {
    let cluster = Cluster::start();
    let code = |path: &str| {
        let url = format!("https://127.0.0.1:6443{path}");
        cluster
            .curl(&[
                "--insecure",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                &url,
            ])
            .stdout
    };
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(code(path), "200", "{path}");
    }
    for path in [
        "/api",
        "/apis",
        "/api/v1/pods",
        "/openapi/v3",
        "/api/v1/namespaces/default/secrets/x",
    ] {
        assert_eq!(code(path), "401", "{path}");
    }
}
