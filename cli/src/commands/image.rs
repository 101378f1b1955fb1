//! `wkctl image`: the images of one node, through the apiserver's `nodes/proxy`; and pushes to the cluster's registry.

mod archives;
mod ls;
mod push;

pub(super) use ls::size;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use futures::StreamExt as _;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{self, JSON},
    query,
    session::{Failures, Session},
};

/// Between two lines on a pull that lasts.
const TELLING: std::time::Duration = std::time::Duration::from_secs(10);

/// Show, pull, remove, import and export a node's images; push to the cluster's registry
#[derive(Args)]
pub(crate) struct Image {
    /// Node to work on; by default the only one, or this machine's
    #[arg(long, global = true)]
    node: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Push(push::Push),
    #[command(flatten)]
    OnNode(OnNode),
}

/// What is done on a node.
#[derive(Subcommand)]
enum OnNode {
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    Pull(Pull),
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Import(archives::Import),
    Export(archives::Export),
}

impl Image {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let command = match self.command {
            Command::Push(command) => return command.run(session).await,
            Command::OnNode(command) => command,
        };
        let node = node(session, self.node).await?;
        let path = |rest: &str| format!("/api/v1/nodes/{node}/proxy/images{rest}");
        match command {
            OnNode::Ls(command) => command.run(session, &path("")).await,
            OnNode::Pull(command) => command.run(session, &path("/pull")).await,
            OnNode::Rm(command) => command.run(session, &path("")).await,
            OnNode::Import(command) => command.run(session, &path("/import")).await,
            OnNode::Export(command) => command.run(session, &path("/export")).await,
        }
    }
}

/// The node that is meant.
async fn node(session: &Session, named: Option<String>) -> Result<String> {
    if let Some(name) = named {
        return Ok(name);
    }
    let list = session.api().await?.get("/api/v1/nodes").await?;
    let nodes = list["items"].as_array().map(Vec::as_slice);
    let nodes = nodes.unwrap_or_default();
    let name = |node: &Value| text(&node["metadata"]["name"]);
    if let [node] = nodes {
        return Ok(name(node));
    }
    let own = nix::unistd::gethostname().ok();
    let own = own
        .and_then(|name| name.into_string().ok())
        .map(Value::from);
    let host =
        |node: &&Value| Some(&node["metadata"]["labels"]["kubernetes.io/hostname"]) == own.as_ref();
    if let Some(node) = nodes.iter().find(host) {
        return Ok(name(node));
    }
    let names: Vec<String> = nodes.iter().map(name).collect();
    match names.is_empty() {
        true => bail!("the cluster has no nodes"),
        false => bail!(
            "the cluster has several nodes; choose one with --node: {}",
            names.join(", ")
        ),
    }
}

/// Pull an image from its registry, whether it is there already or not
#[derive(Args)]
struct Pull {
    image: String,
    /// Account of the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
}

impl Pull {
    async fn run(self, session: &Session, path: &str) -> Result<()> {
        let mut asked = json!({"image": self.image});
        if let Some(account) = &self.creds {
            let account = account.split_once(':');
            let (username, password) = account.context("--creds must be USER:PASSWORD")?;
            asked["username"] = username.into();
            asked["password"] = password.into();
        }
        let body = Some((JSON, &asked));
        let response = session.api().await?.open(Method::POST, path, JSON, body);
        let mut lines = std::pin::pin!(api::lines(response.await?.into_body()));
        let mut told = Instant::now();
        while let Some(line) = lines.next().await {
            let said: Value = serde_json::from_slice(&line?).context("read the node's answer")?;
            if let Some(error) = said["error"].as_str() {
                bail!("{error}");
            }
            if said["image"].is_object() {
                let name = text(&said["image"]["name"]);
                return session.line(format_args!("Image is up to date for {name}"));
            }
            let progress = &said["progress"];
            let (received, total) = (
                progress["receivedBytes"].as_u64().unwrap_or(0),
                progress["totalBytes"].as_u64().unwrap_or(0),
            );
            if told.elapsed() >= TELLING && total > 0 {
                told = Instant::now();
                session.note(format_args!(
                    "{} of {}",
                    ls::size(received),
                    ls::size(total)
                ));
            }
        }
        bail!("the node's answer broke off")
    }
}

/// Remove images by name, or by the beginning of their ID
#[derive(Args)]
struct Rm {
    #[arg(required = true)]
    images: Vec<String>,
    /// Even if a pod uses it
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    async fn run(self, session: &Session, path: &str) -> Result<()> {
        let api = session.api().await?;
        let mut failures = Failures::default();
        for image in &self.images {
            let force = if self.force { "true" } else { "" };
            let path = query::with(path, &[("image", image), ("force", force)]);
            match api.send(Method::DELETE, &path, &Value::Null).await {
                Ok(answer) => {
                    for name in answer["removed"].as_array().into_iter().flatten() {
                        session.line(format_args!("Deleted: {}", text(name)))?;
                    }
                }
                Err(error) => failures.push(error)?,
            }
        }
        failures.finish()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::session::fake::Server;

    const IMAGES: &str = "/api/v1/nodes/n1/proxy/images";

    async fn check(line: &str, expected: Expect) {
        let image = |name: &str, digit: &str, kind: &str, size: u64| json!({"name": name, "id": format!("sha256:{}", &digit.repeat(64)[..64]), "kind": kind, "sizeBytes": size});
        let busybox = image("docker.io/library/busybox:1.36", "ab", "oci", 2_156_789);
        let images = json!({"images": [
            busybox,
            image("127.0.0.1:5000/hello@sha256:1234", "1", "wasm", 900),
            image("file:///home/me/hello.wasm", "2", "wasm", 123_456),
        ]});
        let pulled = format!(
            "{}\n{}\n",
            json!({"progress": {"receivedBytes": 1, "totalBytes": 2}}),
            json!({"image": busybox})
        );
        let server = Server::new()
            .on("GET /api/v1/nodes", json!({"items": [{"metadata": {"name": "n1"}}]}))
            .on(&format!("GET {IMAGES}"), images)
            .on_text(&format!("POST {IMAGES}/pull"), 200, &pulled)
            .on(
                &format!("DELETE {IMAGES}?image=busybox%3A1.36"),
                json!({"removed": ["docker.io/library/busybox:1.36"], "freedBytes": 3}),
            )
            .on_error(
                &format!("DELETE {IMAGES}?image=web"),
                409,
                "Conflict",
                "image \"web\" is in use by pod default/web: delete the pod first, or force the removal",
            )
            .on(
                &format!("DELETE {IMAGES}?image=web&force=true"),
                json!({"removed": ["docker.io/library/web:latest"], "freedBytes": 3}),
            )
            .on(
                &format!("POST {IMAGES}/import"),
                json!({"images": [busybox]}),
            )
            .on_text(&format!("GET {IMAGES}/export?image=a&image=b"), 200, "an archive");
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn images_are_shown_as_crictl_shows_them() {
        check(
            "image ls",
            expect![[r#"
            IMAGE                        TAG      IMAGE ID        SIZE
            docker.io/library/busybox    1.36     ababababababa   2.16MB
            127.0.0.1:5000/hello         <none>   1111111111111   900B
            file:///home/me/hello.wasm   <none>   2222222222222   123kB
        "#]],
        )
        .await;
        check(
            "image ls --no-trunc -q",
            expect![[r#"
            sha256:abababababababababababababababababababababababababababababababab
            sha256:1111111111111111111111111111111111111111111111111111111111111111
            sha256:2222222222222222222222222222222222222222222222222222222222222222
        "#]],
        )
        .await;
        check(
            "image ls busybox",
            expect![[r#"
            IMAGE                       TAG    IMAGE ID        SIZE
            docker.io/library/busybox   1.36   ababababababa   2.16MB
        "#]],
        )
        .await;
        check(
            "image ls -o json busybox:1.36",
            expect![[r#"
            {
              "images": [
                {
                  "id": "sha256:abababababababababababababababababababababababababababababababab",
                  "kind": "oci",
                  "name": "docker.io/library/busybox:1.36",
                  "sizeBytes": 2156789
                }
              ]
            }
        "#]],
        )
        .await;
        check(
            "image ls --node n2",
            expect![[r#"
            ! Error from server (NotFound): nothing at GET /api/v1/nodes/n2/proxy/images
            exit 1
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn images_are_pulled_and_removed() {
        check("image pull busybox:1.36 --creds ann:se:cret", expect![[r#"
            > POST /api/v1/nodes/n1/proxy/images/pull {"image":"busybox:1.36","password":"se:cret","username":"ann"}
            Image is up to date for docker.io/library/busybox:1.36
        "#]]).await;
        check(
            "image pull busybox:1.36 --creds ann",
            expect![[r#"
            ! error: --creds must be USER:PASSWORD
            exit 1
        "#]],
        )
        .await;
        check("image rm web busybox:1.36", expect![[r#"
            > DELETE /api/v1/nodes/n1/proxy/images?image=web null
            > DELETE /api/v1/nodes/n1/proxy/images?image=busybox%3A1.36 null
            Deleted: docker.io/library/busybox:1.36
            ! Error from server (Conflict): image "web" is in use by pod default/web: delete the pod first, or force the removal
            exit 1
        "#]]).await;
        check(
            "image rm -f web",
            expect![[r#"
            > DELETE /api/v1/nodes/n1/proxy/images?image=web&force=true null
            Deleted: docker.io/library/web:latest
        "#]],
        )
        .await;
    }

    #[tokio::test]
    async fn archives_go_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar");
        std::fs::write(&archive, "an archive").unwrap();
        let shown = archive.display();
        check(
            &format!("image import {shown}"),
            expect![[r#"
            > POST /api/v1/nodes/n1/proxy/images/import an archive
            Imported: docker.io/library/busybox:1.36
        "#]],
        )
        .await;
        check("image export a b -o -", expect!["an archive"]).await;
        check(&format!("image export a b -o {shown}.out"), expect![[""]]).await;
        let written = std::fs::read_to_string(dir.path().join("a.tar.out"));
        assert_eq!(written.unwrap(), "an archive");
        check(
            "image import /nonexistent.tar",
            expect![[r#"
            ! error: open /nonexistent.tar: No such file or directory (os error 2)
            exit 1
        "#]],
        )
        .await;
    }
}
