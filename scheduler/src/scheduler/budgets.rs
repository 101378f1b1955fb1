//! What the watch of PodDisruptionBudgets says, taken into the snapshot.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;

use super::State;
use super::feed::{Fed, Feeds, Seen};
use super::owners::{Keyed, key, split};
use crate::budgets::Budget;

impl Feeds {
    /// The watch of what says how many pods may go.
    pub(super) fn follow_budgets(&mut self, client: &Client, changes: &mpsc::Sender<Fed>) {
        let budget = |object: PodDisruptionBudget| (key(&object), Budget::from(&object));
        let resource = "poddisruptionbudgets";
        self.follow(client, resource, changes, budget, Fed::Budget);
    }
}

impl State {
    pub(super) fn see_budget(&mut self, event: Event<Keyed<Budget>>) {
        let budgets = &mut self.snapshot.budgets;
        let listing = &mut self.listings.budgets;
        match listing.see(event, |(key, _)| Arc::clone(key)) {
            Seen::Nothing => {}
            Seen::Put((key, budget)) => {
                let (namespace, name) = split(&key);
                budgets.put(namespace, name, budget);
            }
            Seen::Gone(key) => {
                let (namespace, name) = split(&key);
                budgets.remove(namespace, name);
            }
            Seen::Listed(all) => budgets
                .retain(|namespace, name| all.contains(format!("{namespace}/{name}").as_str())),
        }
    }
}
