//! What crashes leave behind: half-made containers, and what pods shared that have no container.

use std::collections::BTreeSet;

use super::Node;

impl Node {
    /// Removes what nobody has use for. What cannot be removed now is tried again the next time.
    pub(super) async fn sweep(&self) {
        for directory in self.containers.list().unwrap_or_default() {
            // Being made, or being removed.
            let Some(_held) = self.locks.try_hold(directory.name()) else {
                continue;
            };
            if matches!(directory.record(), Ok(None))
                && let Err(error) = self.forget(&directory).await
            {
                tracing::warn!(container = directory.name(), %error, "a half-made container stays");
            }
        }
        let mut uids: BTreeSet<String> = self.pods.list().unwrap_or_default().into_iter().collect();
        uids.extend(self.cgroups.pods().unwrap_or_default());
        for uid in uids {
            if let Err(error) = self.release(&uid).await {
                tracing::warn!(uid, %error, "what a pod shared stays");
            }
        }
    }
}
