use expect_test::{Expect, expect};

use super::*;

fn function(status: Value) -> Value {
    json!({"metadata": {"name": "hello", "generation": 2}, "status": status})
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

#[track_caller]
fn check(status: Value, expected: Expect) {
    expected.assert_eq(&match progress(&function(status), 2) {
        Progress::Waiting(line) => format!("waiting: {line}"),
        Progress::Ready(url) => format!("ready: {url}"),
        Progress::Failed(why) => format!("failed: {why}"),
    });
}

#[test]
fn a_function_serves_once_its_newest_revision_does() {
    let status = |observed: i64, latest: &str, ready: &str, conditions: Value| {
        json!({
            "observedGeneration": observed, "url": "http://hello.default.localhost:8080",
            "latestCreatedRevision": latest, "latestReadyRevision": ready, "conditions": conditions,
        })
    };
    let ready = json!([condition("Ready", "True", "", "")]);
    check(json!({}), expect!["waiting: Waiting for a revision"]);
    check(
        status(1, "hello-00001", "hello-00001", ready.clone()),
        expect!["waiting: Waiting for a revision"],
    );
    let unknown = condition("RevisionReady", "Unknown", "Pulling", "");
    check(
        status(2, "hello-00002", "hello-00001", json!([ready[0], unknown])),
        expect!["waiting: Waiting for revision hello-00002 (Pulling)"],
    );
    check(
        status(2, "hello-00002", "hello-00002", ready),
        expect!["ready: http://hello.default.localhost:8080"],
    );
    let failed = condition("RevisionReady", "False", "ErrImagePull", "not found");
    check(
        status(2, "hello-00002", "hello-00001", json!([failed])),
        expect![
            "failed: revision hello-00002: ErrImagePull: not found (revision hello-00001 goes on serving)"
        ],
    );
    let quota =
        "functionrevisions.functions.wk.dev \"hello-00001\" is forbidden: exceeded quota: q";
    let refused = condition("RevisionReady", "False", "FailedCreate", quota);
    check(
        status(2, "", "", json!([refused])),
        expect![[
            r#"failed: FailedCreate: functionrevisions.functions.wk.dev "hello-00001" is forbidden: exceeded quota: q"#
        ]],
    );
    check(
        status(2, "hello-00001", "", json!([failed])),
        expect!["failed: revision hello-00001: ErrImagePull: not found"],
    );
}

#[test]
fn what_is_not_said_again_stays() {
    let mut spec = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "timeoutSeconds": 5});
    let settings = Settings {
        env: vec!["A=3".to_owned(), "B-".to_owned(), "C=x=y".to_owned()],
        max: Some(7),
        memory: Some("64Mi".to_owned()),
        route: vec!["a.example/x".to_owned(), "/y".to_owned()],
        ..Settings::default()
    };
    settings.put_on(&mut spec).expect("settings");
    let expected = json!({
        "env": [{"name": "A", "value": "3"}, {"name": "C", "value": "x=y"}],
        "timeoutSeconds": 5,
        "scale": {"max": 7},
        "resources": {"limits": {"memory": "64Mi"}},
        "routes": [{"host": "a.example", "path": "/x"}, {"path": "/y"}],
    });
    assert_eq!(spec, expected);
}

#[test]
fn a_variable_or_a_route_that_is_none_is_refused() {
    let refused = |settings: Settings| {
        let error = settings.put_on(&mut json!({})).expect_err("refused");
        error.to_string()
    };
    for env in ["A", "=1", "-"] {
        let env = vec![env.to_owned()];
        let text = refused(Settings {
            env,
            ..Settings::default()
        });
        assert!(text.contains("it must be NAME=VALUE"), "{text}");
    }
    let route = vec![String::new()];
    let text = refused(Settings {
        route,
        ..Settings::default()
    });
    assert!(text.contains("it must be HOST"), "{text}");
}

#[test]
fn a_projects_manifest_is_a_function_without_an_image() {
    #[track_caller]
    fn check(manifest: Value, expected: Expect) {
        expected.assert_eq(&match manifest::of_project(manifest, "hello", "default") {
            Ok(function) => function["metadata"].to_string(),
            Err(error) => format!("error: {error}"),
        });
    }
    let head = |spec: Value| json!({"apiVersion": "functions.wk.dev/v1", "kind": "Function", "metadata": {}, "spec": spec});
    check(
        head(json!({})),
        expect![[r#"{"name":"hello","namespace":"default"}"#]],
    );
    check(
        head(json!({"image": "x"})),
        expect![
            "error: spec.image is what is built here: take the field out, or apply the manifest with wkctl apply"
        ],
    );
    check(
        json!({"kind": "Deployment"}),
        expect!["error: it must hold one Function of functions.wk.dev/v1"],
    );
    let mut other = head(json!({}));
    other["metadata"]["namespace"] = "prod".into();
    check(
        other,
        expect![[r#"error: it is of namespace "prod"; choose it with -n"#]],
    );
}
