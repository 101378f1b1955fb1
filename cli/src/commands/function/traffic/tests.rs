use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(before: Value, shares: &[&str], tags: &[&str], expected: Expect) {
    let planned = || {
        let shares: Result<Vec<_>> = shares.iter().map(|share| parse_share("f", share)).collect();
        let tags: Result<Vec<_>> = tags.iter().map(|tag| parse_tag("f", tag)).collect();
        plan(&before, &shares?, &tags?)
    };
    expected.assert_eq(&match planned() {
        Ok(traffic) => traffic.to_string(),
        Err(error) => format!("error: {error}"),
    });
}

#[test]
fn shares_replace_shares_and_tags_stay() {
    check(
        json!([]),
        &["latest=10", "1=90"],
        &[],
        expect![[r#"[{"percent":10},{"percent":90,"revision":"f-00001"}]"#]],
    );
    let tagged = json!([{"percent": 100}, {"percent": 0, "revision": "f-00001", "tag": "old"}]);
    check(
        tagged.clone(),
        &["2=100"],
        &[],
        expect![[
            r#"[{"percent":100,"revision":"f-00002"},{"percent":0,"revision":"f-00001","tag":"old"}]"#
        ]],
    );
    check(
        tagged,
        &[],
        &["old=2"],
        expect![[r#"[{"percent":100},{"percent":0,"revision":"f-00002","tag":"old"}]"#]],
    );
    check(
        json!([]),
        &[],
        &["new=latest"],
        expect![[r#"[{"percent":100},{"percent":0,"tag":"new"}]"#]],
    );
}

#[test]
fn shares_that_are_none_are_refused() {
    check(
        json!([]),
        &["1=50"],
        &[],
        expect!["error: the shares sum to 50; they must sum to 100"],
    );
    check(
        json!([]),
        &["1=150"],
        &[],
        expect![[r#"error: "1=150": it must be REVISION=PERCENT, with 0 to 100 percent"#]],
    );
    check(
        json!([]),
        &[],
        &["x"],
        expect![[r#"error: --tag "x": it must be TAG=REVISION"#]],
    );
}

#[test]
fn a_roll_back_goes_to_the_newest_ready_revision_before_the_one_that_answers() {
    let revision = |number: u32, ready: &str| {
        json!({
            "metadata": {"name": format!("f-{number:05}"), "annotations": {NUMBER: number.to_string()}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    };
    let revisions = [
        revision(1, "True"),
        revision(2, "False"),
        revision(3, "True"),
        revision(4, "False"),
    ];
    let function = json!({
        "metadata": {"name": "f"},
        "status": {"traffic": [{"revision": "f-00003", "percent": 90}, {"revision": "f-00001", "percent": 10}]},
    });
    let to = |function: &Value, wanted: Option<&str>| match earlier(function, &revisions, wanted) {
        Ok(name) => name,
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(to(&function, None), "f-00001");
    assert_eq!(to(&function, Some("f-00001")), "f-00001");
    assert_eq!(
        to(&function, Some("f-00002")),
        r#"error: revision "f-00002" was never ready"#
    );
    let missing = to(&function, Some("f-00009"));
    assert!(
        missing.contains("not found; wkctl fn revisions f lists them"),
        "{missing}"
    );
    let none = to(&json!({"metadata": {"name": "f"}}), None);
    assert!(none.contains("nothing to roll back from"), "{none}");
}
