//! `wkctl apply`.

use anyhow::{Result, bail};
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
    /// Take the fields that others own and that the manifests want otherwise
    #[arg(long)]
    force_conflicts: bool,
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
        if self.dry_run.client() {
            bail!(
                "--dry-run=client doesn't work with apply, which merges on the server (did you mean --dry-run=server instead?)"
            );
        }
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
                ("force", if self.force_conflicts { "true" } else { "" }),
                ("fieldValidation", self.validation.parameter()),
                ("dryRun", self.dry_run.parameter()),
            ],
        );
        let parameters = parameters.trim_start_matches('?');
        for target in &targets {
            match apply::apply(api, target, parameters).await {
                Ok((outcome, _)) => session.line(format_args!(
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
        let server = Server::new().on(&format!("PATCH {MAPS}/a?{QUERY}"), json!({}));
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: Broken\n";
        expect![[r#"
            > PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=wkctl&fieldValidation=Strict {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
            configmap/a created
            ! error: FILE, document 2: apiVersion is not set
            exit 1
        "#]].assert_eq(&run(server, manifest, "").await);
    }

    #[tokio::test]
    async fn only_the_server_can_say_what_an_apply_would_do() {
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '2'}\n";
        expect![[r#"
            ! error: --dry-run=client doesn't work with apply, which merges on the server (did you mean --dry-run=server instead?)
            exit 1
        "#]]
        .assert_eq(&run(Server::new(), manifest, "--dry-run=client").await);
        let server = Server::new()
            .on(&format!("GET {MAPS}/a"), json!({"data": {"x": "1"}}))
            .on(
                &format!("PATCH {MAPS}/a?{QUERY}&dryRun=All"),
                json!({"data": {"x": "2"}}),
            );
        expect![[r#"
            > PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=wkctl&fieldValidation=Strict&dryRun=All {"apiVersion":"v1","data":{"x":"2"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
            configmap/a configured (server dry run)
        "#]]
        .assert_eq(&run(server, manifest, "--dry-run=server").await);
    }

    #[tokio::test]
    async fn an_object_that_is_as_the_manifest_says_is_unchanged() {
        let object = json!({"metadata": {"resourceVersion": "2"}});
        let server = Server::new()
            .on(&format!("GET {MAPS}/a"), object.clone())
            .on(&format!("PATCH {MAPS}/a?{QUERY}"), object);
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        let said = run(server, manifest, "").await;
        assert!(said.ends_with("configmap/a unchanged\n"), "{said}");
    }

    #[tokio::test]
    async fn a_conflict_says_what_can_be_done_about_it() {
        let conflict =
            "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .data.x";
        let forced = "fieldManager=wkctl&force=true&fieldValidation=Strict";
        let server = Server::new()
            .on(&format!("GET {MAPS}/a"), json!({"data": {"x": "1"}}))
            .on_error(
                &format!("PATCH {MAPS}/a?{QUERY}"),
                409,
                "Conflict",
                conflict,
            )
            .on(
                &format!("PATCH {MAPS}/a?{forced}"),
                json!({"data": {"x": "2"}}),
            );
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '2'}\n";
        expect![[r#"
            > PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=wkctl&fieldValidation=Strict {"apiVersion":"v1","data":{"x":"2"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
            ! error: Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.x
            ! Please review the fields above--they currently have other managers. Here
            ! are the ways you can resolve this warning:
            ! * If you intend to manage all of these fields, please re-run the apply
            !   command with the `--force-conflicts` flag.
            ! * If you do not intend to manage all of the fields, please edit your
            !   manifest to remove references to the fields that should keep their
            !   current managers.
            ! * You may co-own fields by updating your manifest to match the existing
            !   value; in this case, you'll become the manager if the other manager(s)
            !   stop managing the field (remove it from their configuration).
            ! See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
            exit 1
        "#]]
        .assert_eq(&run(server.clone(), manifest, "").await);
        let said = run(server, manifest, "--force-conflicts").await;
        assert!(said.ends_with("configmap/a configured\n"), "{said}");
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
