//! `wkctl scale`: through the scale subresource, so it works for every kind that has one.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use crate::{
    dry_run::DryRun,
    query,
    selection::{Pick, Selection},
    session::Session,
};

/// Set how many replicas a workload has
#[derive(Args)]
pub(crate) struct Scale {
    #[command(flatten)]
    selection: Selection,
    /// How many replicas it should have
    #[arg(long, value_name = "N")]
    replicas: u32,
    /// Only if it has this many now
    #[arg(long, value_name = "N")]
    current_replicas: Option<u32>,
    /// All of the given types in the namespace
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Scale {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let picks = self.selection.resolve(session, "scale").await?;
        let mut failures = picks.failures;
        for pick in &picks.picks {
            let objects = match &pick.name {
                Some(_) => vec![pick.clone()],
                None if self.all || self.selection.has_selector() => {
                    let list = api
                        .get(&query::with(&pick.path(), &self.selection.parameters()))
                        .await?;
                    named(pick, &list)
                }
                None => bail!("resource(s) were provided, but no name was specified"),
            };
            for object in objects {
                match self.scale(session, &object).await {
                    Ok(()) => {}
                    Err(error) => failures.push(error)?,
                }
            }
        }
        failures.finish()
    }

    async fn scale(&self, session: &Session, pick: &Pick) -> Result<()> {
        let api = session.api().await?;
        let path = format!("{}/scale", pick.path());
        let mut patch = json!({"spec": {"replicas": self.replicas}});
        if self.current_replicas.is_some() || self.dry_run.client() {
            let now = api.get(&path).await?;
            let replicas = now["spec"]["replicas"].as_u64().unwrap_or_default();
            if let Some(expected) = self.current_replicas.filter(|n| u64::from(*n) != replicas) {
                bail!("Expected replicas to be {expected}, was {replicas}");
            }
            // Whoever else scales it in between makes this a conflict.
            patch["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
        }
        if !self.dry_run.client() {
            let parameters = [
                ("fieldManager", "wkctl-scale"),
                ("dryRun", self.dry_run.parameter()),
            ];
            api.patch(
                &query::with(&path, &parameters),
                "application/merge-patch+json",
                &patch,
            )
            .await?;
        }
        let name = pick.name.as_deref().unwrap_or_default();
        session.line(format_args!(
            "{} scaled{}",
            pick.resource.display(name),
            self.dry_run
        ))
    }
}

/// The objects of a list, each by its name.
fn named(pick: &Pick, list: &serde_json::Value) -> Vec<Pick> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let items = list["items"].as_array().into_iter().flatten();
    let named = items.map(|object| Pick {
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
        ..pick.clone()
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    const SCALE: &str = "/apis/apps/v1/namespaces/default/deployments/hello/scale";

    async fn check(line: &str, expected: Expect) {
        let now = json!({"metadata": {"resourceVersion": "4"}, "spec": {"replicas": 2}});
        let server = Server::new()
            .on(&format!("GET {SCALE}"), now.clone())
            .on(
                &format!("PATCH {SCALE}?fieldManager=wkctl-scale"),
                now.clone(),
            )
            .on(
                &format!("PATCH {SCALE}?fieldManager=wkctl-scale&dryRun=All"),
                now,
            );
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn a_workload_is_scaled_through_its_subresource() {
        check("scale deployment/hello --replicas=3", expect![[r#"
            > PATCH /apis/apps/v1/namespaces/default/deployments/hello/scale?fieldManager=wkctl-scale {"spec":{"replicas":3}}
            deployment.apps/hello scaled
        "#]]).await;
        check(
            "scale --replicas=3 deploy hello --dry-run=server",
            expect![[r#"
                > PATCH /apis/apps/v1/namespaces/default/deployments/hello/scale?fieldManager=wkctl-scale&dryRun=All {"spec":{"replicas":3}}
                deployment.apps/hello scaled (server dry run)
            "#]],
        )
        .await;
        check(
            "scale deploy hello --replicas=3 --dry-run",
            expect![[r#"
            deployment.apps/hello scaled (dry run)
        "#]],
        )
        .await;
        check(
            "scale deploy --replicas=3",
            expect![[r#"
            ! error: resource(s) were provided, but no name was specified
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn it_is_left_alone_when_it_has_not_as_many_as_expected() {
        check(
            "scale deploy hello --replicas=3 --current-replicas=2",
            expect![[r#"
                > PATCH /apis/apps/v1/namespaces/default/deployments/hello/scale?fieldManager=wkctl-scale {"metadata":{"resourceVersion":"4"},"spec":{"replicas":3}}
                deployment.apps/hello scaled
            "#]],
        )
        .await;
        check(
            "scale deploy hello --replicas=3 --current-replicas=1",
            expect![[r#"
                ! error: Expected replicas to be 1, was 2
                exit 1
            "#]],
        )
        .await;
    }
}
