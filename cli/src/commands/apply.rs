//! `wkctl apply`.

use anyhow::Result;
use clap::Args;

use crate::{
    apply,
    dry_run::DryRun,
    query,
    session::{Failures, Session},
};

/// Make objects as manifests say
#[derive(Args)]
pub(crate) struct Apply {
    /// File, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    validation: Validation,
}

/// What happens to fields that the server does not know.
#[derive(Args)]
pub(crate) struct Validation {
    /// What to do about fields that the server does not know
    #[arg(long, default_value = "strict", default_missing_value = "strict", num_args = 0..=1, require_equals = true,
        value_parser = ["strict", "warn", "ignore", "true", "false"])]
    validate: String,
}

impl Validation {
    /// The value of `fieldValidation`.
    pub(crate) fn parameter(&self) -> &'static str {
        match self.validate.as_str() {
            "warn" => "Warn",
            "ignore" | "false" => "Ignore",
            _ => "Strict",
        }
    }
}

impl Apply {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let resources = session.resources().await?;
        let namespace = session.namespace().await?;
        let forced = session.namespace_given();
        let (targets, errors) = apply::targets(
            resources,
            &self.filenames,
            self.recursive,
            &namespace,
            forced,
        )
        .await?;
        let mut failures = Failures(errors.into_iter().map(anyhow::Error::msg).collect());
        let parameters = query::with(
            "",
            &[
                ("fieldManager", "wkctl"),
                ("fieldValidation", self.validation.parameter()),
                ("dryRun", self.dry_run.parameter()),
            ],
        );
        let parameters = parameters.trim_start_matches('?');
        for target in &targets {
            let applied = if self.dry_run.client() {
                apply::preview(api, target).await
            } else {
                let applied = apply::apply(api, target, parameters).await;
                applied.map(|(outcome, _)| outcome)
            };
            match applied {
                Ok(outcome) => session.line(format_args!(
                    "{} {outcome}{}",
                    target.display(),
                    self.dry_run
                ))?,
                Err(error) => failures.push(error)?,
            }
        }
        failures.finish()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use crate::session::fake::Server;

    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    const QUERY: &str = "fieldManager=wkctl&fieldValidation=Strict";

    async fn run(server: Server, manifest: &str, flags: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(&file, manifest).unwrap();
        let said = server
            .run(&format!("apply -f {} {flags}", file.display()))
            .await;
        said.replace(&file.display().to_string(), "FILE")
    }

    #[tokio::test]
    async fn a_broken_document_does_not_hide_the_others() {
        let server = Server::new().on(&format!("POST {MAPS}?{QUERY}"), json!({}));
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: Broken\n";
        expect![[r#"
            > POST /api/v1/namespaces/default/configmaps?fieldManager=wkctl&fieldValidation=Strict {"apiVersion":"v1","kind":"ConfigMap","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\",\"namespace\":\"default\"}}\n"},"name":"a","namespace":"default"}}
            configmap/a created
            ! error: FILE, document 2: apiVersion is not set
            exit 1
        "#]].assert_eq(&run(server, manifest, "").await);
    }

    #[tokio::test]
    async fn a_dry_run_of_the_client_only_reads() {
        let server = Server::new().on(&format!("GET {MAPS}/a"), json!({"data": {"x": "1"}}));
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '2'}\n";
        expect![[r#"
            configmap/a configured (dry run)
        "#]]
        .assert_eq(&run(server, manifest, "--dry-run=client").await);
    }

    #[tokio::test]
    async fn a_stale_revision_in_the_manifest_is_a_conflict_at_once() {
        let server = Server::new()
            .on(
                &format!("GET {MAPS}/a"),
                json!({"metadata": {"resourceVersion": "2"}}),
            )
            .on_error(
                &format!("PATCH {MAPS}/a?{QUERY}"),
                409,
                "Conflict",
                "the object has been modified",
            );
        let manifest =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, resourceVersion: '1'}\n";
        let said = run(server, manifest, "").await;
        assert_eq!(said.matches("> PATCH").count(), 1, "{said}");
        assert!(
            said.ends_with(
                "! Error from server (Conflict): the object has been modified\nexit 1\n"
            ),
            "{said}"
        );
    }
}
