//! `wkctl fn traffic` and `rollback`: which revisions answer.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{find, functions, revisions_of, text};
use crate::{columns::Columns, session::Session};

/// What stands for the latest revision that is ready.
const LATEST: &str = "latest";
/// The annotation with a revision's number.
const NUMBER: &str = "functions.wk.dev/number";

/// Show which revisions answer how much, or change it
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wkctl fn traffic hello                                  # show it\n  wkctl fn traffic hello latest=10 hello-00001=90         # a tenth to the newest\n  wkctl fn traffic hello latest=100 --tag old=hello-00001 # and the old one under a host of its own"
)]
pub(super) struct Traffic {
    /// Function
    name: String,
    /// Shares that sum to 100; a revision's name, its number, or latest
    #[arg(value_name = "REVISION=PERCENT")]
    shares: Vec<String>,
    /// Give a revision a host of its own, TAG---NAME.NAMESPACE.DOMAIN; may be given several times
    #[arg(long = "tag", value_name = "TAG=REVISION")]
    tags: Vec<String>,
}

impl Traffic {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (api, namespace) = (session.api().await?, session.namespace().await?);
        let function = find(api, &namespace, &self.name).await?;
        if self.shares.is_empty() && self.tags.is_empty() {
            return session.text(&shown(&function));
        }
        let shares: Result<Vec<(String, i64)>> = self
            .shares
            .iter()
            .map(|share| parse_share(&self.name, share))
            .collect();
        let shares = shares?;
        let tags: Result<Vec<(String, String)>> = self
            .tags
            .iter()
            .map(|tag| parse_tag(&self.name, tag))
            .collect();
        let traffic = plan(&function["spec"]["traffic"], &shares, &tags?)?;
        write(session, &self.name, &traffic).await?;
        session.line(format_args!(
            "function.functions.wk.dev/{} traffic changed",
            self.name
        ))
    }
}

/// Let an earlier revision answer everything
#[derive(Args)]
pub(super) struct Rollback {
    /// Function
    name: String,
    /// Revision, by name or number; by default the newest before the one that answers now
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
}

impl Rollback {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let (api, namespace) = (session.api().await?, session.namespace().await?);
        let function = find(api, &namespace, &self.name).await?;
        let listed = api.get(&revisions_of(&namespace, &self.name)).await?;
        let revisions = listed["items"].as_array().map(Vec::as_slice);
        let wanted = self.to.as_deref().map(|to| revision(&self.name, to));
        let to = earlier(&function, revisions.unwrap_or_default(), wanted.as_deref())?;
        write(
            session,
            &self.name,
            &json!([{"revision": to, "percent": 100}]),
        )
        .await?;
        session.line(format_args!(
            "function.functions.wk.dev/{} rolled back to {to}",
            self.name
        ))?;
        session.note(format_args!(
            "It stays there, whatever is deployed, until: wkctl fn traffic {} latest=100",
            self.name
        ));
        Ok(())
    }
}

/// Replaces the Function's wishes for its traffic.
async fn write(session: &Session, name: &str, traffic: &Value) -> Result<()> {
    let (api, namespace) = (session.api().await?, session.namespace().await?);
    let path = format!("{}/{name}?fieldManager=wkctl-fn", functions(&namespace));
    let patch = json!({"spec": {"traffic": traffic}});
    api.patch(&path, "application/merge-patch+json", &patch)
        .await
        .map(drop)
}

/// A revision by its name or number.
fn revision(function: &str, named: &str) -> String {
    match named.parse::<u32>() {
        Ok(number) => format!("{function}-{number:05}"),
        Err(_) => named.to_owned(),
    }
}

fn parse_share(function: &str, share: &str) -> Result<(String, i64)> {
    let parsed = share.split_once('=').and_then(|(named, percent)| {
        let percent = percent.trim_end_matches('%').parse().ok()?;
        (!named.is_empty() && (0..=100).contains(&percent)).then_some((named, percent))
    });
    match parsed {
        Some((named, percent)) => Ok((revision(function, named), percent)),
        None => bail!("{share:?}: it must be REVISION=PERCENT, with 0 to 100 percent"),
    }
}

fn parse_tag(function: &str, tag: &str) -> Result<(String, String)> {
    match tag.split_once('=') {
        Some((tag, named)) if !tag.is_empty() && !named.is_empty() => {
            Ok((tag.to_owned(), revision(function, named)))
        }
        _ => bail!("--tag {tag:?}: it must be TAG=REVISION"),
    }
}

/// The new `spec.traffic`: shares and tags that were given, over what is there. Pure.
fn plan(spec: &Value, shares: &[(String, i64)], tags: &[(String, String)]) -> Result<Value> {
    let before = spec.as_array().map(Vec::as_slice).unwrap_or_default();
    let sum: i64 = shares.iter().map(|(_, percent)| percent).sum();
    if !shares.is_empty() && sum != 100 {
        bail!("the shares sum to {sum}; they must sum to 100");
    }
    let entry = |named: &str| match named {
        LATEST => json!({}),
        named => json!({"revision": named}),
    };
    let mut traffic: Vec<Value> = match shares.is_empty() {
        false => {
            let shares = shares.iter().map(|(named, percent)| {
                let mut entry = entry(named);
                entry["percent"] = (*percent).into();
                entry
            });
            // Tags stay until they are given to others.
            let tagged = before
                .iter()
                .filter(|entry| !entry["tag"].is_null())
                .map(|entry| {
                    let mut entry = entry.clone();
                    entry["percent"] = 0.into();
                    entry
                });
            shares.chain(tagged).collect()
        }
        true if before.is_empty() => vec![json!({"percent": 100})],
        true => before.to_vec(),
    };
    for (tag, named) in tags {
        traffic.retain(|entry| entry["tag"] != *tag || entry["percent"].as_i64() > Some(0));
        for entry in &mut traffic {
            if entry["tag"] == *tag
                && let Some(entry) = entry.as_object_mut()
            {
                entry.remove("tag");
            }
        }
        let mut entry = entry(named);
        entry["percent"] = 0.into();
        entry["tag"] = tag.as_str().into();
        traffic.push(entry);
    }
    Ok(traffic.into())
}

/// The revision that a roll-back goes to. Pure.
fn earlier(function: &Value, revisions: &[Value], wanted: Option<&str>) -> Result<String> {
    let name = text(&function["metadata"]["name"]);
    let number = |revision: &Value| {
        let annotation = text(&revision["metadata"]["annotations"][NUMBER]);
        annotation.parse::<u64>().unwrap_or_default()
    };
    let ready = |revision: &Value| {
        let mut conditions = revision["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    if let Some(wanted) = wanted {
        let found = revisions
            .iter()
            .find(|revision| revision["metadata"]["name"] == wanted);
        return match found {
            None => bail!(
                "functionrevisions.functions.wk.dev {wanted:?} of function {name:?} not found; wkctl fn revisions {name} lists them"
            ),
            Some(found) if !ready(found) => bail!("revision {wanted:?} was never ready"),
            Some(_) => Ok(wanted.to_owned()),
        };
    }
    let traffic = function["status"]["traffic"]
        .as_array()
        .into_iter()
        .flatten();
    let most = traffic.max_by_key(|entry| entry["percent"].as_i64());
    let serving = most.map(|entry| text(&entry["revision"]));
    let of = |revision: &&Value| Some(text(&revision["metadata"]["name"])) == serving;
    let Some(now) = revisions.iter().find(of) else {
        bail!("function {name:?} has no revision that answers: nothing to roll back from");
    };
    let before = revisions
        .iter()
        .filter(|revision| number(revision) < number(now) && ready(revision));
    match before.max_by_key(|revision| number(revision)) {
        Some(found) => Ok(text(&found["metadata"]["name"]).to_owned()),
        None => bail!(
            "function {name:?} has no ready revision before {:?}",
            serving.unwrap_or_default()
        ),
    }
}

fn shown(function: &Value) -> String {
    let mut rows = vec![
        ["REVISION", "PERCENT", "TAG", "URL"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let status = &function["status"];
    for entry in status["traffic"].as_array().into_iter().flatten() {
        let url = entry["url"].as_str().unwrap_or(text(&status["url"]));
        let percent = entry["percent"].as_i64().unwrap_or_default().to_string();
        let cells = [text(&entry["revision"]), &percent, text(&entry["tag"]), url];
        rows.push(cells.map(str::to_owned).to_vec());
    }
    Columns::default().format(&rows)
}

#[cfg(test)]
mod tests;
