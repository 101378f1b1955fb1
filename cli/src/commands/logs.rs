//! `wkctl logs`: what containers printed, and go on printing.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    api::Api,
    duration, pods, query,
    session::{OutputClosed, Session},
};

/// Lines of each container when pods are chosen by label and the user does not say.
const TAIL_OF_MANY: i64 = 10;

/// A log that is not followed is printed in pieces of this many bytes.
const CHUNK: usize = 64 << 10;

/// Print what the containers of a pod print
#[derive(Args)]
pub(crate) struct Logs {
    /// POD, or TYPE/NAME such as deployment/hello
    #[arg(value_name = "POD", required_unless_present = "selector")]
    target: Option<String>,
    /// Container of the pod
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    positional_container: Option<String>,
    /// Container of the pod; by default the first
    #[arg(short, long)]
    container: Option<String>,
    /// All containers of the pod
    #[arg(long, conflicts_with_all = ["container", "positional_container"])]
    all_containers: bool,
    /// All pods with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "target")]
    selector: Option<String>,
    /// Go on printing
    #[arg(short, long)]
    follow: bool,
    /// What the container before the last restart printed
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines; -1 for all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only what is younger: 30s, 5m, 2h
    #[arg(long, value_parser = duration::parse, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only what was printed after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// At most this many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Begin each line with the time it was printed
    #[arg(long)]
    timestamps: bool,
    /// Begin each line with the pod and container
    #[arg(long)]
    prefix: bool,
    /// All pods of the workload
    #[arg(long)]
    all_pods: bool,
    /// A log that cannot be read, or breaks off, does not keep others from being printed
    #[arg(long)]
    ignore_errors: bool,
    /// Take logs from nodes whose certificate is not checked; there are none
    #[arg(long)]
    insecure_skip_tls_verify_backend: bool,
    /// How many containers may be followed at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_log_requests: usize,
}

/// One container's log.
struct Source {
    pod: String,
    container: String,
    path: String,
}

impl Logs {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let namespace = session.namespace().await?;
        let mut sources = Vec::new();
        for pod in self.pods(session, &namespace).await? {
            let name = pods::name(&pod).to_owned();
            for container in self.containers(session, &pod)? {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log");
                sources.push(Source {
                    path: self.path(&path, &container),
                    pod: name.clone(),
                    container,
                });
            }
        }
        if self.follow && sources.len() > self.max_log_requests {
            bail!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                sources.len(),
                self.max_log_requests
            );
        }
        if !self.follow {
            for source in &sources {
                self.forgive(session, self.print(session, api, source).await)?;
            }
            return Ok(());
        }
        let mut streams = Vec::new();
        for source in &sources {
            match api.lines(&source.path).await {
                Ok(lines) => streams.push(Box::pin(lines.map(move |line| (source, line)))),
                Err(error) => self.forgive(session, Err(error))?,
            }
        }
        let mut lines = stream::select_all(streams);
        while let Some((source, line)) = lines.next().await {
            match line {
                Ok(line) => {
                    let mut text = Vec::new();
                    self.render(source, &line, &mut text);
                    session.bytes(&text)?;
                }
                Err(error) => self.forgive(session, Err(error))?,
            }
        }
        Ok(())
    }

    /// Prints what there is of one log.
    async fn print(&self, session: &Session, api: &Api, source: &Source) -> Result<()> {
        let mut lines = Box::pin(api.lines(&source.path).await?);
        let mut text = Vec::new();
        while let Some(line) = lines.next().await {
            let Ok(line) = &line else {
                session.bytes(&text)?;
                return line.map(drop);
            };
            self.render(source, line, &mut text);
            if text.len() >= CHUNK {
                session.bytes(&text)?;
                text.clear();
            }
        }
        session.bytes(&text)
    }

    /// With --ignore-errors, one log's failure is only told.
    fn forgive(&self, session: &Session, result: Result<()>) -> Result<()> {
        match result {
            Err(error) if self.ignore_errors && !error.is::<OutputClosed>() => {
                session.note(format_args!("error: {error:#}"));
                Ok(())
            }
            result => result,
        }
    }

    fn render(&self, source: &Source, line: &[u8], into: &mut Vec<u8>) {
        if self.prefix || self.all_pods {
            into.extend_from_slice(
                format!("[pod/{}/{}] ", source.pod, source.container).as_bytes(),
            );
        }
        into.extend_from_slice(line);
        into.push(b'\n');
    }

    /// The pods that are meant.
    async fn pods(&self, session: &Session, namespace: &str) -> Result<Vec<Value>> {
        if let Some(selector) = &self.selector {
            let pods = pods::list(session, namespace, selector).await?;
            if pods.is_empty() {
                session.note(format_args!("No resources found in {namespace} namespace."));
            }
            return Ok(pods);
        }
        let target = self.target.as_deref().unwrap_or_default();
        let mut pods = pods::find(session, namespace, target, "log").await?;
        if pods.len() > 1 && !self.all_pods {
            session.note(format_args!(
                "Found {} pods, using pod/{}",
                pods.len(),
                pods::name(&pods[0])
            ));
            pods.truncate(1);
        }
        Ok(pods)
    }

    /// The containers of a pod that are meant.
    fn containers(&self, session: &Session, pod: &Value) -> Result<Vec<String>> {
        if self.all_containers {
            let lists = ["initContainers", "containers", "ephemeralContainers"];
            return Ok(lists
                .into_iter()
                .flat_map(|list| pods::containers(pod, list))
                .collect());
        }
        let wanted = self
            .container
            .as_deref()
            .or(self.positional_container.as_deref());
        Ok(vec![pods::container(session, pod, wanted, false)?])
    }

    fn path(&self, path: &str, container: &str) -> String {
        let flag = |on: bool| if on { "true" } else { "" };
        let many = self.selector.as_ref().map(|_| TAIL_OF_MANY);
        let tail = self
            .tail
            .or(many)
            .filter(|lines| *lines >= 0)
            .map(|lines| lines.to_string());
        // A part of a second counts as a whole one: the API knows seconds.
        let since = self
            .since
            .map(|since| (since.as_millis().div_ceil(1000)).max(1).to_string());
        let limit = self.limit_bytes.map(|bytes| bytes.to_string());
        query::with(
            path,
            &[
                ("container", container),
                ("follow", flag(self.follow)),
                ("previous", flag(self.previous)),
                ("timestamps", flag(self.timestamps)),
                ("tailLines", tail.as_deref().unwrap_or_default()),
                ("sinceSeconds", since.as_deref().unwrap_or_default()),
                ("sinceTime", self.since_time.as_deref().unwrap_or_default()),
                ("limitBytes", limit.as_deref().unwrap_or_default()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::session::fake::Server;

    fn server() -> Server {
        let pods = "/api/v1/namespaces/default/pods";
        let pod = |name: &str, containers: Value| json!({"metadata": {"name": name}, "spec": {"containers": containers}});
        let two =
            json!({"items": [pod("a", json!([{"name": "x"}])), pod("b", json!([{"name": "x"}]))]});
        Server::new()
            .on(&format!("GET {pods}/a"), pod("a", json!([{"name": "x"}])))
            .on(
                &format!("GET {pods}/two"),
                pod("two", json!([{"name": "x"}, {"name": "y"}])),
            )
            .on(&format!("GET {pods}?labelSelector=app%3Dhello"), two)
            .on(
                "GET /apis/apps/v1/namespaces/default/deployments/hello",
                json!({"spec": {"selector": {"matchLabels": {"app": "hello"}}}}),
            )
            .on_text(&format!("GET {pods}/a/log?container=x"), 200, "one\ntwo")
            .on_text(
                &format!("GET {pods}/a/log?container=x&follow=true"),
                200,
                "one\n",
            )
            .on_text(
                &format!(
                    "GET {pods}/a/log?container=x&timestamps=true&tailLines=3&sinceSeconds=300"
                ),
                200,
                "some\n",
            )
            .on_text(
                &format!("GET {pods}/a/log?container=x&tailLines=10"),
                200,
                "of a\n",
            )
            .on_text(
                &format!("GET {pods}/b/log?container=x&tailLines=10"),
                200,
                "of b\n",
            )
            .on_text(&format!("GET {pods}/two/log?container=x"), 200, "of x\n")
            .on_text(&format!("GET {pods}/two/log?container=y"), 200, "of y\n")
            .on_error(
                &format!("GET {pods}/a/log?container=x&previous=true"),
                400,
                "BadRequest",
                "previous terminated container \"x\" in pod \"a\" not found",
            )
    }

    async fn check(line: &str, expected: Expect) {
        expected.assert_eq(&server().run(line).await);
    }

    #[tokio::test]
    async fn the_log_of_a_pod_is_printed() {
        check(
            "logs a",
            expect![[r#"
            one
            two
        "#]],
        )
        .await;
        check(
            "logs -f a --prefix",
            expect![[r#"
            [pod/a/x] one
        "#]],
        )
        .await;
        check(
            "logs a --tail=3 --since=5m --timestamps",
            expect![[r#"
            some
        "#]],
        )
        .await;
        check(
            "logs a -p",
            expect![[r#"
            ! Error from server (BadRequest): previous terminated container "x" in pod "a" not found
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn the_container_may_be_left_out() {
        check(
            "logs two",
            expect![[r#"
            of x
            ! Defaulted container "x" out of: x, y
        "#]],
        )
        .await;
        check(
            "logs two y",
            expect![[r#"
            of y
        "#]],
        )
        .await;
        check(
            "logs two -c z",
            expect![[r#"
            ! error: container z is not valid for pod two
            exit 1
        "#]],
        )
        .await;
        check(
            "logs two --all-containers --prefix",
            expect![[r#"
            [pod/two/x] of x
            [pod/two/y] of y
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn pods_are_found_by_label_or_workload() {
        check(
            "logs -l app=hello",
            expect![[r#"
            of a
            of b
        "#]],
        )
        .await;
        check(
            "logs deploy/hello",
            expect![[r#"
            one
            two
            ! Found 2 pods, using pod/a
        "#]],
        )
        .await;
        check("logs -l app=hello -f --max-log-requests=1", expect![[r#"
            ! error: you are attempting to follow 2 log streams, but maximum allowed concurrency is 1, use --max-log-requests to increase the limit
            exit 1
        "#]]).await;
    }
}
