//! `wkctl fn deploy`: code → image → revision → URL.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    build, check_name, code, functions,
    manifest::{self, Settings},
    source::Source,
    text,
};
use crate::{
    api::{self, Api},
    commands::image::size,
    duration,
    follow::follow,
    manifest as documents,
    push::{self, Content},
    session::{Exit, Session},
};

/// Who owns the fields of a project's manifest.
const MANAGER: &str = "wkctl-fn";
/// The manifest of a project.
pub(super) const MANIFEST: &str = "function.yaml";
/// Why there is no revision of what was written: a quota, say, does not allow it.
const NOT_MADE: &str = "FailedCreate";
/// Between two lines on a push that lasts.
const TELLING: Duration = Duration::from_secs(2);
/// How often a write that lost to another is tried.
const TRIES: usize = 5;

/// Deploy a function from a directory, a component, an archive or an image, and print its URL
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wkctl fn deploy hello ./hello.wasm               # a component (binary or text)\n  wkctl fn deploy hello ./hello                    # a project: builds it first\n  wkctl fn deploy api registry.example/api:1 --port 8080\n\nWhat was said of a function before and is not said again stays; a project's function.yaml is applied as a whole."
)]
pub(super) struct Deploy {
    /// Name of the function
    name: String,
    /// Directory of a project, .wasm or .wat file, archive of an image, or an image's name
    #[arg(value_name = "DIR|FILE|IMAGE")]
    source: String,
    #[command(flatten)]
    settings: Settings,
    /// Return once it is written, without waiting until it serves
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until it serves
    #[arg(long, value_parser = duration::parse, default_value = "5m")]
    timeout: Duration,
}

impl Deploy {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        check_name(&self.name)?;
        let source = Source::of(&self.source)?;
        let code = prepare(session, &self.name, &source).await?;
        let written = write(session, &self.name, &code, &self.settings).await?;
        if self.no_wait {
            return session.line(format_args!(
                "function.functions.wk.dev/{} written",
                self.name
            ));
        }
        let url = wait(session, &written, self.timeout).await?;
        session.line(format_args!("{url}"))
    }
}

/// Code that is in a registry, and what its project says of it.
pub(super) struct Code {
    pub(super) image: String,
    /// A project's, as it is applied but for the image.
    pub(super) manifest: Option<Value>,
}

/// Builds and pushes what has to be.
async fn prepare(session: &Session, name: &str, source: &Source) -> Result<Code> {
    let (file, manifest) = match source {
        Source::Image(image) => {
            let (image, manifest) = (image.clone(), None);
            return Ok(Code { image, manifest });
        }
        Source::File(file) => (file.clone(), None),
        Source::Project(directory) => {
            // First, since a mistake in it is found sooner than one in the code.
            let manifest = read_manifest(session, directory, name).await?;
            (build::build(session, directory).await?, manifest)
        }
    };
    let image = push(session, name, &file).await?;
    Ok(Code { image, manifest })
}

/// A project's manifest, if it has one.
pub(super) async fn read_manifest(
    session: &Session,
    directory: &Path,
    name: &str,
) -> Result<Option<Value>> {
    let namespace = session.namespace().await?;
    let path = directory.join(MANIFEST);
    if !path.is_file() {
        return Ok(None);
    }
    let shown = path.display().to_string();
    let mut documents = documents::read(std::slice::from_ref(&shown), false).await?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        bail!("{shown}: it must hold one Function of functions.wk.dev/v1");
    };
    let object = document
        .object
        .map_err(|error| anyhow!("{shown}: {error}"))?;
    manifest::of_project(object, name, &namespace)
        .map(Some)
        .context(shown)
}

/// Pushes a file to the cluster's registry; answers the reference that names exactly it.
///
/// # Errors
/// It is nothing that can serve, or the registry doesn't take it.
pub(super) async fn push(session: &Session, name: &str, file: &Path) -> Result<String> {
    let (shown, content) = (file.display(), Content::of_file(file)?);
    if let Content::Wasm(bytes) = &content {
        code::check(bytes).with_context(|| format!("{shown} is no function"))?;
    }
    let begun = Instant::now();
    let mut told = begun;
    let mut tell = |progress: push::Progress| {
        if told.elapsed() >= TELLING {
            told = Instant::now();
            let (sent, total) = (size(progress.sent_bytes), size(progress.total_bytes));
            session.note(format_args!("Pushing {shown}: {sent} of {total}"));
        }
    };
    let pushed = push::push(session, name, content, &mut tell).await;
    let pushed = pushed.with_context(|| format!("push {shown} to the cluster's registry"))?;
    let told = match pushed.sent_bytes {
        0 => "the registry had it".to_owned(),
        bytes => format!("{} in {} ms", size(bytes), begun.elapsed().as_millis()),
    };
    session.note(format_args!("Pushed {shown} ({told})"));
    Ok(pushed.reference)
}

/// Writes the Function; answers it as the server has it.
pub(super) async fn write(
    session: &Session,
    name: &str,
    code: &Code,
    settings: &Settings,
) -> Result<Value> {
    let (api, namespace) = (session.api().await?, session.namespace().await?);
    match &code.manifest {
        Some(manifest) => apply(api, &namespace, name, manifest.clone(), code, settings).await,
        None => patch(api, &namespace, name, code, settings).await,
    }
}

/// A project's manifest is what is wanted, wholly.
async fn apply(
    api: &Api,
    namespace: &str,
    name: &str,
    mut wanted: Value,
    code: &Code,
    settings: &Settings,
) -> Result<Value> {
    wanted["spec"]["image"] = code.image.as_str().into();
    settings.put_on(&mut wanted["spec"])?;
    let path = format!(
        "{}/{name}?fieldManager={MANAGER}&force=true",
        functions(namespace)
    );
    api.patch(&path, "application/apply-patch+yaml", &wanted)
        .await
}

/// Without a manifest, what was said before stays.
async fn patch(
    api: &Api,
    namespace: &str,
    name: &str,
    code: &Code,
    settings: &Settings,
) -> Result<Value> {
    let (collection, manager) = (functions(namespace), format!("fieldManager={MANAGER}"));
    for _ in 0..TRIES {
        let found = api.find(&format!("{collection}/{name}")).await?;
        let is_new = found.is_none();
        let mut function = found.unwrap_or_else(|| {
            json!({
                "apiVersion": "functions.wk.dev/v1",
                "kind": "Function",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {},
            })
        });
        function["spec"]["image"] = code.image.as_str().into();
        settings.put_on(&mut function["spec"])?;
        // The whole object with its version: what somebody else wrote meanwhile is not lost.
        let outcome = match is_new {
            true => {
                api.send(Method::POST, &format!("{collection}?{manager}"), &function)
                    .await
            }
            false => {
                let path = format!("{collection}/{name}?{manager}");
                api.send(Method::PUT, &path, &function).await
            }
        };
        match outcome {
            Err(error) if api::code(&error) == Some(409) => {}
            outcome => return outcome,
        }
    }
    bail!("function {name:?} is changed by others all the time; try again")
}

/// What became of a Function that was written.
#[derive(PartialEq, Eq, Debug)]
enum Progress {
    Waiting(String),
    Ready(String),
    Failed(String),
}

/// Judges a Function after a write of the given generation. Pure.
fn progress(function: &Value, generation: i64) -> Progress {
    let status = &function["status"];
    let latest = text(&status["latestCreatedRevision"]);
    if status["observedGeneration"].as_i64().unwrap_or_default() < generation {
        return Progress::Waiting("Waiting for a revision".to_owned());
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let find = |kind: &str| {
        conditions
            .clone()
            .find(|condition| condition["type"] == kind)
    };
    let told = |condition: &Value| {
        let (reason, message) = (text(&condition["reason"]), text(&condition["message"]));
        match message.is_empty() {
            true => reason.to_owned(),
            false => format!("{reason}: {message}"),
        }
    };
    let refused = find("RevisionReady").filter(|condition| condition["reason"] == NOT_MADE);
    if let Some(condition) = refused {
        return Progress::Failed(told(condition));
    }
    if latest.is_empty() {
        return Progress::Waiting("Waiting for a revision".to_owned());
    }
    for kind in ["RevisionReady", "RoutesReady"] {
        if let Some(condition) = find(kind).filter(|condition| condition["status"] == "False") {
            let serving = text(&status["latestReadyRevision"]);
            let rest = match serving.is_empty() || serving == latest {
                true => String::new(),
                false => format!(" (revision {serving} goes on serving)"),
            };
            return Progress::Failed(format!("revision {latest}: {}{rest}", told(condition)));
        }
    }
    let ready = find("Ready").filter(|condition| condition["status"] == "True");
    match (ready, text(&status["url"])) {
        (Some(_), url) if text(&status["latestReadyRevision"]) == latest => {
            Progress::Ready(url.to_owned())
        }
        _ => {
            let why = find("RevisionReady").map(told).unwrap_or_default();
            let why = match why.is_empty() {
                true => String::new(),
                false => format!(" ({why})"),
            };
            Progress::Waiting(format!("Waiting for revision {latest}{why}"))
        }
    }
}

/// Waits until a Function that was written serves; answers its URL.
pub(super) async fn wait(session: &Session, written: &Value, timeout: Duration) -> Result<String> {
    let name = text(&written["metadata"]["name"]).to_owned();
    let generation = written["metadata"]["generation"].as_i64().unwrap_or(1);
    let (api, collection) = (session.api().await?, functions(&session.namespace().await?));
    let mut told = String::new();
    let done = follow(api, &collection, &name, |function| {
        let Some(function) = function else {
            bail!("function {name:?} was deleted");
        };
        match progress(function, generation) {
            Progress::Ready(url) => Ok(Some(Ok(url))),
            Progress::Failed(why) => Ok(Some(Err(why))),
            Progress::Waiting(line) => {
                if line != told {
                    session.note(format_args!("{line}"));
                    told = line;
                }
                Ok(None)
            }
        }
    });
    let outcome = tokio::time::timeout(timeout, done).await;
    match outcome {
        Ok(outcome) => outcome?.map_err(|why| failed(&name, &why)),
        Err(_) => {
            let seconds = timeout.as_secs();
            Err(failed(
                &name,
                &format!("it does not serve after {seconds} s: {told}"),
            ))
        }
    }
}

fn failed(name: &str, why: &str) -> anyhow::Error {
    let message = format!("error: function {name:?}: {why}");
    Exit { code: 1, message }.into()
}

#[cfg(test)]
mod tests;
