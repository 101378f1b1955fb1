//! `wkctl chart get`: what a release is made of.

use anyhow::Result;
use charts::release::{Release, plan::Reuse};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::{
    cluster::{self, Live},
    show_release::{self, Format, View},
};
use crate::{encode, session::Session};

/// Show what a release is made of
#[derive(Args)]
pub(super) struct Get {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything
    All(Plain),
    /// The objects of its hooks
    Hooks(Plain),
    /// The objects that it was rendered to
    Manifest(Plain),
    /// What its chart has to say
    Notes(Plain),
    /// Its chart and state
    Metadata(Formatted),
    /// The user's values
    Values(Values),
}

#[derive(Args)]
struct Plain {
    /// Release
    name: String,
    /// Of this revision rather than the newest
    #[arg(long)]
    revision: Option<u32>,
}

#[derive(Args)]
struct Formatted {
    #[command(flatten)]
    plain: Plain,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args)]
struct Values {
    #[command(flatten)]
    formatted: Formatted,
    /// The chart's defaults too
    #[arg(short, long)]
    all: bool,
}

impl Get {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let plain = match &self.what {
            What::All(plain) | What::Hooks(plain) | What::Manifest(plain) | What::Notes(plain) => {
                plain
            }
            What::Metadata(formatted) => &formatted.plain,
            What::Values(values) => &values.formatted.plain,
        };
        let live = Live::connect(session, true).await?;
        let release = cluster::revision(&live, &plain.name, plain.revision).await?;
        match self.what {
            What::All(_) => session.text(&all(&release)?),
            What::Hooks(_) => session.text(&hooks(&release)),
            What::Manifest(_) => session.text(&format!("{}\n", release.manifest)),
            What::Notes(_) => session.text(&notes(&release)),
            What::Metadata(Formatted { output, .. }) => output.print(
                session,
                || metadata(&release),
                || {
                    let metadata = metadata(&release);
                    let fields = [
                        "name",
                        "chart",
                        "version",
                        "appVersion",
                        "namespace",
                        "revision",
                        "status",
                        "deployedAt",
                    ];
                    let text = |value: &Value| {
                        value
                            .as_str()
                            .map_or_else(|| value.to_string(), str::to_owned)
                    };
                    fields
                        .iter()
                        .map(|field| format!("{}: {}\n", upper(field), text(&metadata[*field])))
                        .collect()
                },
            ),
            What::Values(Values { formatted, all }) => {
                let values = values(&release, all);
                match formatted.output {
                    Format::Table => {
                        let title = if all {
                            "COMPUTED VALUES:"
                        } else {
                            "USER-SUPPLIED VALUES:"
                        };
                        session.text(&format!("{title}\n{}", yaml(&values)?))
                    }
                    output => output.print(session, || values, String::new),
                }
            }
        }
    }
}

/// `appVersion` → `APP_VERSION`.
fn upper(field: &str) -> String {
    let mut text = String::new();
    for c in field.chars() {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

fn metadata(release: &Release) -> Value {
    json!({
        "name": release.name,
        "chart": release.metadata("name"),
        "version": release.metadata("version"),
        "appVersion": release.metadata("appVersion"),
        "annotations": release.chart["metadata"]["annotations"],
        "dependencies": release.chart["metadata"]["dependencies"],
        "namespace": release.namespace,
        "revision": release.version,
        "status": release.info.status.text(),
        "deployedAt": release.info.last_deployed,
        "applyMethod": if release.server_side() { "server-side apply" } else { "client-side apply" },
    })
}

/// The user's values, or those and the chart's.
fn values(release: &Release, all: bool) -> Value {
    if !all {
        // None at all is `null`, as Helm prints it.
        return match release.config.is_empty() {
            true => Value::Null,
            false => Value::Object(release.config.clone()),
        };
    }
    let none = Map::new();
    let defaults = release.chart["values"].as_object().unwrap_or(&none);
    let mut values = Reuse::Reuse.values(release.config.clone(), defaults);
    without_nulls(&mut values, &release.config);
    Value::Object(values)
}

/// A `null` of the user's removes a default.
fn without_nulls(values: &mut Map<String, Value>, given: &Map<String, Value>) {
    for (key, value) in given {
        match (value, values.get_mut(key)) {
            (Value::Null, _) => {
                values.remove(key);
            }
            (Value::Object(given), Some(Value::Object(values))) => without_nulls(values, given),
            _ => {}
        }
    }
}

fn yaml(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("null\n".to_owned()),
        value => encode::yaml(value),
    }
}

fn hooks(release: &Release) -> String {
    let text =
        |hook: &charts::release::Hook| format!("---\n# Source: {}\n{}\n", hook.path, hook.manifest);
    release.hooks.iter().map(text).collect()
}

fn notes(release: &Release) -> String {
    match release.info.notes.as_str() {
        "" => String::new(),
        notes => format!("NOTES:\n{notes}\n"),
    }
}

fn all(release: &Release) -> Result<String> {
    let view = View {
        metadata: true,
        hide_notes: true,
        manifest: false,
    };
    let mut text = show_release::status(release, view, &TimeZone::system());
    text.push_str(&format!(
        "USER-SUPPLIED VALUES:\n{}\n",
        yaml(&values(release, false))?
    ));
    text.push_str(&format!(
        "COMPUTED VALUES:\n{}\n",
        yaml(&values(release, true))?
    ));
    text.push_str(&format!("HOOKS:\n{}", hooks(release)));
    text.push_str(&format!("MANIFEST:\n{}\n", release.manifest));
    text.push_str(&notes(release));
    Ok(text)
}
