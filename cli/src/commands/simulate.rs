//! `wkctl simulate`: what the scheduler would do, tried on a copy of the cluster.
//!
//! The copy is made of lists of what the scheduler reads; decisions are made by its own core ([`scheduler::Cluster`]).
//! Nothing is written: what a manifest's pods get from admission (priority, tolerations, defaults) is asked with a dry run.
//!
//! - [`cluster`]: the copy. [`workload`]: which pods an object of a manifest makes; pure.
//! - [`leaving`]: what becomes of the pods of nodes that go. [`budget`]: which of them may be evicted; pure.
//! - [`report`]: what is printed; pure.

mod budget;
mod cluster;
mod leaving;
mod report;
mod workload;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    apply, encode,
    session::{Exit, Failures, Session},
};
use cluster::Cluster;
use report::Report;

/// Show where pods would go, and what happens when nodes go, without changing anything
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wkctl simulate -f deployment.yaml          # would this fit, where, why not\n  wkctl simulate --without-node node-3       # what becomes of its pods when it dies\n  wkctl simulate --drain node-3              # the same, asking PodDisruptionBudgets\n\nThe exit code is 1 if a pod would find no node or could not be evicted."
)]
pub(crate) struct Simulate {
    /// Manifest whose pods are placed: file, directory, URL or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "FILE")]
    filenames: Vec<String>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Node that is gone, and its pods with it; may be given several times
    #[arg(long, value_name = "NODE")]
    without_node: Vec<String>,
    /// Node whose pods are evicted, as PodDisruptionBudgets allow; may be given several times
    #[arg(long, value_name = "NODE")]
    drain: Vec<String>,
    /// Print everything, every node's reasons too
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

impl Simulate {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        if self.filenames.is_empty() && self.without_node.is_empty() && self.drain.is_empty() {
            bail!(
                "nothing to simulate: name manifests with -f, or nodes with --without-node or --drain"
            );
        }
        let api = session.api().await?;
        let mut cluster = Cluster::copy(api).await?;
        let mut report = Report::default();
        leaving::go(&mut cluster, &self.without_node, &mut report)?;
        leaving::drain(&mut cluster, &self.drain, &mut report)?;
        let mut failures = Failures::default();
        if !self.filenames.is_empty() {
            let (targets, errors) = apply::targets(
                session.resources().await?,
                &self.filenames,
                self.recursive,
                &session.namespace().await?,
                session.namespace_given(),
            )
            .await?;
            failures
                .0
                .extend(errors.into_iter().map(anyhow::Error::msg));
            // What pods refer to comes first, in whichever order it is written.
            let (pods, others): (Vec<_>, Vec<_>) = targets
                .iter()
                .partition(|target| workload::makes_pods(&target.resource.kind));
            for target in others {
                if let Err(error) = cluster.add(api, target).await {
                    failures.push(error.context(target.display()))?;
                }
            }
            for target in pods {
                match cluster.place(api, target).await {
                    Ok(placed) => report.workloads.push(placed),
                    Err(error) => failures.push(error.context(target.display()))?,
                }
            }
        }
        match self.output {
            None => session.text(&report.text())?,
            Some(Output::Json) => session.text(&encode::json(&report.json())?)?,
            Some(Output::Yaml) => session.text(&encode::yaml(&report.json())?)?,
        }
        failures.finish()?;
        match report.problem() {
            None => Ok(()),
            Some(message) => Err(Exit { code: 1, message }.into()),
        }
    }
}
