//! Flags that several commands which change releases share, as Helm's.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use charts::release::action::{DryRun, Options, Wait};
use clap::{Args, ValueEnum};

use crate::duration;

/// How objects are made and waited for.
#[derive(Args, Clone, Debug)]
pub(super) struct ActionFlags {
    /// Wait until the objects are ready (`watcher`, or `hookOnly` for hooks alone)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "watcher", require_equals = true)]
    wait: WaitFor,
    /// With --wait, wait for Jobs to complete too
    #[arg(long)]
    wait_for_jobs: bool,
    /// How long each hook, and waiting, may take
    #[arg(long, value_parser = duration::parse, default_value = "5m0s", value_name = "DURATION")]
    timeout: Duration,
    /// Run no hooks
    #[arg(long)]
    no_hooks: bool,
    /// Take fields from other managers
    #[arg(long)]
    force_conflicts: bool,
    /// Write objects whole instead of applying them
    #[arg(long, visible_alias = "force", conflicts_with = "force_conflicts")]
    force_replace: bool,
    /// Apply the objects as one write: all of them, or none (on a wk server; hooks and crds/ are not part of it)
    #[arg(long, conflicts_with = "force_replace")]
    atomic_apply: bool,
    /// How objects are made; always by server-side apply
    #[arg(long, hide = true, value_enum, default_value_t)]
    server_side: ServerSide,
    /// When it fails, remove what it made
    #[arg(long)]
    cleanup_on_fail: bool,
    /// Most revisions to keep; 0 keeps all
    #[arg(long, default_value_t = 10)]
    history_max: usize,
    /// Go on from an operation that Helm began and did not end, however short ago
    #[arg(long)]
    take_up: bool,
    /// Also objects that are another's, or no release's
    #[arg(long)]
    take_ownership: bool,
    /// Only say what would be done; `server` shows each object to the server
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "client", require_equals = true, value_name = "MODE")]
    dry_run: Rehearsal,
    /// A sentence for the release's history
    #[arg(long)]
    description: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum WaitFor {
    #[value(alias = "true", alias = "legacy")]
    Watcher,
    #[default]
    #[value(name = "hookOnly", alias = "false")]
    HookOnly,
}

/// What Helm's `--server-side` may say: not `false`, since nothing is applied otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum ServerSide {
    #[default]
    Auto,
    True,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(super) enum Rehearsal {
    #[default]
    #[value(alias = "false")]
    None,
    #[value(alias = "true")]
    Client,
    Server,
}

impl From<Rehearsal> for DryRun {
    fn from(rehearsal: Rehearsal) -> DryRun {
        match rehearsal {
            Rehearsal::None => DryRun::No,
            Rehearsal::Client => DryRun::Client,
            Rehearsal::Server => DryRun::Server,
        }
    }
}

impl ActionFlags {
    /// The options that they are.
    pub(super) fn options(&self) -> Options {
        let wait = match (self.wait, self.wait_for_jobs) {
            (WaitFor::HookOnly, _) => Wait::Hooks,
            (WaitFor::Watcher, false) => Wait::Objects,
            (WaitFor::Watcher, true) => Wait::ObjectsAndJobs,
        };
        Options {
            wait,
            timeout: self.timeout,
            hooks: !self.no_hooks,
            force_conflicts: self.force_conflicts,
            force_replace: self.force_replace,
            atomic_apply: self.atomic_apply,
            cleanup_on_fail: self.cleanup_on_fail,
            history_max: self.history_max,
            take_up: self.take_up,
            take_ownership: self.take_ownership,
            dry_run: self.dry_run.into(),
            description: self.description.clone(),
            ..Options::default()
        }
    }
}

/// Reads `a=b,c=d`, as given several times.
pub(super) fn labels(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for pair in given.iter().flat_map(|text| text.split(',')) {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("--labels: {pair:?} is not of the form name=value");
        };
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}
