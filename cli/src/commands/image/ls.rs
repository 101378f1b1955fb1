//! `wkctl image ls`: what `crictl images` shows.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::text;
use crate::{columns::Columns, session::Session};

/// Digits of an ID that are shown.
const DIGITS: usize = 13;

/// Show the images of a node
#[derive(Args)]
pub(super) struct Ls {
    /// Only those whose name has this in it
    name: Option<String>,
    /// Show the answer as it is
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Only the IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show the whole IDs
    #[arg(long)]
    no_trunc: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Json,
}

impl Ls {
    pub(super) async fn run(self, session: &Session, path: &str) -> Result<()> {
        let mut answer = session.api().await?.get(path).await?;
        let wanted = |image: &Value| {
            let name = self.name.as_deref().unwrap_or_default();
            text(&image["name"]).contains(name)
        };
        if let Some(images) = answer["images"].as_array_mut() {
            images.retain(wanted);
        }
        if self.output == Some(Output::Json) {
            return session.line(format_args!("{answer:#}"));
        }
        let images = answer["images"].as_array().into_iter().flatten();
        if self.quiet {
            for image in images {
                session.line(format_args!("{}", self.id(image)))?;
            }
            return Ok(());
        }
        let mut rows = vec![
            ["IMAGE", "TAG", "IMAGE ID", "SIZE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(images.map(|image| {
            let name = text(&image["name"]);
            let (name, tag) = split(&name);
            let size = size(image["sizeBytes"].as_u64().unwrap_or_default());
            vec![name.to_owned(), tag.to_owned(), self.id(image), size]
        }));
        session.text(&Columns::default().format(&rows))
    }

    fn id(&self, image: &Value) -> String {
        let id = text(&image["id"]);
        if self.no_trunc {
            return id;
        }
        let digits = id.strip_prefix("sha256:").unwrap_or(&id);
        digits.chars().take(DIGITS).collect()
    }
}

/// A name and its tag; one with a digest, or of a file, has none.
fn split(name: &str) -> (&str, &str) {
    if name.contains("://") {
        return (name, "<none>");
    }
    if let Some((name, _digest)) = name.split_once('@') {
        return (name, "<none>");
    }
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "<none>"),
    }
}

/// In thousands, with three digits that count: `2.16MB`.
pub(in crate::commands) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    let units = ["B", "kB", "MB", "GB", "TB"];
    // What would be rounded up to 1000 is one of the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits: usize = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_that_count() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (4_500_000, "4.5MB"),
            (12_340_000, "12.3MB"),
            (742_000, "742kB"),
            (999_600, "1MB"),
            (5_000_000_000_000_000, "5000TB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}
