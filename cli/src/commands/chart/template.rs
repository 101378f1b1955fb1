//! `wkctl chart template`: what a chart renders to, without a cluster. Prints what `helm template` prints.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail};
use charts::{
    chart::glob::Pattern,
    release::record::Event,
    render::{RenderError, RenderOptions, manifest},
};
use clap::Args;

use super::{render, source, values};
use crate::session::Session;

/// Render a chart's templates locally
#[derive(Args)]
pub(crate) struct Template {
    /// Release name, and the chart: a directory, an archive, or a reference
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME", "CHART"])]
    arguments: Vec<String>,
    #[command(flatten)]
    source: source::SourceFlags,
    #[command(flatten)]
    values: values::ValueFlags,
    #[command(flatten)]
    capabilities: render::CapabilityFlags,
    /// Only show manifests rendered from the given templates (can be repeated)
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
    /// Include CRDs in the output
    #[arg(long)]
    include_crds: bool,
    /// Leave CRDs out of the output
    #[arg(long, conflicts_with = "include_crds")]
    skip_crds: bool,
    /// Leave tests out of the output
    #[arg(long)]
    skip_tests: bool,
    /// Leave hooks out of the output
    #[arg(long)]
    no_hooks: bool,
    /// Set .Release.IsUpgrade instead of .Release.IsInstall
    #[arg(long)]
    is_upgrade: bool,
    /// Do not check values against the chart's schema
    #[arg(long)]
    skip_schema_validation: bool,
    /// Generate the release's name
    #[arg(short, long)]
    generate_name: bool,
    /// Template of the release's name
    #[arg(long, value_name = "TEMPLATE")]
    name_template: Option<String>,
    /// Write the manifests to files in this directory instead of stdout
    #[arg(long, value_name = "DIRECTORY")]
    output_dir: Option<PathBuf>,
    /// Put the release's name into the path below --output-dir
    #[arg(long)]
    release_name: bool,
    /// Fetch what a chart's directory depends on, if it is not there
    #[arg(long)]
    dependency_update: bool,
    /// Let templates resolve host names
    #[arg(long)]
    enable_dns: bool,
    /// Program that gets the manifests on stdin and answers them changed
    #[arg(long, value_name = "PROGRAM")]
    post_renderer: Option<PathBuf>,
    /// Arguments of --post-renderer (can be repeated)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    post_renderer_args: Vec<String>,
    /// Print what was rendered even if it is not YAML
    #[arg(long)]
    debug: bool,
    #[arg(long, hide = true)]
    validate: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    dry_run: Option<String>,
}

impl Template {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let template = self.name_template.as_deref();
        if self.validate || self.dry_run.as_deref() == Some("server") {
            bail!(
                "templates are rendered without a cluster here: `wkctl chart install --dry-run=server` asks one"
            );
        }
        let default = Some("release-name");
        let (name, chart) =
            render::name_and_chart(&self.arguments, self.generate_name, template, default)?;
        charts::release::plan::check_name(&name)?;
        let update = self.dependency_update;
        let chart = source::load_complete(session, &chart, &self.source, update).await?;
        let inputs = self.values.inputs().await?;
        let given = values::merged(&inputs)?;
        let options = RenderOptions {
            name: name.clone(),
            namespace: session.namespace_or_default(),
            is_upgrade: self.is_upgrade,
            capabilities: self.capabilities.capabilities()?,
            include_crds: self.include_crds && self.output_dir.is_none(),
            skip_schema: self.skip_schema_validation,
            ..RenderOptions::default()
        };
        let environment = render::offline(self.enable_dns);
        let rendered = render::render(session, &chart, &given, &inputs, &options, &environment);
        let rendered = match rendered {
            Err(RenderError::Manifest {
                files,
                path,
                message,
            }) if self.debug => {
                for (name, text) in files.iter().filter(|(_, text)| !text.trim().is_empty()) {
                    session.text(&format!("---\n# Source: {name}\n{text}\n"))?;
                }
                bail!("YAML parse error on {path}: {message}");
            }
            Err(error @ RenderError::Manifest { .. }) => {
                bail!("{error}\n\nUse --debug flag to render out invalid YAML");
            }
            rendered => rendered.map_err(Error::new)?,
        };
        let is_test = |events: &[Event]| events.contains(&Event::Test);
        let hooks = rendered.hooks.iter();
        let hooks = hooks
            .filter(|_| !self.no_hooks)
            .filter(|hook| !(self.skip_tests && is_test(&hook.events)));
        if let Some(directory) = &self.output_dir {
            let directory = match self.release_name {
                true => directory.join(&name),
                false => directory.clone(),
            };
            let mut writer = Writer::new(session, &directory);
            if self.include_crds {
                for crd in &rendered.crds {
                    writer.write(&crd.name, &String::from_utf8_lossy(&crd.data))?;
                }
            }
            for manifest in &rendered.manifests {
                writer.write(&manifest.source, &manifest.content)?;
            }
            for hook in hooks {
                writer.write(&hook.path, &hook.manifest)?;
            }
            return Ok(());
        }
        let manifest = match &self.post_renderer {
            Some(program) => {
                super::post_render::run(program, &self.post_renderer_args, &rendered.manifest)
                    .await?
            }
            None => rendered.manifest.clone(),
        };
        let mut text = format!("{}\n", manifest.trim());
        for hook in hooks {
            text.push_str(&format!(
                "---\n# Source: {}\n{}\n",
                hook.path, hook.manifest
            ));
        }
        match self.show_only.is_empty() {
            true => session.text(&text),
            false => session.text(&only(&text, &self.show_only)?),
        }
    }
}

/// The documents that come from certain templates.
fn only(text: &str, wanted: &[String]) -> Result<String> {
    let documents: Vec<(&str, &str)> = manifest::split(text)
        .into_iter()
        .filter_map(|document| {
            let source = document
                .lines()
                .find_map(|line| line.split_once("# Source: "));
            // The path within the chart: without the chart's name.
            let (_, path) = source?.1.split_once('/')?;
            Some((path, document))
        })
        .collect();
    let mut shown = String::new();
    for name in wanted {
        let pattern = Pattern::file(name).ok();
        let matching = documents.iter().filter(|(path, _)| {
            pattern
                .as_ref()
                .is_some_and(|pattern| pattern.matches(path))
        });
        let before = shown.len();
        for (_, document) in matching {
            shown.push_str(&format!("---\n{document}\n"));
        }
        if shown.len() == before {
            bail!("could not find template {name} in chart");
        }
    }
    Ok(shown)
}

/// Writes documents to the files of their templates; several of one template follow each other.
struct Writer<'a> {
    session: &'a Session,
    directory: &'a Path,
    written: HashSet<PathBuf>,
}

impl<'a> Writer<'a> {
    fn new(session: &'a Session, directory: &'a Path) -> Writer<'a> {
        Writer {
            session,
            directory,
            written: HashSet::new(),
        }
    }

    fn write(&mut self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        let failed = || format!("write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        let first = self.written.insert(path.clone());
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .append(!first)
            .truncate(first)
            .open(&path)
            .with_context(failed)?;
        file.write_all(format!("---\n# Source: {name}\n{text}\n").as_bytes())
            .with_context(failed)?;
        self.session.line(format_args!("wrote {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn only_the_templates_that_are_asked_for_are_shown() {
        let text = "---\n# Source: c/templates/a.yaml\na: 1\n---\n# Source: c/charts/s/templates/b.yaml\nb: 1\n";
        let shown =
            |wanted: &str| only(text, &[wanted.to_owned()]).map_err(|error| error.to_string());
        assert_eq!(
            shown("templates/a.yaml").unwrap(),
            "---\n# Source: c/templates/a.yaml\na: 1\n"
        );
        assert_eq!(
            shown("charts/*/templates/*").unwrap(),
            "---\n# Source: c/charts/s/templates/b.yaml\nb: 1\n\n"
        );
        assert_eq!(
            shown("nope").unwrap_err(),
            "could not find template nope in chart"
        );
    }
}
