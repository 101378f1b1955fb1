//! `wkctl chart list`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use charts::release::{Cluster as _, Error, Release, Status, secret, storage};
use clap::Args;
use serde_json::{Value, json};

use super::{
    cluster::{Live, told},
    show_release::{Format, go_time, row, table},
};
use crate::session::Session;

/// List releases
#[derive(Args)]
pub(super) struct List {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Releases in any state
    #[arg(short, long)]
    all: bool,
    /// Deployed releases; this and failed ones if nothing else is asked for
    #[arg(long)]
    deployed: bool,
    /// Failed releases
    #[arg(long)]
    failed: bool,
    /// Releases with an operation that has not ended
    #[arg(long)]
    pending: bool,
    /// Superseded revisions
    #[arg(long)]
    superseded: bool,
    /// Uninstalled releases whose history was kept
    #[arg(long)]
    uninstalled: bool,
    /// Releases that are being uninstalled
    #[arg(long)]
    uninstalling: bool,
    /// Only names that match this regular expression
    #[arg(short, long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Only releases whose records have these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Sort by the time of the last deployment
    #[arg(short, long)]
    date: bool,
    /// Sort the other way round
    #[arg(short, long)]
    reverse: bool,
    /// Most releases to print; 0 prints all
    #[arg(short, long, default_value_t = 256)]
    max: usize,
    /// How many releases to leave out first
    #[arg(long, default_value_t = 0)]
    offset: usize,
    /// Only names
    #[arg(short = 'q', long)]
    short: bool,
    /// Without the line of column names
    #[arg(long)]
    no_headers: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let filter = match &self.filter {
            None => None,
            Some(text) => {
                Some(regex::Regex::new(text).with_context(|| format!("--filter {text:?}"))?)
            }
        };
        let live = Live::connect(session, true).await?;
        let namespace = (!self.all_namespaces).then_some(live.namespace.as_str());
        let mut selector = "owner=helm".to_owned();
        if let Some(more) = &self.selector {
            selector.push(',');
            selector.push_str(more);
        }
        let secrets = live
            .cluster
            .list("v1", "Secret", namespace, &selector)
            .await
            .map_err(|error| told(Error::call("list releases")(error)))?;
        let mut releases = Vec::new();
        for found in newest(&secrets, self.past(), |status| self.shows(status)) {
            let namespace = found["metadata"]["namespace"].as_str().unwrap_or_default();
            match storage::read(&*live.cluster, namespace, found).await {
                Ok(release) => releases.push(release),
                // One that cannot be read does not hide the others.
                Err(error) => session.note(format_args!("Warning: {}", error.line())),
            }
        }
        releases.retain(|release| {
            let filter = filter.as_ref();
            filter.is_none_or(|filter| filter.is_match(&release.name))
        });
        self.sort(&mut releases);
        let releases: Vec<Release> = releases
            .into_iter()
            .skip(self.offset)
            .take(if self.max == 0 { usize::MAX } else { self.max })
            .collect();
        self.print(session, &releases)
    }

    /// Whether releases in a state are asked for.
    fn shows(&self, status: Status) -> bool {
        let asked = [
            self.deployed,
            self.failed,
            self.pending,
            self.superseded,
            self.uninstalled,
            self.uninstalling,
        ];
        if self.all {
            return true;
        }
        if !asked.contains(&true) {
            return matches!(status, Status::Deployed | Status::Failed);
        }
        match status {
            Status::Deployed => self.deployed,
            Status::Failed => self.failed,
            Status::Superseded => self.superseded,
            Status::Uninstalled => self.uninstalled,
            Status::Uninstalling => self.uninstalling,
            Status::Unknown => false,
            _ => self.pending,
        }
    }

    /// Whether only superseded revisions are asked for, none of which is the newest of its release.
    fn past(&self) -> bool {
        let others = [
            self.all,
            self.deployed,
            self.failed,
            self.pending,
            self.uninstalled,
            self.uninstalling,
        ];
        self.superseded && !others.contains(&true)
    }

    fn sort(&self, releases: &mut [Release]) {
        if self.date {
            releases.sort_by_key(|release| release.info.last_deployed);
        } else {
            releases.sort_by(|a, b| {
                (&a.name, &a.namespace, a.version).cmp(&(&b.name, &b.namespace, b.version))
            });
        }
        if self.reverse {
            releases.reverse();
        }
    }

    fn print(&self, session: &Session, releases: &[Release]) -> Result<()> {
        if self.short {
            let names: Vec<&str> = releases.iter().map(|r| r.name.as_str()).collect();
            return self.output.print(
                session,
                || json!(names),
                || names.iter().map(|name| format!("{name}\n")).collect(),
            );
        }
        let updated =
            |release: &Release| release.info.last_deployed.map_or("-".to_owned(), go_time);
        let element = |release: &Release| {
            json!({
                "name": release.name,
                "namespace": release.namespace,
                "revision": release.version.to_string(),
                "updated": updated(release),
                "status": release.info.status.text(),
                "chart": release.chart_name(),
                "app_version": release.metadata("appVersion"),
            })
        };
        let rows = || {
            let mut rows = Vec::new();
            if !self.no_headers {
                rows.push(row(&[
                    "NAME",
                    "NAMESPACE",
                    "REVISION",
                    "UPDATED",
                    "STATUS",
                    "CHART",
                    "APP VERSION",
                ]));
            }
            for release in releases {
                rows.push(row(&[
                    &release.name,
                    &release.namespace,
                    &release.version.to_string(),
                    &updated(release),
                    release.info.status.text(),
                    &release.chart_name(),
                    release.metadata("appVersion"),
                ]));
            }
            table(&rows)
        };
        if self.max == 0 && self.offset > 0 && releases.is_empty() {
            bail!("--offset {} is beyond the last release", self.offset);
        }
        self.output.print(
            session,
            || releases.iter().map(element).collect::<Value>(),
            rows,
        )
    }
}

/// The Secret of each release's newest revision if its state is asked for; with `past`, those of older ones too.
fn newest(secrets: &[Value], past: bool, shows: impl Fn(Status) -> bool) -> Vec<&Value> {
    let mut by_release: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for found in secrets {
        let (name, _, _) = secret::labels(found);
        let namespace = found["metadata"]["namespace"].as_str().unwrap_or_default();
        by_release.entry((namespace, name)).or_default().push(found);
    }
    let mut chosen = Vec::new();
    for mut revisions in by_release.into_values() {
        revisions.sort_by_key(|found| secret::labels(found).1);
        let last = revisions.len() - 1;
        for (index, found) in revisions.into_iter().enumerate() {
            let (_, _, status) = secret::labels(found);
            if shows(status) && (past || index == last) {
                chosen.push(found);
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_of(name: &str, version: &str, status: &str) -> Value {
        json!({"metadata": {"namespace": "n", "labels": {"name": name, "version": version, "status": status}}})
    }

    #[test]
    fn the_newest_revision_stands_for_its_release() {
        let secrets = [
            secret_of("a", "9", "superseded"),
            secret_of("a", "10", "deployed"),
            secret_of("b", "1", "deployed"),
            secret_of("b", "2", "failed"),
            secret_of("c", "1", "uninstalled"),
        ];
        let versions = |past, shows: fn(Status) -> bool| -> Vec<String> {
            newest(&secrets, past, shows)
                .iter()
                .map(|s| format!("{}{}", secret::labels(s).0, secret::labels(s).1))
                .collect()
        };
        let usual = |s| matches!(s, Status::Deployed | Status::Failed);
        assert_eq!(versions(false, usual), ["a10", "b2"]);
        assert_eq!(versions(false, |s| s == Status::Uninstalled), ["c1"]);
        assert_eq!(versions(true, |s| s == Status::Superseded), ["a9"]);
    }
}
