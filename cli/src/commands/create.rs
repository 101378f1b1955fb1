//! `wkctl create`: objects from files, or a few kinds from flags.

use anyhow::{Error, Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::Value;

use super::apply::Validation;
use crate::{
    api::ServerError,
    apply::{self, Target},
    dry_run::DryRun,
    encode, query,
    session::{Failures, Session},
};

mod config;
mod deployment;

/// Create objects from files or flags
#[derive(Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Create {
    /// File, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    kind: Option<Kind>,
}

/// How objects are created and shown.
#[derive(Args)]
struct How {
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    validation: Validation,
    /// Print the objects instead of a line about each
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
    Name,
}

#[derive(Subcommand)]
enum Kind {
    /// Create a namespace
    #[command(visible_alias = "ns")]
    Namespace {
        name: String,
        #[command(flatten)]
        how: How,
    },
    /// Create a config map from literals and files
    #[command(visible_alias = "cm")]
    Configmap {
        #[command(flatten)]
        config: config::Config,
        #[command(flatten)]
        how: How,
    },
    /// Create a secret
    Secret {
        #[command(subcommand)]
        kind: Secret,
    },
    /// Create a deployment of an image
    #[command(visible_alias = "deploy")]
    Deployment {
        #[command(flatten)]
        deployment: deployment::Deployment,
        #[command(flatten)]
        how: How,
    },
}

#[derive(Subcommand)]
enum Secret {
    /// Create a secret from literals and files
    Generic {
        #[command(flatten)]
        config: config::Config,
        /// Type of the secret
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        #[command(flatten)]
        how: How,
    },
}

impl Create {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (object, how) = match self.kind {
            None => return from_files(session, &self.filenames, self.recursive, &self.how).await,
            Some(Kind::Namespace { name, how }) => {
                let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                (object, how)
            }
            Some(Kind::Configmap { config, how }) => (config.config_map()?, how),
            Some(Kind::Secret {
                kind: Secret::Generic { config, kind, how },
            }) => (config.secret(kind.as_deref())?, how),
            Some(Kind::Deployment { deployment, how }) => (deployment.object(), how),
        };
        let namespace = session.namespace().await?;
        let resources = session.resources().await?;
        let mut target = Target::resolve(resources, object, &namespace, false)?;
        // A manifest to keep names no namespace that the user did not name.
        if how.dry_run.client()
            && !session.namespace_given()
            && let Some(metadata) = target.object["metadata"].as_object_mut()
        {
            metadata.remove("namespace");
        }
        create(session, &target, &how)
            .await
            .map_err(|error| generated(&target, error))
    }
}

/// An error of an object made from flags, in the words that `kubectl` has for it.
fn generated(target: &Target, error: Error) -> Error {
    match error.downcast_ref::<ServerError>() {
        Some(server) if target.resource.namespaced => anyhow!(
            "failed to create {}: {}",
            target.resource.singular,
            server.message
        ),
        _ => error,
    }
}

async fn from_files(session: &Session, files: &[String], recursive: bool, how: &How) -> Result<()> {
    let resources = session.resources().await?;
    let namespace = session.namespace().await?;
    let (targets, errors) = apply::targets(
        resources,
        files,
        recursive,
        &namespace,
        session.namespace_given(),
    )
    .await?;
    let mut failures = Failures(errors.into_iter().map(anyhow::Error::msg).collect());
    let source = files.join(",");
    for target in &targets {
        if let Err(error) = create(session, target, how).await {
            let is_answer = crate::api::code(&error).is_some();
            failures.push(if is_answer {
                error.context(format!("error when creating {source:?}"))
            } else {
                error
            })?;
        }
    }
    failures.finish()
}

async fn create(session: &Session, target: &Target, how: &How) -> Result<()> {
    let created = if how.dry_run.client() {
        target.object.clone()
    } else {
        let path = target.resource.collection(Some(&target.namespace));
        let parameters = [
            ("fieldManager", "wkctl-create"),
            ("fieldValidation", how.validation.parameter()),
            ("dryRun", how.dry_run.parameter()),
        ];
        session
            .api()
            .await?
            .send(
                Method::POST,
                &query::with(&path, &parameters),
                &target.object,
            )
            .await?
    };
    show(session, target, &created, how)
}

fn show(session: &Session, target: &Target, created: &Value, how: &How) -> Result<()> {
    // The server chooses the name when there is only a generateName.
    let Some(name) = created["metadata"]["name"]
        .as_str()
        .or(created["metadata"]["generateName"].as_str())
    else {
        bail!("the server's answer has no name");
    };
    let display = target.resource.display(name);
    match how.output {
        None => session.line(format_args!("{display} created{}", how.dry_run)),
        Some(Output::Name) => session.line(format_args!("{display}")),
        Some(Output::Json) => session.text(&encode::json(created)?),
        Some(Output::Yaml) => session.text(&encode::yaml(created)?),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::session::fake::Server;

    async fn check(line: &str, expected: Expect) {
        let query = "?fieldManager=wkctl-create&fieldValidation=Strict";
        let made = json!({"metadata": {"name": "a"}});
        let server = Server::new()
            .on(&format!("POST /api/v1/namespaces{query}"), made.clone())
            .on(
                &format!("POST /api/v1/namespaces/default/configmaps{query}"),
                made.clone(),
            )
            .on(
                &format!("POST /api/v1/namespaces/default/secrets{query}&dryRun=All"),
                made,
            )
            .on_error(
                &format!("POST /apis/apps/v1/namespaces/default/deployments{query}"),
                409,
                "AlreadyExists",
                "deployments.apps \"a\" already exists",
            );
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn objects_are_made_from_flags() {
        check("create namespace a", expect![[r#"
            > POST /api/v1/namespaces?fieldManager=wkctl-create&fieldValidation=Strict {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}
            namespace/a created
        "#]]).await;
        check(
            "create cm a --from-literal=b=c=d --from-literal=e=",
            expect![[r#"
                > POST /api/v1/namespaces/default/configmaps?fieldManager=wkctl-create&fieldValidation=Strict {"apiVersion":"v1","data":{"b":"c=d","e":""},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
                configmap/a created
            "#]],
        )
        .await;
        check(
            "create secret generic a --from-literal=b=c --dry-run=server",
            expect![[r#"
                > POST /api/v1/namespaces/default/secrets?fieldManager=wkctl-create&fieldValidation=Strict&dryRun=All {"apiVersion":"v1","data":{"b":"Yw=="},"kind":"Secret","metadata":{"name":"a","namespace":"default"}}
                secret/a created (server dry run)
            "#]],
        )
        .await;
        check("create deployment a --image=img:1", expect![[r#"
            > POST /apis/apps/v1/namespaces/default/deployments?fieldManager=wkctl-create&fieldValidation=Strict {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"labels":{"app":"a"},"name":"a","namespace":"default"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"img:1","name":"img"}]}}}}
            ! error: failed to create deployment: deployments.apps "a" already exists
            exit 1
        "#]]).await;
    }

    #[tokio::test]
    async fn a_dry_run_shows_the_manifest() {
        check("create deployment a --image=reg/img:1 --replicas=2 --port=80 --dry-run=client -o yaml -- run --fast", expect![[r#"
            apiVersion: apps/v1
            kind: Deployment
            metadata:
              labels:
                app: a
              name: a
            spec:
              replicas: 2
              selector:
                matchLabels:
                  app: a
              template:
                metadata:
                  labels:
                    app: a
                spec:
                  containers:
                  - command:
                    - run
                    - --fast
                    image: reg/img:1
                    name: img
                    ports:
                    - containerPort: 80
        "#]]).await;
        check(
            "create secret generic a --from-literal=b=c --dry-run=client -o yaml",
            expect![[r#"
                apiVersion: v1
                data:
                  b: Yw==
                kind: Secret
                metadata:
                  name: a
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_file_is_named_in_its_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(&file, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").unwrap();
        let query = "?fieldManager=wkctl-create&fieldValidation=Strict";
        let server = Server::new()
            .on(
                &format!("POST /api/v1/namespaces/default/configmaps{query}"),
                json!({"metadata": {"name": "a"}}),
            )
            .on_error(
                &format!("POST /apis/apps/v1/namespaces/default/deployments{query}"),
                409,
                "AlreadyExists",
                "deployments.apps \"a\" already exists",
            );
        let said = server.run(&format!("create -f {}", file.display())).await;
        let said = said.replace(&file.display().to_string(), "FILE");
        expect![[r#"
            > POST /apis/apps/v1/namespaces/default/deployments?fieldManager=wkctl-create&fieldValidation=Strict {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","namespace":"default"}}
            > POST /api/v1/namespaces/default/configmaps?fieldManager=wkctl-create&fieldValidation=Strict {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}
            configmap/a created
            ! Error from server (AlreadyExists): error when creating "FILE": deployments.apps "a" already exists
            exit 1
        "#]].assert_eq(&said);
    }

    #[tokio::test]
    async fn what_is_missing_or_wrong_is_said() {
        check(
            "create cm a --from-literal=b",
            expect![[r#"
            ! error: invalid literal source "b", expected key=value
            exit 1
        "#]],
        )
        .await;
        check(
            "create cm a --from-literal=b=1 --from-literal=b=2",
            expect![[r#"
                ! error: cannot add key "b", another key by that name already exists
                exit 1
            "#]],
        )
        .await;
        check(
            "create cm a --from-file=/nonexistent/file",
            expect![[r#"
            ! error: read /nonexistent/file: No such file or directory (os error 2)
            exit 1
        "#]],
        )
        .await;
    }
}
