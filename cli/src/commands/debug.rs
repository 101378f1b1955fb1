//! `wkctl debug`: an ephemeral container in a pod that runs, or a changed copy of a pod.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use http::Method;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{
    attach::How,
    run::{attach_or_print, wait_started},
};
use crate::{pods, query, session::Session};

/// How long the debug container may take to start.
const START: Duration = Duration::from_secs(5 * 60);
/// As Kubernetes makes names: no vowels, nothing that is mistaken for something else.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Look into a pod with another container, or into a copy of it
#[derive(Args)]
pub(crate) struct Debug {
    /// POD, or TYPE/NAME such as deployment/hello
    #[arg(value_name = "POD")]
    target: String,
    /// Image of the debug container
    #[arg(long)]
    image: Option<String>,
    /// Command of the debug container, after --
    #[arg(last = true, value_name = "COMMAND")]
    words: Vec<String>,
    /// What comes after -- are arguments of the image's command
    #[arg(long)]
    arguments_only: bool,
    /// Name of the debug container
    #[arg(short, long)]
    container: Option<String>,
    /// Container whose processes the debug container sees
    #[arg(long = "target", value_name = "CONTAINER", conflicts_with = "copy_to")]
    target_container: Option<String>,
    /// Environment variable, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// When the image is fetched
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// Keep the container's input open, and attach
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The container's streams are a terminal
    #[arg(short, long, requires = "stdin")]
    tty: bool,
    /// Attach to the container; so does -i
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    attach: Option<bool>,
    /// Make a copy of the pod of this name, and leave the pod as it is
    #[arg(long, value_name = "NAME")]
    copy_to: Option<String>,
    /// Remove the pod that was copied
    #[arg(long, requires = "copy_to")]
    replace: bool,
    /// Put the copy on the same node
    #[arg(long, requires = "copy_to")]
    same_node: bool,
    /// Let the copy's containers see each other's processes
    #[arg(long, requires = "copy_to")]
    share_processes: bool,
    /// Other images for containers of the copy: NAME=IMAGE,*=IMAGE
    #[arg(
        long,
        requires = "copy_to",
        value_delimiter = ',',
        value_name = "NAME=IMAGE"
    )]
    set_image: Vec<String>,
    /// Keep the labels of the pod that is copied
    #[arg(long, requires = "copy_to")]
    keep_labels: bool,
    /// Print only what the container prints
    #[arg(short, long)]
    quiet: bool,
}

impl Debug {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let kind = self.target.split_once('/').map_or("", |(kind, _)| kind);
        if matches!(kind.to_lowercase().as_str(), "node" | "nodes" | "no") {
            bail!(
                "nodes cannot be debugged: a container sees nothing of its node here; use `wkctl describe {}` and the node's own shell",
                self.target
            );
        }
        let namespace = session.namespace().await?;
        let pod = pods::first(session, &namespace, &self.target, "debug").await?;
        let collection = format!("/api/v1/namespaces/{namespace}/pods");
        let (pod, container) = match &self.copy_to {
            Some(copy) => self.copy(session, &collection, &pod, copy).await?,
            None => self.join(session, &collection, &pod).await?,
        };
        if !self.attach.unwrap_or(self.stdin) {
            return Ok(());
        }
        let name = pods::name(&pod);
        let started = wait_started(session, &collection, name, &container, START).await?;
        let how = How {
            stdin: self.stdin,
            tty: self.tty,
            quiet: self.quiet,
        };
        attach_or_print(session, &namespace, &started, &container, how).await
    }

    /// Adds an ephemeral container to a pod.
    async fn join(
        &self,
        session: &Session,
        collection: &str,
        pod: &Value,
    ) -> Result<(Value, String)> {
        let Some(image) = &self.image else {
            bail!("you must specify --image when creating a container in a pod that runs");
        };
        let name = self.container_name(session);
        let mut container = self.described(json!({"name": name, "image": image}))?;
        container["terminationMessagePolicy"] = "File".into();
        if let Some(target) = &self.target_container {
            if !self.quiet {
                session.note(format_args!(
                    "Targeting container {target:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature."
                ));
            }
            container["targetContainerName"] = target.as_str().into();
        }
        let path = format!("{collection}/{}/ephemeralcontainers", pods::name(pod));
        let path = query::with(&path, &[("fieldManager", "wkctl-debug")]);
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let api = session.api().await?;
        let media = "application/strategic-merge-patch+json";
        Ok((api.patch(&path, media, &patch).await?, name))
    }

    /// Makes a copy of a pod with what is to be different.
    async fn copy(
        &self,
        session: &Session,
        collection: &str,
        pod: &Value,
        name: &str,
    ) -> Result<(Value, String)> {
        let (copy, container) = self.copied(session, pod, name)?;
        let api = session.api().await?;
        if self.replace {
            let old = format!("{collection}/{}", pods::name(pod));
            api.send(Method::DELETE, &old, &json!({})).await?;
        }
        let path = query::with(collection, &[("fieldManager", "wkctl-debug")]);
        let made = api.send(Method::POST, &path, &copy).await?;
        Ok((made, container))
    }

    /// The copy, and the container that is looked at.
    fn copied(&self, session: &Session, pod: &Value, name: &str) -> Result<(Value, String)> {
        let mut spec = pod["spec"].clone();
        let fields = spec
            .as_object_mut()
            .ok_or_else(|| anyhow!("pod {} has no spec", pods::name(pod)))?;
        fields.remove("ephemeralContainers");
        if !self.same_node {
            fields.remove("nodeName");
        }
        if self.share_processes {
            fields.insert("shareProcessNamespace".to_owned(), true.into());
        }
        let Some(containers) = spec["containers"].as_array_mut() else {
            bail!("pod {} has no containers", pods::name(pod));
        };
        for setting in &self.set_image {
            let (wanted, image) = setting
                .split_once('=')
                .filter(|(wanted, image)| !wanted.is_empty() && !image.is_empty())
                .ok_or_else(|| anyhow!("invalid --set-image {setting:?}, expected NAME=IMAGE"))?;
            let mut set = false;
            for container in containers.iter_mut() {
                if wanted == "*" || container["name"] == wanted {
                    container["image"] = image.into();
                    set = true;
                }
            }
            if !set {
                bail!("container {wanted:?} not found in pod {}", pods::name(pod));
            }
        }
        // What is looked at should not be restarted for what is found.
        for container in containers.iter_mut() {
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                if let Some(container) = container.as_object_mut() {
                    container.remove(probe);
                }
            }
        }
        let known = self.container.as_deref().and_then(|wanted| {
            containers
                .iter()
                .position(|container| container["name"] == wanted)
        });
        let container = match known {
            Some(index) => {
                let mut container = self.described(containers[index].take())?;
                if let Some(image) = &self.image {
                    container["image"] = image.as_str().into();
                }
                containers[index] = container;
                self.container.clone().unwrap_or_default()
            }
            None => match &self.image {
                Some(image) => {
                    let name = self.container_name(session);
                    containers.push(self.described(json!({"name": name, "image": image}))?);
                    name
                }
                None if self.container.is_some() || !self.words.is_empty() => {
                    bail!(
                        "you must specify an existing container or a new image when specifying args."
                    );
                }
                None => pods::container(session, pod, None, self.quiet)?,
            },
        };
        let mut metadata = json!({"name": name, "annotations": pod["metadata"]["annotations"]});
        if self.keep_labels {
            metadata["labels"] = pod["metadata"]["labels"].clone();
        }
        let copy = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        Ok((copy, container))
    }

    /// A container with what the flags say of it.
    fn described(&self, mut container: Value) -> Result<Value> {
        if !self.words.is_empty() {
            let field = if self.arguments_only {
                "args"
            } else {
                "command"
            };
            container[field] = json!(self.words);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.as_str().into();
        }
        for text in &self.env {
            let Some((name, value)) = text.split_once('=') else {
                bail!("invalid environment variable {text:?}, expected NAME=VALUE");
            };
            let variable = json!({"name": name, "value": value});
            match container["env"].as_array_mut() {
                Some(env) => env.push(variable),
                None => container["env"] = json!([variable]),
            }
        }
        if self.stdin {
            container["stdin"] = true.into();
        }
        if self.tty {
            container["tty"] = true.into();
        }
        Ok(container)
    }

    fn container_name(&self, session: &Session) -> String {
        if let Some(name) = &self.container {
            return name.clone();
        }
        let mut random = rand::rng();
        let mut letter = || char::from(LETTERS[random.random_range(0..LETTERS.len())]);
        let name: String = "debugger-"
            .chars()
            .chain((0..5).map(|_| letter()))
            .collect();
        if !self.quiet {
            session.note(format_args!("Defaulting debug container name to {name}."));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    async fn check(line: &str, expected: Expect) {
        let pods = "/api/v1/namespaces/default/pods";
        let pod = json!({
            "metadata": {"name": "web", "labels": {"app": "web"}, "uid": "u"},
            "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "i", "livenessProbe": {}}]},
        });
        let server = Server::new()
            .on(&format!("GET {pods}/web"), pod)
            .on(
                &format!("PATCH {pods}/web/ephemeralcontainers?fieldManager=wkctl-debug"),
                json!({"metadata": {"name": "web"}}),
            )
            .on(
                &format!("POST {pods}?fieldManager=wkctl-debug"),
                json!({"metadata": {"name": "copy"}}),
            );
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn a_container_joins_a_pod() {
        check(
            "debug web --image=tools -c d --target=a -- ls",
            expect![[r#"
                > PATCH /api/v1/namespaces/default/pods/web/ephemeralcontainers?fieldManager=wkctl-debug {"spec":{"ephemeralContainers":[{"command":["ls"],"image":"tools","name":"d","targetContainerName":"a","terminationMessagePolicy":"File"}]}}
                ! Targeting container "a". If you don't see processes from this container it may be because the container runtime doesn't support this feature.
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_copy_is_changed_and_the_pod_is_not() {
        check(
            "debug web --copy-to=copy --set-image=a=other -c a --env=X=1",
            expect![[r#"
                > POST /api/v1/namespaces/default/pods?fieldManager=wkctl-debug {"apiVersion":"v1","kind":"Pod","metadata":{"annotations":null,"name":"copy"},"spec":{"containers":[{"env":[{"name":"X","value":"1"}],"image":"other","name":"a"}]}}
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn what_cannot_be_debugged_is_said() {
        check(
            "debug node/n --image=i",
            expect![[r#"
                ! error: nodes cannot be debugged: a container sees nothing of its node here; use `wkctl describe node/n` and the node's own shell
                exit 1
            "#]],
        )
        .await;
        check(
            "debug web",
            expect![[r#"
                ! error: you must specify --image when creating a container in a pod that runs
                exit 1
            "#]],
        )
        .await;
    }
}
