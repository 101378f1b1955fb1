//! Keeps the host's table of policies as they say (privileged), for pods whose traffic this process does
//! not see.
//!
//! A change is applied at once; what changes while `nft` runs goes into the next transaction. The table of
//! the last run stays until everything is known.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    plan::Plan,
    ruleset::{self, Layout},
};
use crate::{handle::Shared, nft};

/// After a plan it rests as long as that took, at most this: it never takes more than half a core.
const MAX_REST: Duration = Duration::from_millis(50);

/// The wait before a refused transaction is tried again, as a whole; it doubles up to [`MAX_RETRY`].
const RETRY: Duration = Duration::from_millis(250);

/// Rules that are out of date are an outage: the wait never gets longer than this.
const MAX_RETRY: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) -> anyhow::Result<()> {
    // Pods of the last run are known with the node's range.
    shared.subscribe_range().wait_for(Option::is_some).await?;
    let mut changes = shared.subscribe_policies();
    let mut applied: Option<Plan> = None;
    let mut retry = RETRY;
    loop {
        changes.changed().await?;
        let started = Instant::now();
        let count = *changes.borrow_and_update();
        let Some(wanted) = shared.policies().plan() else {
            continue;
        };
        let table = &shared.names.policies;
        let text = match &applied {
            Some(applied) => ruleset::render_change(table, applied, &wanted),
            None => {
                let layout = Layout {
                    table,
                    dns: shared.dns_server(),
                    functions: shared.functions_listener(),
                };
                ruleset::render(&layout, &wanted)
            }
        };
        let done = match text.is_empty() {
            true => Ok(()),
            false => nft::apply(&text).await,
        };
        match done {
            Ok(()) => {
                applied = Some(wanted);
                retry = RETRY;
                shared.policies_applied(count);
                sleep(started.elapsed().min(MAX_REST)).await;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "could not apply the NetworkPolicies of containers");
                applied = None;
                sleep(retry).await;
                retry = (retry * 2).min(MAX_RETRY);
                changes.mark_changed();
            }
        }
    }
}
