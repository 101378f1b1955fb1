//! Actions on a cluster in memory; some of them killed at every step.

use std::{
    future::Future,
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use expect_test::{Expect, expect};
use serde_json::{Map, Value, json};

use super::{fake::Fake, *};
use crate::release::{
    ObjectId, Status,
    record::{Event, Phase},
    storage,
};

/// A chart whose objects are words: `a b keep:c hook:d`.
struct Words {
    words: &'static str,
    asked: Mutex<Vec<Request>>,
}

fn words(words: &'static str) -> Words {
    Words {
        words,
        asked: Mutex::default(),
    }
}

fn object(kind: &str, name: &str, annotations: &Value) -> String {
    let version = if kind == "Job" { "batch/v1" } else { "v1" };
    let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "annotations": annotations}});
    format!("---\n# Source: demo/{name}.yaml\n{object}\n")
}

#[async_trait]
impl Renderer for Words {
    async fn crds(&self) -> Result<Vec<(String, String)>, Error> {
        let crds = self.words.split_whitespace();
        Ok(crds
            .filter_map(|word| word.strip_prefix("crd:"))
            .map(|name| {
                let text = object("CustomResourceDefinition", name, &Value::Null);
                (format!("crds/{name}.yaml"), text)
            })
            .collect())
    }

    async fn render(&self, request: Request) -> Result<Rendering, Error> {
        let mut rendering = Rendering {
            chart: json!({"metadata": {"name": "demo", "version": "1.0.0"}, "values": {"x": 1}}),
            notes: format!("{} {}", request.name, request.revision),
            ..Rendering::default()
        };
        for word in self.words.split_whitespace() {
            match word.split_once(':') {
                None => rendering
                    .manifest
                    .push_str(&object("ConfigMap", word, &json!({}))),
                Some(("keep", name)) => {
                    let annotations = json!({"helm.sh/resource-policy": "keep"});
                    rendering
                        .manifest
                        .push_str(&object("ConfigMap", name, &annotations));
                }
                Some(("crd", _)) => {}
                Some((events, name)) => rendering.hooks.push(Hook {
                    name: name.to_owned(),
                    kind: "Job".to_owned(),
                    path: format!("demo/{name}.yaml"),
                    manifest: object("Job", name, &json!({"helm.sh/hook": events})),
                    events: events
                        .split(',')
                        .map(|e| Event::parse(e).unwrap())
                        .collect(),
                    ..Hook::default()
                }),
            }
        }
        self.asked.lock().unwrap().push(request);
        Ok(rendering)
    }
}

/// Runs until it ends, or until it can go no further: `None`, as if its process had been killed.
fn run<T>(action: impl Future<Output = T>) -> Option<T> {
    let mut action = pin!(action);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(result) = action.as_mut().poll(&mut context) {
            return Some(result);
        }
    }
    None
}

struct World {
    cluster: Fake,
    options: Options,
}

impl World {
    fn new() -> World {
        World {
            cluster: Fake::default(),
            options: Options::default(),
        }
    }

    fn action<'a>(&'a self, holder: &'a str) -> Action<'a> {
        Action {
            cluster: &self.cluster,
            namespace: "shop",
            name: "web",
            holder,
            options: &self.options,
        }
    }

    fn deploy(&self, mode: Mode, chart: &'static str) -> Option<Result<Deployed, Error>> {
        run(self.action("me").deploy(mode, &words(chart), Map::new()))
    }

    fn install(&self, chart: &'static str) -> String {
        self.shown(self.deploy(Mode::Install { replace: false }, chart))
    }

    fn upgrade(&self, chart: &'static str) -> String {
        self.shown(self.deploy(Mode::Upgrade, chart))
    }

    fn shown<T>(&self, result: Option<Result<T, Error>>) -> String {
        match result {
            None => "killed".to_owned(),
            Some(Err(error)) => format!("{}\n{}", error.line(), self.history()),
            Some(Ok(_)) => self.history(),
        }
    }

    /// `1 superseded, 2 deployed: ConfigMap/a`.
    fn history(&self) -> String {
        let history = run(storage::history(&self.cluster, "shop", "web"))
            .unwrap()
            .unwrap();
        let revisions: Vec<_> = history
            .iter()
            .map(|r| format!("{} {}", r.version, r.info.status))
            .collect();
        format!(
            "{}: {}",
            revisions.join(", "),
            self.cluster.names().join(" ")
        )
    }

    fn release(&self) -> Release {
        let history = run(storage::history(&self.cluster, "shop", "web"));
        history.unwrap().unwrap().pop().unwrap()
    }
}

#[track_caller]
fn check(seen: &str, expected: Expect) {
    expected.assert_eq(seen);
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_uninstalled() {
    let world = World::new();
    check(
        &world.install("a b"),
        expect!["1 deployed: ConfigMap/a ConfigMap/b"],
    );
    check(
        &world.install("a"),
        expect![[r#"
            cannot reuse a name that is still in use
            1 deployed: ConfigMap/a ConfigMap/b"#]],
    );
    check(
        &world.upgrade("b c"),
        expect!["1 superseded, 2 deployed: ConfigMap/b ConfigMap/c"],
    );
    let back = run(world.action("me").rollback(None));
    check(
        &world.shown(back),
        expect!["1 superseded, 2 superseded, 3 deployed: ConfigMap/a ConfigMap/b"],
    );
    assert_eq!(world.release().info.description, "Rollback to 1");
    let gone = run(world.action("me").uninstall());
    check(&world.shown(gone), expect![": "]);
    let gone = run(world.action("me").uninstall());
    check(
        &world.shown(gone),
        expect![[r#"
        release: not found
        : "#]],
    );
}

#[test]
fn an_object_says_whose_it_is_and_others_are_left_alone() {
    let world = World::new();
    world.install("a");
    let labels = &world.cluster.get("ConfigMap", "a").unwrap()["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm");
    let id = ObjectId::new("v1", "ConfigMap", "shop", "x");
    world.cluster.put(id, json!({"metadata": {"name": "x"}}));
    let refused = world.upgrade("a x");
    assert!(
        refused.contains("ConfigMap \"x\" in namespace \"shop\" exists and cannot be imported"),
        "{refused}"
    );
    let taking = World {
        cluster: world.cluster,
        options: Options {
            take_ownership: true,
            ..Options::default()
        },
    };
    check(
        &taking.upgrade("a x"),
        expect!["1 superseded, 2 deployed: ConfigMap/a ConfigMap/x"],
    );
}

#[test]
fn what_is_to_be_kept_stays() {
    let world = World::new();
    world.install("a keep:k");
    check(
        &world.upgrade("a"),
        expect!["1 superseded, 2 deployed: ConfigMap/a ConfigMap/k"],
    );
    check(
        &world.cluster.said(),
        expect![[r#"ConfigMap "k" in namespace "shop" is kept due to its resource policy"#]],
    );
    world.upgrade("a keep:k");
    let gone = run(world.action("me").uninstall()).unwrap().unwrap();
    assert_eq!(gone.kept, ["[ConfigMap] k"]);
    check(&world.history(), expect![": ConfigMap/k"]);
}

#[test]
fn hooks_run_at_their_event_and_are_recorded() {
    let world = World::new();
    world.install("a pre-install:before post-install,post-upgrade:after test:check");
    check(
        &world.cluster.said(),
        expect![[r#"
        hook pre-install: Job "before" in namespace "shop"
        hook post-install: Job "after" in namespace "shop""#]],
    );
    let release = world.release();
    let phases: Vec<_> = release
        .hooks
        .iter()
        .map(|hook| hook.last_run.phase)
        .collect();
    assert_eq!(phases, [Phase::Succeeded, Phase::Succeeded, Phase::Never]);
    let (tested, result) = run(world.action("me").test(&Tests::default()))
        .unwrap()
        .unwrap();
    result.unwrap();
    assert_eq!(tested.hooks[2].last_run.phase, Phase::Succeeded);
    assert_eq!(world.release().hooks[2].last_run.phase, Phase::Succeeded);
}

#[test]
fn a_hook_that_fails_fails_the_release() {
    let world = World::new();
    world.cluster.refuse("before");
    check(
        &world.install("a pre-install:before"),
        expect![[r#"
        pre-install hooks failed: hook pre-install demo/before.yaml: make Job "before" in namespace "shop": Job "before" is invalid: spec.a: Required value
        1 failed: "#]],
    );
    assert_eq!(world.release().hooks[0].last_run.phase, Phase::Failed);
}

#[test]
fn a_failed_upgrade_names_the_object_and_leaves_the_last_one_deployed() {
    let mut world = World::new();
    world.install("a");
    world.cluster.refuse("bad");
    check(
        &world.upgrade("a bad"),
        expect![[r#"
        demo/bad.yaml: apply ConfigMap "bad" in namespace "shop": ConfigMap "bad" is invalid: spec.a: Required value
        1 deployed, 2 failed: ConfigMap/a"#]],
    );
    world.options.rollback_on_failure = true;
    check(
        &world.upgrade("a new bad"),
        expect![[r#"
        release web failed, and has been rolled back due to rollback-on-failure being set: demo/bad.yaml: apply ConfigMap "bad" in namespace "shop": ConfigMap "bad" is invalid: spec.a: Required value
        1 superseded, 2 failed, 3 failed, 4 deployed: ConfigMap/a"#]],
    );
}

#[test]
fn objects_that_go_in_as_one_write_go_in_wholly_or_not_at_all() {
    let mut world = World::new();
    world.options.atomic_apply = true;
    let refused = world.install("a b");
    assert!(refused.contains("leave the flag out"), "{refused}");
    assert!(refused.ends_with("\n: "), "{refused}");
    world.cluster.transact();
    check(
        &world.install("a b"),
        expect!["1 deployed: ConfigMap/a ConfigMap/b"],
    );
    world.cluster.refuse("bad");
    check(
        &world.upgrade("a new bad"),
        expect![[r#"
            apply 3 objects as one write (none was changed): ConfigMap "bad" is invalid: spec.a: Required value
            1 deployed, 2 failed: ConfigMap/a ConfigMap/b"#]],
    );
}

#[test]
fn what_a_failed_upgrade_made_goes_with_the_next_that_has_it_not() {
    let world = World::new();
    world.install("a");
    world.cluster.refuse("bad");
    world.upgrade("a new bad");
    world.cluster.allow();
    check(
        &world.upgrade("a"),
        expect!["1 superseded, 2 failed, 3 deployed: ConfigMap/a"],
    );
}

#[test]
fn a_failed_install_is_undone_if_asked() {
    let mut world = World::new();
    world.options.rollback_on_failure = true;
    world.cluster.refuse("bad");
    check(
        &world.install("a bad"),
        expect![[r#"
        release web failed, and has been uninstalled due to rollback-on-failure being set: demo/bad.yaml: apply ConfigMap "bad" in namespace "shop": ConfigMap "bad" is invalid: spec.a: Required value
        : "#]],
    );
}

#[test]
fn history_is_bounded() {
    let mut world = World::new();
    world.options.history_max = 2;
    world.install("a");
    world.upgrade("a");
    check(
        &world.upgrade("a"),
        expect!["2 superseded, 3 deployed: ConfigMap/a"],
    );
    let back = run(world.action("me").rollback(Some(2)));
    check(
        &world.shown(back),
        expect!["3 superseded, 4 deployed: ConfigMap/a"],
    );
}

#[test]
fn values_are_reused_as_asked() {
    let mut world = World::new();
    let given = |value: Value| value.as_object().unwrap().clone();
    let chart = words("a");
    let install = Mode::Install { replace: false };
    run(world
        .action("me")
        .deploy(install, &chart, given(json!({"a": 1}))));
    run(world.action("me").deploy(Mode::Upgrade, &chart, Map::new()));
    world.options.reuse = crate::release::plan::Reuse::Reuse;
    run(world
        .action("me")
        .deploy(Mode::Upgrade, &chart, given(json!({"b": 2}))));
    let asked = chart.asked.lock().unwrap();
    let seen: Vec<_> = asked
        .iter()
        .map(|r| {
            format!(
                "{} {} {:?}",
                r.upgrade,
                json!(r.values),
                r.defaults.as_ref().map(|d| json!(d).to_string())
            )
        })
        .collect();
    check(
        &seen.join("\n"),
        expect![[r#"
        false {"a":1} None
        true {"a":1} None
        true {"a":1,"b":2} Some("{\"a\":1,\"x\":1}")"#]],
    );
}

#[test]
fn definitions_are_made_once_and_stay() {
    let world = World::new();
    check(
        &world.install("a crd:toys"),
        expect!["1 deployed: ConfigMap/a CustomResourceDefinition/toys"],
    );
    let gone = run(world.action("me").uninstall());
    check(
        &world.shown(gone),
        expect![": CustomResourceDefinition/toys"],
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    world.options.dry_run = DryRun::Server;
    check(&world.install("a"), expect![": "]);
    world.cluster.refuse("a");
    check(
        &world.install("a"),
        expect![[r#"
        demo/a.yaml: apply ConfigMap "a" in namespace "shop": ConfigMap "a" is invalid: spec.a: Required value
        : "#]],
    );
}

#[test]
fn an_action_under_way_keeps_others_away() {
    let world = World::new();
    world.install("a");
    let mut first = pin!(async {
        let action = world.action("first");
        action
            .alone(|_| async {
                for _ in 0..200 {
                    world.cluster.pause(std::time::Duration::from_secs(1)).await;
                }
                Ok(())
            })
            .await
    });
    let chart = words("b");
    let action = world.action("second");
    let mut second = pin!(action.deploy(Mode::Upgrade, &chart, Map::new()));
    let mut context = Context::from_waker(Waker::noop());
    let _ = first.as_mut().poll(&mut context);
    let mut refused = None;
    for _ in 0..1000 {
        if let Poll::Ready(result) = second.as_mut().poll(&mut context) {
            refused = Some(result.unwrap_err().to_string());
            break;
        }
        let _ = first.as_mut().poll(&mut context);
    }
    check(
        &refused.unwrap(),
        expect![[
            r#"another operation (install/upgrade/rollback) is in progress: first works on release "web""#
        ]],
    );
}

/// Kills an action at every call that it makes, before or after the call takes effect; then another process upgrades.
#[track_caller]
fn killed_everywhere(before: &[&'static str], act: impl Fn(&World) -> bool) {
    for effective in [false, true] {
        for calls in 0.. {
            let world = World::new();
            for (index, chart) in before.iter().enumerate() {
                let mode = match index {
                    0 => Mode::Install { replace: false },
                    _ => Mode::Upgrade,
                };
                world.deploy(mode, chart).unwrap().unwrap();
            }
            world.cluster.kill_after(calls, effective);
            let ended = act(&world);
            world.cluster.restart();
            let chart = words("a z post-upgrade,post-install:after");
            let next = world.action("next");
            let result = run(next.deploy(Mode::UpgradeOrInstall, &chart, Map::new()));
            let place = format!("killed after {calls} calls (effective: {effective})");
            let result = result.unwrap_or_else(|| panic!("{place}: the next one is stuck"));
            let release = match result {
                Ok(deployed) => deployed.release,
                // It was being uninstalled: that is to be finished first.
                Err(error) => {
                    assert!(
                        error.line().contains("has no deployed releases"),
                        "{place}: {}",
                        error.line()
                    );
                    run(next.uninstall()).unwrap().unwrap();
                    let again = next.deploy(Mode::UpgradeOrInstall, &chart, Map::new());
                    run(again).unwrap().unwrap().release
                }
            };
            assert_eq!(release.info.status, Status::Deployed, "{place}");
            let history = run(storage::history(&world.cluster, "shop", "web"))
                .unwrap()
                .unwrap();
            let deployed = history.iter().filter(|r| r.info.status == Status::Deployed);
            assert_eq!(deployed.count(), 1, "{place}: {}", world.history());
            assert!(history.iter().all(|r| !r.info.status.pending()), "{place}");
            let objects = world.cluster.names();
            let maps: Vec<_> = objects
                .iter()
                .filter(|o| o.starts_with("ConfigMap"))
                .collect();
            assert_eq!(maps, ["ConfigMap/a", "ConfigMap/z"], "{place}");
            assert!(
                world
                    .cluster
                    .get("Lease", "sh.helm.release.v1.web")
                    .is_none(),
                "{place}"
            );
            if ended {
                assert!(calls > 10, "it was killed {calls} times only");
                break;
            }
        }
    }
}

#[test]
fn an_install_killed_anywhere_is_taken_up() {
    killed_everywhere(&[], |world| {
        world
            .deploy(Mode::Install { replace: false }, "a b pre-install:before")
            .is_some()
    });
}

#[test]
fn an_upgrade_killed_anywhere_is_taken_up() {
    killed_everywhere(&["a b", "a c"], |world| {
        world
            .deploy(Mode::Upgrade, "a d pre-upgrade:before post-upgrade:after")
            .is_some()
    });
}

#[test]
fn a_rollback_killed_anywhere_is_taken_up() {
    killed_everywhere(&["a b pre-rollback:before", "c"], |world| {
        run(world.action("me").rollback(None)).is_some()
    });
}

#[test]
fn an_uninstall_killed_anywhere_is_finished() {
    killed_everywhere(&["a b pre-delete:before"], |world| {
        run(world.action("me").uninstall()).is_some()
    });
}

#[test]
fn a_release_of_another_owner_is_neither_changed_nor_removed() {
    let mut world = World::new();
    world.options.owners = vec!["x".to_owned()];
    let mode = Mode::UpgradeOrInstall;
    world.deploy(mode, "a").unwrap().unwrap();
    world.options.owners = vec!["y".to_owned()];
    let refused = world.deploy(mode, "b").unwrap().unwrap_err();
    expect![[r#"release "web" is kept by another ChartRelease (uid x)"#]]
        .assert_eq(&refused.line());
    let left = run(world.action("me").uninstall()).unwrap();
    assert!(matches!(left, Err(Error::NotFound)), "{left:?}");
    world.options.owners = vec!["y".to_owned(), "x".to_owned()];
    world.deploy(mode, "b").unwrap().unwrap();
    world.options.owners.truncate(1);
    run(world.action("me").uninstall()).unwrap().unwrap();
    assert!(world.cluster.names().is_empty());
}

#[test]
fn what_is_to_be_kept_by_now_stays() {
    let world = World::new();
    world.install("a b");
    let mut a = world.cluster.get("ConfigMap", "a").unwrap();
    a["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
    let id = ObjectId::new("v1", "ConfigMap", "shop", "a");
    world.cluster.put(id, a);
    run(world.action("me").uninstall()).unwrap().unwrap();
    assert_eq!(world.cluster.names(), ["ConfigMap/a"]);
}
