//! Server-side apply as the real kubectl does it (skipped, saying so, where there is none).

use std::path::Path;

use expect_test::expect;
use tokio::{
    process::Command,
    time::{Duration, timeout},
};

use crate::{
    harness::Cluster,
    protobuf::{Listening, kubectls},
};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'i:1', ports: [{containerPort: 80}]}
";

const STATUS: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
status: {conditions: [{type: Mine, status: 'True'}]}
";

/// Runs commands one after the other; what they print, stderr behind `!`.
async fn transcript(server: &Listening, program: &Path, commands: &str) -> String {
    let mut told = String::new();
    for command in commands.lines().map(str::trim) {
        let run = Command::new(program)
            .args(["--server", &server.url])
            .args(command.split(' '))
            .current_dir(server.home.path())
            .env("HOME", server.home.path())
            .env("KUBECONFIG", server.home.path().join("none"))
            .kill_on_drop(true)
            .output();
        let output = timeout(Duration::from_secs(60), run)
            .await
            .expect("kubectl ends within a minute")
            .expect("kubectl runs");
        told.push_str(&format!("$ {command}\n"));
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        let errors = String::from_utf8_lossy(&output.stderr);
        // The first line says it; advice follows.
        told.extend(errors.lines().take(1).map(|line| format!("! {line}\n")));
    }
    told
}

#[tokio::test]
async fn kubectl_applies_on_the_server() {
    let kubectls = kubectls();
    if kubectls.is_empty() {
        eprintln!("skipped: there is neither kubectl.1.32 nor kubectl.1.33 beside kubectl");
    }
    let expected = expect![[r#"
        $ apply --server-side -f two.yaml
        deployment.apps/web serverside-applied
        $ apply --server-side -f two.yaml
        deployment.apps/web serverside-applied
        $ patch deployment web --field-manager=hand -p {"spec":{"replicas":3}}
        deployment.apps/web patched
        $ apply --server-side -f four.yaml
        ! error: Apply failed with 1 conflict: conflict with "hand" using apps/v1: .spec.replicas
        $ apply --server-side --force-conflicts -f four.yaml
        deployment.apps/web serverside-applied
        $ get deployment web -o jsonpath={range.metadata.managedFields[*]}{.operation}/{.manager}/{.subresource}{"\n"}{end}
        Apply/kubectl/
        $ apply --server-side -f none.yaml
        deployment.apps/web serverside-applied
        $ get deployment web -o jsonpath={.spec.replicas}{"\n"}
        1
        $ apply --server-side --subresource=status --field-manager=own -f status.yaml
        deployment.apps/web serverside-applied
        $ get deployment web -o jsonpath={range.metadata.managedFields[*]}{.operation}/{.manager}/{.subresource}{"\n"}{end}
        Apply/kubectl/
        Apply/own/status
        $ delete deployment web
        deployment.apps "web" deleted
        $ apply -f two.yaml
        deployment.apps/web created
        $ apply --server-side -f four.yaml
        deployment.apps/web serverside-applied
        $ apply view-last-applied deployment/web
        apiVersion: apps/v1
        kind: Deployment
        metadata:
          name: web
          namespace: default
        spec:
          replicas: 4
          selector:
            matchLabels:
              app: web
          template:
            metadata:
              labels:
                app: web
            spec:
              containers:
              - image: i:1
                name: c
                ports:
                - containerPort: 80
        $ get deployment web -o jsonpath={range.metadata.managedFields[*]}{.operation}/{.manager}/{.subresource}{"\n"}{end}
        Apply/kubectl/
        Apply/kubectl-last-applied/
    "#]];
    for program in kubectls {
        let cluster = Cluster::start().await;
        let server = Listening::start(&cluster).await;
        for (name, text) in [
            ("two.yaml", DEPLOYMENT.to_owned()),
            (
                "four.yaml",
                DEPLOYMENT.replace("replicas: 2", "replicas: 4"),
            ),
            ("none.yaml", DEPLOYMENT.replace("  replicas: 2\n", "")),
            ("status.yaml", STATUS.to_owned()),
        ] {
            std::fs::write(server.home.path().join(name), text).expect("a file");
        }
        let owners = "get deployment web -o jsonpath={range.metadata.managedFields[*]}{.operation}/{.manager}/{.subresource}{\"\\n\"}{end}";
        let commands = format!(
            "apply --server-side -f two.yaml
            apply --server-side -f two.yaml
            patch deployment web --field-manager=hand -p {{\"spec\":{{\"replicas\":3}}}}
            apply --server-side -f four.yaml
            apply --server-side --force-conflicts -f four.yaml
            {owners}
            apply --server-side -f none.yaml
            get deployment web -o jsonpath={{.spec.replicas}}{{\"\\n\"}}
            apply --server-side --subresource=status --field-manager=own -f status.yaml
            {owners}
            delete deployment web
            apply -f two.yaml
            apply --server-side -f four.yaml
            apply view-last-applied deployment/web
            {owners}"
        );
        let told = transcript(&server, &program, &commands).await;
        expected.assert_eq(&told);
        let whole = "get deployment web -o yaml";
        let told = transcript(&server, &program, whole).await;
        assert!(!told.contains("managedFields"), "{told}");
        let whole = "get deployment web -o yaml --show-managed-fields";
        let told = transcript(&server, &program, whole).await;
        assert!(
            told.contains("k:{\"containerPort\":80,\"protocol\":\"TCP\"}"),
            "{told}"
        );
    }
}
