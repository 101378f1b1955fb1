//! `wkctl rollout`: follows, undoes and repeats the roll-out of a pod template: of a Deployment, a StatefulSet or a
//! DaemonSet.
//!
//! - [`revisions`]: earlier pod templates, which ReplicaSets or ControllerRevisions hold.
//! - [`status`]: how far a roll-out is. Pure.

mod revisions;
mod status;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::{
    revisions::{Revision, earlier, without_hash},
    status::Status,
};
use super::describe;
use crate::{
    api::Api,
    columns::{self, Columns},
    dry_run::DryRun,
    duration,
    follow::follow,
    query,
    selection::{Pick, Selection},
    session::Session,
};

const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
const CHANGE_CAUSE_POINTER: &str = "/metadata/annotations/kubernetes.io~1change-cause";
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// Follow, undo or repeat the roll-out of a deployment, a stateful set or a daemon set
#[derive(Args)]
pub(crate) struct Rollout {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show how far the roll-out is, until it is done
    Status {
        #[command(flatten)]
        selection: Selection,
        /// Go on until it is done
        #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
            default_missing_value = "true", require_equals = true)]
        watch: bool,
        /// How long to wait: 30s, 5m; 0 for ever
        #[arg(long, value_parser = duration::parse, default_value = "0")]
        timeout: Duration,
    },
    /// Go back to an earlier pod template
    Undo {
        #[command(flatten)]
        selection: Selection,
        /// The revision to go back to; 0 is the one before
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        to_revision: u64,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Replace all pods by new ones
    Restart {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Show earlier pod templates
    History {
        #[command(flatten)]
        selection: Selection,
        /// Show this revision's pod template
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
    /// Hold back changes of the pod template
    Pause {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Roll out what was held back
    Resume {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

impl Rollout {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let selection = match &self.action {
            Action::Status { selection, .. }
            | Action::Undo { selection, .. }
            | Action::Restart { selection, .. }
            | Action::History { selection, .. }
            | Action::Pause { selection, .. }
            | Action::Resume { selection, .. } => selection,
        };
        let api = session.api().await?;
        let picks = selection.resolve(session, "roll out").await?;
        let mut failures = picks.failures;
        for pick in picks.picks {
            let names = match &pick.name {
                Some(name) => vec![name.clone()],
                None => {
                    let path = query::with(&pick.path(), &selection.parameters());
                    let list = api.get(&path).await?;
                    let items = list["items"].as_array().into_iter().flatten();
                    items
                        .filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned))
                        .collect()
                }
            };
            for name in names {
                let workload = Workload {
                    api,
                    session,
                    pick: Pick {
                        name: None,
                        ..pick.clone()
                    },
                    name,
                };
                if let Err(error) = workload.run(&self.action).await {
                    failures.push(error)?;
                }
            }
        }
        failures.finish()
    }
}

/// The object that an action is about.
struct Workload<'a> {
    api: &'a Api,
    session: &'a Session,
    /// Its collection.
    pick: Pick,
    name: String,
}

impl Workload<'_> {
    async fn run(&self, action: &Action) -> Result<()> {
        if !matches!(self.kind(), "Deployment" | "StatefulSet" | "DaemonSet") {
            bail!(
                "{} has no roll-out: only deployments, statefulsets and daemonsets have",
                self.pick.resource.display(&self.name)
            );
        }
        match action {
            Action::Status { watch, timeout, .. } => self.status(*watch, *timeout).await,
            Action::Undo {
                to_revision,
                dry_run,
                ..
            } => self.undo(*to_revision, *dry_run).await,
            Action::Restart { dry_run, .. } => self.restart(*dry_run).await,
            Action::History { revision, .. } => self.history(*revision).await,
            Action::Pause { dry_run, .. } => self.set_paused(true, *dry_run).await,
            Action::Resume { dry_run, .. } => self.set_paused(false, *dry_run).await,
        }
    }

    fn kind(&self) -> &str {
        &self.pick.resource.kind
    }

    fn path(&self) -> String {
        format!("{}/{}", self.pick.path(), self.name)
    }

    fn display(&self) -> String {
        self.pick.resource.display(&self.name)
    }

    /// `deployments.apps "hello"`: how errors name it.
    fn quoted(&self) -> String {
        format!("{} {:?}", self.pick.resource.qualified(), self.name)
    }

    async fn status(&self, watch: bool, timeout: Duration) -> Result<()> {
        let mut last = String::new();
        let collection = self.pick.path();
        let done = follow(self.api, &collection, &self.name, |now| {
            let Some(now) = now else {
                let message = format!("{} not found", self.quoted());
                bail!(crate::api::ServerError {
                    code: 404,
                    reason: "NotFound".to_owned(),
                    message
                });
            };
            let line = match status::of(now)? {
                Status::Done(line) => {
                    self.session.line(format_args!("{line}"))?;
                    return Ok(Some(()));
                }
                Status::UnderWay(line) => line,
            };
            if line != last {
                self.session.line(format_args!("{line}"))?;
                last = line;
            }
            Ok((!watch).then_some(()))
        });
        if timeout.is_zero() {
            return done.await;
        }
        match tokio::time::timeout(timeout, done).await {
            Ok(result) => result,
            Err(_) => bail!("timed out waiting for the condition"),
        }
    }

    async fn undo(&self, to_revision: u64, dry_run: DryRun) -> Result<()> {
        let object = self.api.get(&self.path()).await?;
        if object["spec"]["paused"] == true {
            bail!(
                "cannot rollback a paused deployment; resume it first with 'wkctl rollout resume {}' and try again",
                self.display()
            );
        }
        let all = self.revisions(&object).await?;
        let Revision {
            number,
            cause,
            template,
        } = earlier(&all, to_revision).ok_or_else(|| match to_revision {
            0 => anyhow!(
                "no rollout history found for {} {:?}",
                self.kind().to_lowercase(),
                self.name
            ),
            wanted => anyhow!("unable to find specified revision {wanted} in history"),
        })?;
        let template = without_hash(template);
        if template == without_hash(&object["spec"]["template"]) {
            return self.session.line(format_args!(
                "{} skipped rollback (current template already matches revision {number})",
                self.display()
            ));
        }
        // A JSON patch: what the template has now and the old one had not must go.
        let mut patch = vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
        if let Some(cause) = cause {
            // Only this one: the others may have changed since they were read.
            patch.push(match object["metadata"]["annotations"].is_object() {
                true => json!({"op": "add", "path": CHANGE_CAUSE_POINTER, "value": cause}),
                false => json!({"op": "add", "path": "/metadata/annotations", "value": {CHANGE_CAUSE: cause}}),
            });
        }
        self.patch("application/json-patch+json", &patch.into(), dry_run)
            .await?;
        self.session
            .line(format_args!("{} rolled back{dry_run}", self.display()))
    }

    async fn restart(&self, dry_run: DryRun) -> Result<()> {
        let deployment = self.api.get(&self.path()).await?;
        if deployment["spec"]["paused"] == true {
            bail!(
                "{} can't restart paused deployment (run rollout resume first)",
                self.quoted()
            );
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch =
            json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: now}}}}});
        self.patch("application/merge-patch+json", &patch, dry_run)
            .await?;
        self.session
            .line(format_args!("{} restarted{dry_run}", self.display()))
    }

    async fn set_paused(&self, paused: bool, dry_run: DryRun) -> Result<()> {
        if self.kind() != "Deployment" {
            let what = if paused { "pausing" } else { "resuming" };
            bail!("{} {what} is not supported", self.quoted());
        }
        let deployment = self.api.get(&self.path()).await?;
        let now = deployment["spec"]["paused"] == true;
        match (now, paused) {
            (true, true) => bail!("{} is already paused", self.quoted()),
            (false, false) => bail!("{} is not paused", self.quoted()),
            _ => {}
        }
        self.patch(
            "application/merge-patch+json",
            &json!({"spec": {"paused": paused}}),
            dry_run,
        )
        .await?;
        let done = if paused { "paused" } else { "resumed" };
        self.session
            .line(format_args!("{} {done}{dry_run}", self.display()))
    }

    async fn history(&self, revision: Option<u64>) -> Result<()> {
        let object = self.api.get(&self.path()).await?;
        let all = self.revisions(&object).await?;
        if let Some(wanted) = revision {
            let Some(found) = all.iter().find(|revision| revision.number == wanted) else {
                bail!("unable to find the specified revision");
            };
            let mut text = String::from("Pod Template:\n");
            describe::template(&found.template, &mut text);
            self.session
                .line(format_args!("{} with revision #{wanted}", self.display()))?;
            return self.session.text(&columns::align(&text));
        }
        let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
        for revision in &all {
            let cause = revision.cause.as_deref().unwrap_or("<none>");
            rows.push(vec![revision.number.to_string(), cause.to_owned()]);
        }
        self.session.line(format_args!("{} ", self.display()))?;
        self.session.text(&Columns::default().format(&rows))?;
        self.session.text("\n")
    }

    async fn patch(&self, content_type: &str, patch: &Value, dry_run: DryRun) -> Result<()> {
        if dry_run.client() {
            return Ok(());
        }
        let parameters = [
            ("fieldManager", "wkctl-rollout"),
            ("dryRun", dry_run.parameter()),
        ];
        self.api
            .patch(&query::with(&self.path(), &parameters), content_type, patch)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    const HELLO: &str = "/apis/apps/v1/namespaces/default/deployments/hello";
    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

    fn set(revision: u64, image: &str) -> Value {
        json!({
            "metadata": {"annotations": {"deployment.kubernetes.io/revision": revision.to_string()}, "ownerReferences": [{"controller": true, "uid": "u"}]},
            "spec": {"template": {"metadata": {"labels": {"app": "hello", "pod-template-hash": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        })
    }

    fn deployment(available: u64) -> Value {
        json!({
            "kind": "Deployment",
            "metadata": {"name": "hello", "uid": "u", "generation": 1, "resourceVersion": "5"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "hello"}},
                "template": {"metadata": {"labels": {"app": "hello"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}}},
            "status": {"observedGeneration": 1, "updatedReplicas": 2, "replicas": 2, "availableReplicas": available},
        })
    }

    fn server() -> Server {
        Server::new()
            .on(&format!("GET {HELLO}"), deployment(1))
            .on(
                &format!("GET {SETS}?labelSelector=app%3Dhello"),
                json!({"items": [set(2, "new"), set(1, "old")]}),
            )
            .on(
                &format!("PATCH {HELLO}?fieldManager=wkctl-rollout"),
                json!({}),
            )
    }

    async fn check(server: Server, line: &str, expected: Expect) {
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn the_status_is_followed_until_it_is_rolled_out() {
        let event = json!({"type": "MODIFIED", "object": deployment(2)}).to_string();
        let path = "GET /apis/apps/v1/namespaces/default/deployments?watch=true&fieldSelector=metadata.name%3Dhello&resourceVersion=5";
        let server = server().on_text(path, 200, &event);
        check(
            server.clone(),
            "rollout status deployment/hello",
            expect![[r#"
                Waiting for deployment "hello" rollout to finish: 1 of 2 updated replicas are available...
                deployment "hello" successfully rolled out
            "#]],
        )
        .await;
        check(
            server.clone(),
            "rollout status deployment hello --watch=false",
            expect![[r#"
                Waiting for deployment "hello" rollout to finish: 1 of 2 updated replicas are available...
            "#]],
        )
        .await;
        check(
            server.clone(),
            "rollout status deployment nope",
            expect![[r#"
                ! Error from server (NotFound): deployments.apps "nope" not found
                exit 1
            "#]],
        )
        .await;
        check(
            server,
            "rollout status service x",
            expect![[r#"
            ! error: service/x has no roll-out: only deployments, statefulsets and daemonsets have
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn undo_brings_an_earlier_template_back_without_its_hash() {
        check(server(), "rollout undo deploy/hello", expect![[r#"
            > PATCH /apis/apps/v1/namespaces/default/deployments/hello?fieldManager=wkctl-rollout [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"hello"}},"spec":{"containers":[{"image":"old","name":"c"}]}}}]
            deployment.apps/hello rolled back
        "#]]).await;
        check(
            server(),
            "rollout undo deploy/hello --to-revision=2",
            expect![[r#"
                deployment.apps/hello skipped rollback (current template already matches revision 2)
            "#]],
        )
        .await;
        check(
            server(),
            "rollout undo deploy/hello --to-revision=7",
            expect![[r#"
                ! error: unable to find specified revision 7 in history
                exit 1
            "#]],
        )
        .await;
        check(
            server(),
            "rollout undo deploy/hello --to-revision=1 --dry-run=client",
            expect![[r#"
                deployment.apps/hello rolled back (dry run)
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn undo_brings_the_change_cause_back_and_leaves_other_annotations() {
        let server = |annotations: Value| {
            let (mut now, mut old) = (deployment(1), set(1, "old"));
            now["metadata"]["annotations"] = annotations;
            old["metadata"]["annotations"][CHANGE_CAUSE] = "first".into();
            Server::new()
                .on(&format!("GET {HELLO}"), now)
                .on(
                    &format!("GET {SETS}?labelSelector=app%3Dhello"),
                    json!({"items": [set(2, "new"), old]}),
                )
                .on(
                    &format!("PATCH {HELLO}?fieldManager=wkctl-rollout"),
                    json!({}),
                )
        };
        check(
            server(json!({"team": "a"})),
            "rollout undo deploy/hello",
            expect![[r#"
                > PATCH /apis/apps/v1/namespaces/default/deployments/hello?fieldManager=wkctl-rollout [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"hello"}},"spec":{"containers":[{"image":"old","name":"c"}]}}},{"op":"add","path":"/metadata/annotations/kubernetes.io~1change-cause","value":"first"}]
                deployment.apps/hello rolled back
            "#]],
        )
        .await;
        check(
            server(Value::Null),
            "rollout undo deploy/hello",
            expect![[r#"
                > PATCH /apis/apps/v1/namespaces/default/deployments/hello?fieldManager=wkctl-rollout [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"hello"}},"spec":{"containers":[{"image":"old","name":"c"}]}}},{"op":"add","path":"/metadata/annotations","value":{"kubernetes.io/change-cause":"first"}}]
                deployment.apps/hello rolled back
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn history_lists_revisions() {
        check(
            server(),
            "rollout history deploy/hello",
            expect![[r#"
            deployment.apps/hello 
            REVISION   CHANGE-CAUSE
            1          <none>
            2          <none>

        "#]],
        )
        .await;
        check(
            server(),
            "rollout history deploy/hello --revision=1",
            expect![[r#"
                deployment.apps/hello with revision #1
                Pod Template:
                  Labels:  app=hello
                           pod-template-hash=x
                  Containers:
                    c:
                      Image:        old
                      Port:         <none>
                      Environment:  <none>
                      Mounts:       <none>
                  Volumes:          <none>
                  Node-Selectors:   <none>
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn roll_outs_are_paused_and_resumed() {
        check(server(), "rollout pause deploy/hello", expect![[r#"
            > PATCH /apis/apps/v1/namespaces/default/deployments/hello?fieldManager=wkctl-rollout {"spec":{"paused":true}}
            deployment.apps/hello paused
        "#]]).await;
        check(
            server(),
            "rollout resume deploy/hello",
            expect![[r#"
            ! error: deployments.apps "hello" is not paused
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_restart_marks_the_template() {
        let said = server().run("rollout restart deploy/hello").await;
        assert!(said.contains(r#"{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2"#), "{said}");
        assert!(
            said.ends_with("deployment.apps/hello restarted\n"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_stateful_set_goes_back_to_the_template_of_a_revision() {
        const WEB: &str = "/apis/apps/v1/namespaces/default/statefulsets/web";
        let template =
            |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        let revision = |number: u64, image: &str| {
            let mut template = template(image);
            template["$patch"] = "replace".into();
            json!({
                "metadata": {"ownerReferences": [{"controller": true, "uid": "u"}]},
                "revision": number, "data": {"spec": {"template": template}},
            })
        };
        let set = json!({
            "kind": "StatefulSet", "metadata": {"name": "web", "uid": "u"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("new")},
        });
        let server = Server::new()
            .on(&format!("GET {WEB}"), set)
            .on(
                "GET /apis/apps/v1/namespaces/default/controllerrevisions?labelSelector=app%3Dweb",
                json!({"items": [revision(3, "new"), revision(1, "old")]}),
            )
            .on(
                &format!("PATCH {WEB}?fieldManager=wkctl-rollout"),
                json!({}),
            );
        check(server.clone(), "rollout undo sts/web", expect![[r#"
            > PATCH /apis/apps/v1/namespaces/default/statefulsets/web?fieldManager=wkctl-rollout [{"op":"replace","path":"/spec/template","value":{"spec":{"containers":[{"image":"old","name":"c"}]}}}]
            statefulset.apps/web rolled back
        "#]]).await;
        check(
            server,
            "rollout pause sts/web",
            expect![[r#"
                ! error: statefulsets.apps "web" pausing is not supported
                exit 1
            "#]],
        )
        .await;
    }
}
