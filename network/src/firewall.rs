//! Keeps the host's nftables table as the directory says (privileged).
//!
//! A change is applied at once; what changes while `nft` runs goes into the next transaction, so a
//! burst costs few of them and a single change waits for nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    Range,
    handle::Shared,
    nft, pool,
    ruleset::{self, Layout, Plan},
};

/// After a transaction `nft` rests as long as it took, at most this: it never takes more than half a core.
const MAX_REST: Duration = Duration::from_millis(50);

/// The wait before a refused transaction is tried again, as a whole; it doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(250);

/// Rules that are out of date are an outage: the wait never gets longer than this.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// Puts the table of a node's first start in place: Services that are not known yet refuse instead of
/// swallowing. Where there is a table of the last run this does nothing, for that serves better.
pub(crate) async fn prepare(shared: &Shared, range: Range) {
    if let Err(error) = nft::apply(&ruleset::render_first(&layout(shared, range))).await {
        tracing::debug!(
            error = format!("{error:#}"),
            "there are Service rules already"
        );
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut changes = shared.subscribe();
    let mut range = shared.subscribe_range();
    let range = range
        .wait_for(Option::is_some)
        .await?
        .expect("it was waited for");
    let mut applied: Option<Plan> = None;
    let mut retry = RETRY;
    loop {
        changes.changed().await?;
        // Until then the rules of the last run, if any, are the better ones.
        let Some(wanted) = complete_plan(&shared, range) else {
            continue;
        };
        let started = Instant::now();
        let text = match &applied {
            Some(applied) => ruleset::render_change(&shared.names.table, applied, &wanted),
            None => ruleset::render(&layout(&shared, range), &wanted),
        };
        if text.is_empty() {
            continue;
        }
        match nft::apply(&text).await {
            Ok(()) => {
                forget_udp(applied.as_ref(), &wanted).await;
                tracing::debug!(services = wanted.len(), elapsed = ?started.elapsed(), "applied the Service rules");
                applied = Some(wanted);
                retry = RETRY;
                sleep(started.elapsed().min(MAX_REST)).await;
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "could not apply the Service rules"
                );
                applied = None;
                sleep(retry).await;
                retry = (retry * 2).min(MAX_RETRY);
                changes.mark_changed();
            }
        }
    }
}

fn complete_plan(shared: &Shared, range: Range) -> Option<Plan> {
    let directory = shared.directory();
    directory.complete().then(|| Plan::new(&directory, range))
}

async fn forget_udp(applied: Option<&Plan>, wanted: &Plan) {
    let Some(applied) = applied else { return };
    for (entry, endpoint) in ruleset::left_udp(applied, wanted) {
        if !nft::forget_udp(&entry, &endpoint).await {
            tracing::warn!(
                %endpoint,
                "install conntrack: without it UDP clients of an endpoint that left stay with it"
            );
            return;
        }
    }
}

fn layout(shared: &Shared, range: Range) -> Layout<'_> {
    Layout {
        table: &shared.names.table,
        link: &shared.names.link,
        pod_links: &shared.names.pod_links,
        dns: shared.config.dns_address().zip(shared.dns_server()),
        functions: shared.functions_listener(),
        pods: range,
        cluster_pods: shared.config.cluster_pod_range,
        services: shared.config.service_range,
        host: pool::host_address(range),
    }
}
