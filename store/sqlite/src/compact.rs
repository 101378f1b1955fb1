//! Forgets old history, a window at a time.

use sqlx::Connection;
use store::{Revision, StoreError};
use tokio::sync::watch;

use crate::{
    error::{failed, from_sql, to_sql},
    write::Writer,
};

/// Revisions of one transaction: writers wait for no more than this.
const WINDOW: u64 = 1_000;

impl Writer {
    /// Moves the floor by one window at most; answers it once there is nothing left to do.
    pub(crate) async fn compact_window(
        &mut self,
        committed: &watch::Sender<Revision>,
        until: Revision,
    ) -> Result<Option<Revision>, StoreError> {
        self.recover(committed).await?;
        let mut transaction = self
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        let floor: i64 = sqlx::query_scalar("SELECT floor FROM meta WHERE id = 1")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let from = from_sql(floor, "meta", "floor", "")?;
        // The newest row tells the next revision after a restart: it stays.
        let until = until.min(Revision(self.base.0.saturating_sub(1)));
        if until <= from {
            return Ok(Some(from));
        }
        let to = until.min(Revision(from.0 + WINDOW));
        for statement in [
            // Heads of keys that were deleted in the window and are absent still.
            "DELETE FROM heads
             WHERE deleted AND revision > ?1 AND revision <= ?2
               AND key IN (SELECT key FROM log WHERE revision > ?1 AND revision <= ?2 AND deleted)",
            // What the window superseded, and its deletes.
            "DELETE FROM log
             WHERE revision IN (
                 SELECT previous FROM log WHERE revision > ?1 AND revision <= ?2
                 UNION ALL
                 SELECT revision FROM log WHERE revision > ?1 AND revision <= ?2 AND deleted
             )",
        ] {
            sqlx::query(statement)
                .bind(to_sql(from))
                .bind(to_sql(to))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        sqlx::query("UPDATE meta SET floor = ?1 WHERE id = 1")
            .bind(to_sql(to))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok((to == until).then_some(to))
    }
}
