//! `/images`, `/images/pull`, `/images/import` and `/images/export`: the node's images, for `wkctl image`.
//!
//! - `GET /images`: what is here, and which pods use it.
//! - `DELETE /images?image=…&force=true`: forgets an image, by name or by the beginning of its ID.
//! - `POST /images/pull` `{"image": …, "username": …, "password": …}`: lines of JSON while it lasts: `progress`, at
//!   last `image` or `error`.
//! - `POST /images/import?name=…`: the body is an archive; `GET /images/export?image=…`: so is the answer.
//!
//! The kubelet has nothing of the kind. Who may is asked as for everything of the nodelet: `nodes/proxy`.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::JsonRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use k8s_openapi::api::core::v1::Pod;
use runtimes::{ArchiveError, Credentials, Image, ImageError, ImageKind, Progress, PullPolicy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::{Shared, pipe, refusal::Refusal};

/// Between two words on a pull.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a pull may take, others' turns included.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);

/// An ID is told by so many of its digits at least.
const LEAST_DIGITS: usize = 3;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/images", get(list).delete(remove))
        .route("/images/pull", post(pull))
        .route("/images/import", post(import))
        .route("/images/export", get(export))
}

/// An image as it is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    name: String,
    /// `sha256:…` of its manifest; of a module, of its bytes.
    id: String,
    kind: &'static str,
    size_bytes: u64,
    /// `namespace/name` of the pods whose containers are made of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    used_by: Vec<String>,
}

impl Told {
    fn new(image: Image, used_by: Vec<String>) -> Told {
        Told {
            name: image.reference,
            id: image.digest,
            kind: match image.kind {
                ImageKind::Wasm => "wasm",
                ImageKind::Oci => "oci",
            },
            size_bytes: image.size_bytes,
            used_by,
        }
    }
}

async fn list(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let images = shared.context.images.list().await.map_err(failed)?;
    let users = Users::of(&shared).await;
    let told = images.into_iter().map(|image| {
        let used_by = users.of_image(&image);
        Told::new(image, used_by)
    });
    Ok(Json(json!({"images": told.collect::<Vec<_>>()})).into_response())
}

/// The pods that have not ended, and the digests of their images.
struct Users(Vec<(String, Vec<String>)>);

impl Users {
    async fn of(shared: &Shared) -> Users {
        let mut users = Vec::new();
        for pod in shared.pods.list() {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            if matches!(phase, Some("Succeeded" | "Failed")) {
                continue;
            }
            let mut digests = Vec::new();
            for reference in references(&pod) {
                let image = shared.context.images.find(reference).await;
                digests.extend(image.map(|image| image.digest));
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            users.push((format!("{namespace}/{name}"), digests));
        }
        users.sort();
        Users(users)
    }

    fn of_image(&self, image: &Image) -> Vec<String> {
        let users = self.0.iter();
        let users = users.filter(|(_, digests)| digests.contains(&image.digest));
        users.map(|(pod, _)| pod.clone()).collect()
    }
}

fn references(pod: &Pod) -> Vec<&str> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        let images = containers.map(|container| container.image.as_deref());
        images.chain(ephemeral.map(|container| container.image.as_deref()))
    })
    .flatten()
    .collect()
}

async fn remove(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let query = Asked::of(query, &["image", "force"])?;
    let asked = query.one("image")?;
    let force = matches!(query.find("force"), Some("true" | "1"));
    let images = named(&shared, asked).await?;
    if !force {
        let users = Users::of(&shared).await;
        for image in &images {
            if let Some(pod) = users.of_image(image).first() {
                let message = format!(
                    "image {asked:?} is in use by pod {pod}: delete the pod first, or force the removal"
                );
                return Err(Refusal::new(StatusCode::CONFLICT, message));
            }
        }
    }
    let mut freed = 0;
    for image in &images {
        let removed = shared.context.images.remove(&image.reference).await;
        freed += removed.map_err(failed)?;
    }
    let left = shared.context.images.list().await.map_err(failed)?;
    for runtime in &shared.context.runtimes {
        match runtime.keep_only(&left).await {
            Ok(bytes) => freed += bytes,
            // The image is gone all the same; what was made of it goes with the next.
            Err(error) => tracing::warn!(%error, "remove what was made of an image"),
        }
    }
    let removed: Vec<String> = images.into_iter().map(|image| image.reference).collect();
    tracing::info!(
        ?removed,
        freed,
        "removed an image that was not wanted any more"
    );
    Ok(Json(json!({"removed": removed, "freedBytes": freed})).into_response())
}

/// The images of a name, or all names of the one image of an ID.
async fn named(shared: &Shared, asked: &str) -> Result<Vec<Image>, Refusal> {
    let all = shared.context.images.list().await.map_err(failed)?;
    if let Some(found) = shared.context.images.find(asked).await {
        let name = runtimes::images::normal_name(asked);
        let own = |image: &Image| runtimes::images::normal_name(&image.reference) == name;
        let (own, others): (Vec<Image>, Vec<Image>) = all
            .into_iter()
            .filter(|image| image.digest == found.digest)
            .partition(own);
        // By a digest alone it has perhaps no name of its own.
        return Ok(if own.is_empty() { others } else { own });
    }
    let digits = asked.strip_prefix("sha256:").unwrap_or(asked);
    let is_id = digits.len() >= LEAST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let begins = format!("sha256:{digits}");
    let found: Vec<Image> = all
        .into_iter()
        .filter(|image| is_id && image.digest.starts_with(&begins))
        .collect();
    match found.first() {
        None => {
            let message = format!("no such image: {asked:?} (`wkctl image ls` shows what is here)");
            Err(Refusal::new(StatusCode::NOT_FOUND, message))
        }
        Some(first) if found.iter().any(|other| other.digest != first.digest) => {
            let message = format!("several images have an ID that begins with {digits}");
            Err(Refusal::bad(message))
        }
        Some(_) => Ok(found),
    }
}

#[derive(Deserialize)]
struct Pull {
    image: String,
    username: Option<String>,
    password: Option<String>,
}

async fn pull(
    State(shared): State<Shared>,
    asked: Result<Json<Pull>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(asked) = asked.map_err(|error| Refusal::bad(error.body_text()))?;
    let (lines, out) = mpsc::channel::<Result<Bytes, std::io::Error>>(8);
    let work = async move {
        let line = |value: serde_json::Value| Ok(Bytes::from(format!("{value}\n")));
        let pulled = {
            let tell = |progress: Progress| {
                // A reader that is slow misses some.
                let _ = lines.try_send(line(json!({"progress": {
                    "receivedBytes": progress.received_bytes, "totalBytes": progress.total_bytes,
                }})));
            };
            ensure(&shared, asked, tell).await
        };
        let last = match pulled {
            Ok(image) => json!({"image": Told::new(image, Vec::new())}),
            Err(error) => json!({"error": error}),
        };
        // Who asked may have gone.
        let _ = lines.send(line(last)).await;
    };
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(pipe::with(out, work))).into_response())
}

async fn ensure(shared: &Shared, asked: Pull, tell: impl Fn(Progress)) -> Result<Image, String> {
    let accounts: Vec<Credentials> = asked
        .username
        .map(|username| Credentials::Basic {
            username,
            password: asked.password.unwrap_or_default(),
        })
        .into_iter()
        .collect();
    let images = &shared.context.images;
    let ensure = images.ensure(&asked.image, PullPolicy::Always, &accounts);
    let mut ensure = std::pin::pin!(tokio::time::timeout(PULL_DEADLINE, ensure));
    let image = loop {
        match tokio::time::timeout(PERIOD, ensure.as_mut()).await {
            Ok(Ok(Ok(image))) => break image,
            Ok(Ok(Err(error))) => return Err(error.to_string()),
            Ok(Err(_)) => return Err(format!("it took longer than {} s", PULL_DEADLINE.as_secs())),
            Err(_) => {
                if let Some(progress) = images.progress(&asked.image) {
                    tell(progress);
                }
            }
        }
    };
    let reference = runtimes::images::normal_name(&image.reference);
    Ok(Image { reference, ..image })
}

async fn import(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
    body: Body,
) -> Result<Response, Refusal> {
    let query = Asked::of(query, &["name"])?;
    let (archive, feed) = pipe::reader(body.into_data_stream());
    let images = &shared.context.images;
    let import = images.import(Box::new(archive), query.find("name"));
    let (imported, ()) = tokio::join!(import, feed);
    let told = imported.map_err(not_archived)?.into_iter();
    let told: Vec<Told> = told.map(|image| Told::new(image, Vec::new())).collect();
    Ok(Json(json!({"images": told})).into_response())
}

async fn export(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let query = Asked::of(query, &["image"])?;
    query.one("image")?;
    let mut references = Vec::new();
    for asked in query.all("image") {
        let found = named(&shared, asked).await?;
        references.extend(found.into_iter().map(|image| image.reference));
    }
    let (archive, out) = pipe::writer();
    let images = shared.context.images.clone();
    let errors = out.sender;
    let work = async move {
        let exported = images.export(&references, Box::new(archive)).await;
        if let Err(error) = exported {
            // The answer has begun: that it breaks off is how its reader sees it.
            let error = std::io::Error::other(error.to_string());
            let _ = errors.send(Err(error)).await;
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((headers, Body::from_stream(pipe::with(out.chunks, work))).into_response())
}

fn failed(error: ImageError) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn not_archived(error: ArchiveError) -> Refusal {
    let code = match &error {
        ArchiveError::Invalid(_) => StatusCode::BAD_REQUEST,
        ArchiveError::NotFound { .. } => StatusCode::NOT_FOUND,
        ArchiveError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(code, error.to_string())
}

/// The parameters of a request's query; of a name there may be several.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn of(query: Vec<(String, String)>, known: &[&str]) -> Result<Asked, Refusal> {
        match query
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(Refusal::bad(format!("unknown parameter {name:?}"))),
            None => Ok(Asked(query)),
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(other, _)| other == name);
        pairs.map(|(_, value)| value.as_str())
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let found = pairs.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &str) -> Result<&str, Refusal> {
        self.find(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Refusal::bad(format!("the parameter {name:?} is missing")))
    }
}
