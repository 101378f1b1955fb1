//! `wkctl run`: a pod of one container, made, attached to and removed as wanted.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::attach::{self, How};
use crate::{
    api::code,
    dry_run::DryRun,
    duration, encode,
    follow::follow,
    pods, query,
    session::{Exit, Session},
};

/// How long the container may take to start, if the user does not say.
const START: Duration = Duration::from_secs(60);

/// Run an image in a pod
#[derive(Args)]
pub(crate) struct Run {
    /// Name of the pod
    name: String,
    /// Image to run: a registry's name, or file:///path of a component
    #[arg(long)]
    image: String,
    /// Arguments of the container, after --; with --command its command
    #[arg(last = true, value_name = "ARGS")]
    words: Vec<String>,
    /// What comes after -- is the command
    #[arg(long)]
    command: bool,
    /// Keep the container's input open, and attach
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The container's streams are a terminal
    #[arg(short, long, requires = "stdin")]
    tty: bool,
    /// Attach to the container; so does -i
    #[arg(long)]
    attach: bool,
    /// Keep the container's input open after the first who attached has gone
    #[arg(long)]
    leave_stdin_open: bool,
    /// Remove the pod afterwards; for what is attached to
    #[arg(long)]
    rm: bool,
    /// Whether the container is started again
    #[arg(long, value_enum, ignore_case = true, default_value_t = Restart::Always)]
    restart: Restart,
    /// Environment variable, NAME=VALUE; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Make a Service of the port, too
    #[arg(long, requires = "port")]
    expose: bool,
    /// Labels of the pod: a=b,c=d
    #[arg(short, long)]
    labels: Option<String>,
    /// Annotation of the pod, NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    annotations: Vec<String>,
    /// When the image is fetched
    #[arg(long, value_name = "POLICY")]
    image_pull_policy: Option<String>,
    /// How long to wait until the container runs: 30s, 5m
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pod_running_timeout: Option<Duration>,
    /// Print the pod instead of a line about it
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Print only what the container prints
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Restart {
    #[value(name = "Always")]
    Always,
    #[value(name = "OnFailure")]
    OnFailure,
    #[value(name = "Never")]
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
    Name,
}

impl Run {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let attaches = self.attach || self.stdin;
        if self.rm && !attaches {
            bail!("--rm should only be used for attached containers");
        }
        if attaches && self.dry_run.any() {
            bail!("--dry-run=server or client cannot be used with attached containers");
        }
        let namespace = session.namespace().await?;
        let collection = format!("/api/v1/namespaces/{namespace}/pods");
        let pod = self.create(session, &collection, self.pod()?).await?;
        if self.expose {
            let services = format!("/api/v1/namespaces/{namespace}/services");
            self.create(session, &services, self.service()).await?;
        }
        if !attaches {
            return Ok(());
        }
        let ended = self.follow(session, &namespace, &collection, &pod).await;
        if self.rm {
            let pod = format!("{collection}/{}", self.name);
            self.remove(session, &pod, &format!("pod {:?}", self.name))
                .await?;
            if self.expose {
                let service = format!("/api/v1/namespaces/{namespace}/services/{}", self.name);
                self.remove(session, &service, &format!("service {:?}", self.name))
                    .await?;
            }
        }
        ended
    }

    /// Makes an object, and says so unless its output is to be somebody else's.
    async fn create(&self, session: &Session, collection: &str, object: Value) -> Result<Value> {
        let parameters = [
            ("fieldManager", "wkctl-run"),
            ("dryRun", self.dry_run.parameter()),
        ];
        let path = query::with(collection, &parameters);
        let created = match self.dry_run.client() {
            true => object,
            false => {
                session
                    .api()
                    .await?
                    .send(Method::POST, &path, &object)
                    .await?
            }
        };
        let kind = created["kind"].as_str().unwrap_or_default().to_lowercase();
        match self.output {
            Some(Output::Json) => session.text(&encode::json(&created)?)?,
            Some(Output::Yaml) => session.text(&encode::yaml(&created)?)?,
            Some(Output::Name) => session.line(format_args!("{kind}/{}", self.name))?,
            None if self.quiet || (self.rm && kind == "pod") => {}
            None => session.line(format_args!("{kind}/{} created{}", self.name, self.dry_run))?,
        }
        Ok(created)
    }

    async fn remove(&self, session: &Session, path: &str, what: &str) -> Result<()> {
        let removed = session
            .api()
            .await?
            .send(Method::DELETE, path, &json!({}))
            .await;
        match removed {
            Ok(_) if self.quiet => Ok(()),
            Ok(_) => session.line(format_args!("{what} deleted")),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Attaches once the container runs; its end is ours if it is not started again.
    async fn follow(
        &self,
        session: &Session,
        namespace: &str,
        collection: &str,
        pod: &Value,
    ) -> Result<()> {
        let container = &self.name;
        let patience = self.pod_running_timeout.unwrap_or(START);
        let started =
            wait_started(session, collection, pods::name(pod), container, patience).await?;
        let how = How {
            stdin: self.stdin,
            tty: self.tty,
            quiet: self.quiet,
        };
        attach_or_print(session, namespace, &started, container, how).await?;
        if self.restart == Restart::Always || self.leave_stdin_open {
            return Ok(());
        }
        let api = session.api().await?;
        let retries = self.restart == Restart::OnFailure;
        let end = follow(api, collection, &self.name, |pod| {
            let Some(pod) = pod else {
                bail!("pod {namespace}/{} was deleted", self.name);
            };
            let over = pods::has_ended(pod) && !(retries && pod["status"]["phase"] == "Failed");
            Ok(over.then(|| pod.clone()))
        });
        judge(namespace, &end.await?)
    }

    /// The pod.
    fn pod(&self) -> Result<Value> {
        let mut container = json!({"name": self.name, "image": self.image});
        if !self.words.is_empty() {
            let field = if self.command { "command" } else { "args" };
            container[field] = json!(self.words);
        }
        let env: Vec<Value> = pairs(&self.env, "environment variable")?
            .into_iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        if !env.is_empty() {
            container["env"] = env.into();
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = policy.as_str().into();
        }
        if self.stdin {
            container["stdin"] = true.into();
            container["stdinOnce"] = (!self.leave_stdin_open).into();
        }
        if self.tty {
            container["tty"] = true.into();
        }
        let mut metadata = json!({"name": self.name, "labels": self.labels()?});
        let annotations = pairs(&self.annotations, "annotation")?;
        if !annotations.is_empty() {
            metadata["annotations"] = json!(BTreeMap::from_iter(annotations));
        }
        let policy = match self.restart {
            Restart::Always => "Always",
            Restart::OnFailure => "OnFailure",
            Restart::Never => "Never",
        };
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container], "restartPolicy": policy},
        }))
    }

    fn labels(&self) -> Result<BTreeMap<&str, &str>> {
        let Some(labels) = &self.labels else {
            return Ok(BTreeMap::from([("run", self.name.as_str())]));
        };
        let parts = labels.split(',').filter(|part| !part.is_empty());
        parts.map(|part| pair(part, "label")).collect()
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {
                "ports": [{"port": self.port, "targetPort": self.port}],
                "selector": self.labels().unwrap_or_default(),
            },
        })
    }
}

fn pair<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str)> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| anyhow!("invalid {what} {text:?}, expected NAME=VALUE"))
}

fn pairs<'a>(texts: &'a [String], what: &str) -> Result<Vec<(&'a str, &'a str)>> {
    texts.iter().map(|text| pair(text, what)).collect()
}

/// The status of a container, in whichever list it is.
fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let all = lists.iter().flat_map(|list| pod["status"][list].as_array());
    let found = all.flatten().find(|status| status["name"] == container);
    found.unwrap_or(&Value::Null)
}

/// True if there is nothing to attach to any more.
fn has_ended(pod: &Value, container: &str) -> bool {
    pods::has_ended(pod) || status(pod, container)["state"]["terminated"].is_object()
}

/// Waits until a container runs, or has run; answers the pod.
pub(super) async fn wait_started(
    session: &Session,
    collection: &str,
    name: &str,
    container: &str,
    patience: Duration,
) -> Result<Value> {
    let api = session.api().await?;
    let mut last = String::new();
    let started = follow(api, collection, name, |pod| {
        let Some(pod) = pod else {
            bail!("pods {name:?} was deleted");
        };
        let status = status(pod, container);
        let waiting = &status["state"]["waiting"];
        last = ["reason", "message"]
            .iter()
            .filter_map(|field| waiting[*field].as_str())
            .collect::<Vec<_>>()
            .join(": ");
        let started = status["state"]["running"].is_object() || has_ended(pod, container);
        Ok(started.then(|| pod.clone()))
    });
    match tokio::time::timeout(patience, started).await {
        Ok(started) => started,
        Err(_) if last.is_empty() => bail!("timed out waiting for the condition"),
        Err(_) => bail!("timed out waiting for the condition: container {container} waits: {last}"),
    }
}

/// Attaches to a container that has started; of one that has ended meanwhile, prints what it said.
pub(super) async fn attach_or_print(
    session: &Session,
    namespace: &str,
    pod: &Value,
    container: &str,
    how: How,
) -> Result<()> {
    let ended = has_ended(pod, container);
    let attached = match ended {
        true => Err(anyhow!("it has ended")),
        false => attach::to(session, namespace, pod, container, how).await,
    };
    let Err(error) = attached else {
        return Ok(());
    };
    if !how.quiet && !ended {
        session.note(format_args!(
            "warning: couldn't attach to pod/{}, falling back to streaming logs: {error:#}",
            pods::name(pod)
        ));
    }
    let collection = format!("/api/v1/namespaces/{namespace}/pods");
    print_log(session, &collection, pods::name(pod), container).await
}

/// Prints what a container has printed, and goes on until its end.
async fn print_log(session: &Session, collection: &str, name: &str, container: &str) -> Result<()> {
    use futures::StreamExt as _;
    let path = query::with(
        &format!("{collection}/{name}/log"),
        &[("container", container), ("follow", "true")],
    );
    let mut lines = Box::pin(session.api().await?.lines(&path).await?);
    while let Some(line) = lines.next().await {
        let mut line = line?;
        line.push(b'\n');
        session.bytes(&line)?;
    }
    Ok(())
}

/// What the end of a pod of one container means for us.
fn judge(namespace: &str, pod: &Value) -> Result<()> {
    if pod["status"]["phase"] == "Succeeded" {
        return Ok(());
    }
    let name = pods::name(pod);
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let text = |field: &str| terminated[field].as_str().unwrap_or_default();
    let code = terminated["exitCode"].as_i64().filter(|code| *code != 0);
    let Some(code) = code else {
        bail!("pod {namespace}/{name} failed with unknown exit code");
    };
    let mut message = format!("pod {namespace}/{name} terminated ({})", text("reason"));
    if !text("message").is_empty() {
        message = format!("{message}\n{}", text("message"));
    }
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    Err(Exit { code, message }.into())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    const PODS: &str = "/api/v1/namespaces/default/pods";

    async fn check(line: &str, expected: Expect) {
        let ended = json!({
            "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "a"}]},
            "status": {"phase": "Failed", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
            ]},
        });
        let server = Server::new()
            .on(
                &format!("POST {PODS}?fieldManager=wkctl-run"),
                ended.clone(),
            )
            .on(&format!("GET {PODS}/a"), ended)
            .on_text(
                &format!("GET {PODS}/a/log?container=a&follow=true"),
                200,
                "hello\n",
            )
            .on(&format!("DELETE {PODS}/a"), json!({}));
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn a_pod_is_made_from_flags() {
        check(
            "run a --image=i --env=A=1 --port=80 --labels=x=y --restart=Never -- b c",
            expect![[r#"
                > POST /api/v1/namespaces/default/pods?fieldManager=wkctl-run {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"x":"y"},"name":"a"},"spec":{"containers":[{"args":["b","c"],"env":[{"name":"A","value":"1"}],"image":"i","name":"a","ports":[{"containerPort":80}]}],"restartPolicy":"Never"}}
                pod/a created
            "#]],
        )
        .await;
        check(
            "run a --image=i --dry-run=client --command -o yaml -- b",
            expect![[r#"
                apiVersion: v1
                kind: Pod
                metadata:
                  labels:
                    run: a
                  name: a
                spec:
                  containers:
                  - command:
                    - b
                    image: i
                    name: a
                  restartPolicy: Always
            "#]],
        )
        .await;
        check(
            "run a --image=i --rm",
            expect![[r#"
                ! error: --rm should only be used for attached containers
                exit 1
            "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn what_has_ended_already_is_told_by_its_log_and_its_exit_code_is_ours() {
        check(
            "run a --image=i -i --rm --restart=Never",
            expect![[r#"
                > POST /api/v1/namespaces/default/pods?fieldManager=wkctl-run {"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"run":"a"},"name":"a"},"spec":{"containers":[{"image":"i","name":"a","stdin":true,"stdinOnce":true}],"restartPolicy":"Never"}}
                > DELETE /api/v1/namespaces/default/pods/a {}
                hello
                pod "a" deleted
                ! pod default/a terminated (Error)
                exit 3
            "#]],
        )
        .await;
    }
}
