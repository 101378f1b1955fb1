//! What the watches of claims, volumes and classes say, taken into the snapshot.

use std::sync::Arc;

use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::State;
use super::feed::Seen;
use crate::framework::Change;
use crate::storage::{Claim, ClaimKey, Class, Volume};

/// What a change of storage changed.
enum Stored {
    Same,
    /// Something, and these claims or their volumes.
    Changed(Vec<ClaimKey>),
    /// Anything.
    Listed,
}

impl Stored {
    fn changed(changed: bool, claims: impl IntoIterator<Item = ClaimKey>) -> Self {
        if changed {
            Self::Changed(claims.into_iter().collect())
        } else {
            Self::Same
        }
    }
}

impl State {
    pub(super) fn see_claim(&mut self, event: Event<Claim>) {
        let storage = &mut self.snapshot.storage;
        let claims = &mut self.listings.claims;
        let changed = match claims.see(event, |claim| Arc::clone(&claim.key)) {
            Seen::Nothing => Stored::Same,
            Seen::Put(claim) => {
                let key = Arc::clone(&claim.key);
                Stored::changed(storage.put_claim(claim), [key])
            }
            Seen::Gone(key) => {
                storage.remove_claim(&key);
                Stored::Changed(vec![key])
            }
            Seen::Listed(all) => {
                storage.retain_claims(|key| all.contains(key));
                Stored::Listed
            }
        };
        self.stored(changed);
    }

    pub(super) fn see_volume(&mut self, event: Event<Volume>) {
        let storage = &mut self.snapshot.storage;
        let volumes = &mut self.listings.volumes;
        let claim = |volume: &Volume| volume.claim.as_ref().map(|(key, _)| key.as_str().into());
        let changed = match volumes.see(event, |volume| Arc::clone(&volume.name)) {
            Seen::Nothing => Stored::Same,
            Seen::Put(volume) => {
                let before = storage.volume(&volume.name).and_then(claim);
                let claims = before.into_iter().chain(claim(&volume));
                Stored::changed(storage.put_volume(volume), claims)
            }
            Seen::Gone(name) => {
                let claims = storage.volume(&name).and_then(claim);
                storage.remove_volume(&name);
                Stored::changed(true, claims)
            }
            Seen::Listed(all) => {
                storage.retain_volumes(|name| all.contains(name));
                Stored::Listed
            }
        };
        self.stored(changed);
    }

    pub(super) fn see_class(&mut self, event: Event<(String, Class)>) {
        let storage = &mut self.snapshot.storage;
        let changed = match self
            .listings
            .classes
            .see(event, |(name, _)| name.as_str().into())
        {
            Seen::Nothing => Stored::Same,
            Seen::Put((name, class)) => Stored::changed(storage.put_class(name, class), []),
            Seen::Gone(name) => {
                storage.remove_class(&name);
                Stored::changed(true, [])
            }
            Seen::Listed(all) => {
                storage.retain_classes(|name| all.contains(name));
                Stored::Listed
            }
        };
        self.stored(changed);
    }

    /// After a change of storage: pods that wait for it, and those that none helped, are looked at again.
    fn stored(&mut self, changed: Stored) {
        match changed {
            Stored::Same => return,
            Stored::Changed(claims) => {
                for claim in claims {
                    self.waiting.stir_claim(&claim);
                }
                self.waiting.stir_permits();
            }
            Stored::Listed => self.waiting.stir_all(),
        }
        self.queue.wake(&Change::Storage, Instant::now());
    }
}
