//! `wkctl delete`: deletes, and waits until the objects are gone.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    api::{Api, code},
    dry_run::DryRun,
    duration,
    follow::follow,
    query,
    selection::{Pick, Selection},
    session::{Failures, Session},
};

/// How long to wait when the user does not say: a week, as `kubectl` does.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Delete objects by name, by label or from files
#[derive(Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    selection: Selection,
    /// All objects of the given types in the namespace
    #[arg(long)]
    all: bool,
    /// What happens to objects that belong to the deleted ones
    #[arg(long, value_enum, default_value_t = Cascade::Background, num_args = 0..=1,
        default_missing_value = "background", require_equals = true)]
    cascade: Cascade,
    /// Seconds that the object has to stop; 0 needs --force
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// Stop at once (a grace period of one second)
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// Remove the object without waiting for it to stop
    #[arg(long)]
    force: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    wait: bool,
    /// How long to wait: 30s, 5m
    #[arg(long, value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Objects that are not there count as deleted
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, require_equals = true,
        action = clap::ArgAction::Set)]
    ignore_not_found: bool,
    /// Print only the names
    #[arg(short, long, value_parser = ["name"])]
    output: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Cascade {
    #[value(alias = "true")]
    Background,
    Foreground,
    #[value(alias = "false")]
    Orphan,
}

/// An object that is being deleted.
struct Deleted {
    pick: Pick,
    name: String,
    uid: String,
}

impl Delete {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let grace = self.grace_seconds()?;
        let picks = self.selection.resolve(session, "delete").await?;
        let whole = picks.picks.iter().any(|pick| pick.name.is_none());
        if self.all && self.selection.has_selector() {
            bail!("setting 'all' parameter and selector is not supported: use one of them");
        }
        if whole && !self.all && !self.selection.has_selector() {
            bail!(
                "resource(s) were provided, but no name was specified: name objects, or use --all or -l"
            );
        }
        if !whole && self.all {
            bail!("name cannot be provided when --all is given");
        }
        if self.force && grace == Some(0) {
            session.note(format_args!(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
            ));
        }
        let mut failures = picks.failures;
        let mut deleted = Vec::new();
        let mut found = false;
        for pick in &picks.picks {
            let names = self.names(api, pick, &mut failures).await?;
            for name in names {
                found = true;
                match self.delete(session, api, pick, &name, grace).await {
                    Ok(gone) => deleted.extend(gone),
                    Err(error) => failures.push(error)?,
                }
            }
        }
        if !found && whole && failures.0.is_empty() {
            session.note(format_args!("No resources found"));
        }
        if self.wait && !self.dry_run.any() {
            self.wait(api, deleted, &mut failures).await?;
        }
        failures.finish()
    }

    /// The grace period to send.
    fn grace_seconds(&self) -> Result<Option<i64>> {
        match self.grace_period.filter(|seconds| *seconds >= 0) {
            Some(seconds) if seconds > 0 && self.force => {
                bail!("--force and --grace-period greater than 0 cannot be specified together")
            }
            // Without --force nothing may be removed before it stopped.
            Some(0) if !self.force => Ok(Some(1)),
            Some(seconds) => Ok(Some(seconds)),
            None if self.force => Ok(Some(0)),
            None if self.now => Ok(Some(1)),
            None => Ok(None),
        }
    }

    async fn names(&self, api: &Api, pick: &Pick, failures: &mut Failures) -> Result<Vec<String>> {
        if let Some(name) = &pick.name {
            return Ok(vec![name.clone()]);
        }
        if !pick.resource.verbs.is_empty()
            && !pick.resource.verbs.iter().any(|verb| verb == "delete")
        {
            return Ok(Vec::new());
        }
        let path = query::with(&pick.path(), &self.selection.parameters());
        let list = match api.get(&path).await {
            Ok(list) => list,
            Err(error) => {
                failures.push(error)?;
                return Ok(Vec::new());
            }
        };
        let items = list["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let path = |object: &Value| {
            let text = |field: &str| {
                object["metadata"][field]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            // Across namespaces a name alone is not enough.
            if pick.namespace.is_none() && pick.resource.namespaced {
                format!("{}/{}", text("namespace"), text("name"))
            } else {
                text("name")
            }
        };
        Ok(items.iter().map(path).collect())
    }

    /// Deletes one object; `None` if there is nothing to wait for.
    async fn delete(
        &self,
        session: &Session,
        api: &Api,
        pick: &Pick,
        name: &str,
        grace: Option<i64>,
    ) -> Result<Option<Deleted>> {
        let mut pick = pick.clone();
        let name = match name.split_once('/') {
            Some((namespace, name)) => {
                pick.namespace = Some(namespace.to_owned());
                name
            }
            None => name,
        };
        pick.name = Some(name.to_owned());
        let path = query::with(&pick.path(), &[("dryRun", self.dry_run.parameter())]);
        let answer = if self.dry_run.client() {
            api.get(&path).await
        } else {
            api.send(Method::DELETE, &path, &self.options(grace)).await
        };
        let answer = match answer {
            Err(error) if code(&error) == Some(404) && self.ignore_not_found => return Ok(None),
            Err(error) => {
                return Err(match &pick.source {
                    Some(source) => error.context(format!("error when deleting {source:?}")),
                    None => error,
                });
            }
            Ok(answer) => answer,
        };
        let done = if self.force && grace == Some(0) {
            "force deleted"
        } else {
            "deleted"
        };
        match self.output {
            Some(_) => session.line(format_args!("{}", pick.resource.display(name)))?,
            None => session.line(format_args!(
                "{} {done}{}",
                pick.resource.quoted(name),
                self.dry_run
            ))?,
        }
        // The object itself while it lasts, else a Status that names it.
        let uid = answer["metadata"]["uid"]
            .as_str()
            .or_else(|| answer["details"]["uid"].as_str());
        Ok(Some(Deleted {
            name: name.to_owned(),
            uid: uid.unwrap_or_default().to_owned(),
            pick,
        }))
    }

    /// The `DeleteOptions` to send.
    fn options(&self, grace: Option<i64>) -> Value {
        let mut options = Map::new();
        options.insert("apiVersion".to_owned(), "v1".into());
        options.insert("kind".to_owned(), "DeleteOptions".into());
        let policy = match self.cascade {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        };
        options.insert("propagationPolicy".to_owned(), json!(policy));
        if let Some(seconds) = grace {
            options.insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        options.into()
    }

    /// Waits until none of the objects is there; one of the same name made later is another one.
    async fn wait(&self, api: &Api, deleted: Vec<Deleted>, failures: &mut Failures) -> Result<()> {
        let patience = self
            .timeout
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(PATIENCE);
        let end = tokio::time::Instant::now() + patience;
        for object in deleted {
            let collection = object
                .pick
                .resource
                .collection(object.pick.namespace.as_deref());
            let gone = follow(api, &collection, &object.name, |now| {
                let same = now.is_some_and(|now| {
                    object.uid.is_empty() || now["metadata"]["uid"] == object.uid.as_str()
                });
                Ok((!same).then_some(()))
            });
            let waited = match tokio::time::timeout_at(end, gone).await {
                Ok(result) => result.with_context(|| {
                    format!(
                        "wait for {} to be gone",
                        object.pick.resource.quoted(&object.name)
                    )
                }),
                Err(_) => {
                    let display = format!("{}/{}", object.pick.resource.plural, object.name);
                    Err(anyhow!("timed out waiting for the condition on {display}"))
                }
            };
            if let Err(error) = waited {
                failures.push(error)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    const PODS: &str = "/api/v1/namespaces/default/pods";

    fn pod(uid: &str) -> Value {
        json!({"metadata": {"name": "a", "namespace": "default", "uid": uid, "resourceVersion": "3"}})
    }

    fn server() -> Server {
        Server::new()
            .on(&format!("DELETE {PODS}/a"), pod("1"))
            .on(&format!("DELETE {PODS}/a?dryRun=All"), pod("1"))
            .on(
                &format!("GET {PODS}?labelSelector=x%3Dy"),
                json!({"items": [pod("1")]}),
            )
            .on(&format!("GET {PODS}"), json!({"items": []}))
            .on_error(
                &format!("DELETE {PODS}/b"),
                404,
                "NotFound",
                "pods \"b\" not found",
            )
    }

    async fn check(server: Server, line: &str, expected: Expect) {
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn an_object_is_deleted_and_waited_for() {
        let event = json!({"type": "DELETED", "object": pod("1")}).to_string();
        let slow = server().on(&format!("GET {PODS}/a"), pod("1")).on_text(
            &format!("GET {PODS}?watch=true&fieldSelector=metadata.name%3Da&resourceVersion=3"),
            200,
            &event,
        );
        check(slow, "delete pod a", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
        "#]]).await;
        let replaced = server().on(&format!("GET {PODS}/a"), pod("2"));
        check(
            replaced,
            "delete po/a --cascade=foreground --grace-period=5",
            expect![[r#"
                > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","gracePeriodSeconds":5,"kind":"DeleteOptions","propagationPolicy":"Foreground"}
                pod "a" deleted
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn waiting_ends_with_the_timeout() {
        let stuck = server().on(&format!("GET {PODS}/a"), pod("1")).on_text(
            &format!("GET {PODS}?watch=true&fieldSelector=metadata.name%3Da&resourceVersion=3"),
            200,
            "",
        );
        check(stuck.clone(), "delete pod a --timeout=20ms", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
            ! error: timed out waiting for the condition on pods/a
            exit 1
        "#]]).await;
        check(stuck, "delete pod a --wait=false", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
        "#]]).await;
    }

    #[tokio::test]
    async fn force_removes_at_once() {
        check(server(), "delete pod a --force", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","gracePeriodSeconds":0,"kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" force deleted
            ! Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.
        "#]]).await;
        check(server(), "delete pod a --grace-period=0", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","gracePeriodSeconds":1,"kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
        "#]]).await;
        check(
            server(),
            "delete pod a --grace-period=3 --force",
            expect![[r#"
                ! error: --force and --grace-period greater than 0 cannot be specified together
                exit 1
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn objects_are_chosen_by_label_or_all() {
        check(server(), "delete pods -l x=y", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
        "#]]).await;
        check(
            server(),
            "delete pods --all",
            expect![[r#"
            ! No resources found
        "#]],
        )
        .await;
        check(server(), "delete pods", expect![[r#"
            ! error: resource(s) were provided, but no name was specified: name objects, or use --all or -l
            exit 1
        "#]]).await;
    }

    #[tokio::test]
    async fn a_missing_object_is_an_error_unless_told() {
        check(server(), "delete pods a b --wait=false", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            > DELETE /api/v1/namespaces/default/pods/b {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted
            ! Error from server (NotFound): pods "b" not found
            exit 1
        "#]]).await;
        check(server(), "delete pods b --ignore-not-found", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/b {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
        "#]]).await;
    }

    #[tokio::test]
    async fn a_dry_run_changes_nothing() {
        let server = server().on(&format!("GET {PODS}/a"), pod("1"));
        check(
            server.clone(),
            "delete pod a --dry-run=client",
            expect![[r#"
                pod "a" deleted (dry run)
            "#]],
        )
        .await;
        check(server, "delete pod a --dry-run=server", expect![[r#"
            > DELETE /api/v1/namespaces/default/pods/a?dryRun=All {"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}
            pod "a" deleted (server dry run)
        "#]]).await;
    }
}
