//! The session that writes.
//!
//! A batch is one call of `wk.apply`: lock, compare, write, notify and commit in one round trip. Only
//! an answer says that a batch committed, and only a refusal that it did not; everything else is
//! `Ambiguous`, and the session is given up.

use sqlx::{
    Connection, PgConnection,
    postgres::{PgDatabaseError, PgSeverity},
};
use store::{
    Commit, Expect, Group, Key, Op, Revision, StoreError, Token,
    batch::{KeySet, is_disjoint},
};
use tokio::time::timeout;

use crate::{
    connection::{DEADLINE, Identity, Sessions, from_sql, hang_up, to_sql, unavailable, within},
    read::parse_key,
};

/// The only writer of this process.
pub(crate) struct Writer {
    sessions: Sessions,
    identity: Identity,
    /// Absent after a call that failed or was given up.
    session: Option<PgConnection>,
}

/// What became of one operation: the revision it took or found, and whether its expectation held.
type Outcome = (i64, bool);

impl Writer {
    pub(crate) fn new(sessions: Sessions, identity: Identity, session: PgConnection) -> Self {
        Self {
            sessions,
            identity,
            session: Some(session),
        }
    }

    pub(crate) async fn write(
        &mut self,
        token: Token,
        batch: &[Group],
    ) -> Result<Vec<Commit>, StoreError> {
        let mut session = self.take_session().await?;
        let outcomes = match timeout(DEADLINE, apply(&mut session, token, batch)).await {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) if is_refusal(&error) => {
                self.session = Some(session);
                return Err(unavailable("the database refused a batch", error));
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the answer to a commit was lost"
                    );
                }
                hang_up(session).await;
                return Err(StoreError::Ambiguous);
            }
        };
        self.session = Some(session);
        let mut rest = &outcomes[..];
        batch
            .iter()
            .map(|group| {
                let (of_group, after) = rest.split_at(group.ops.len().min(rest.len()));
                rest = after;
                commit(group, of_group)
            })
            .collect()
    }

    pub(crate) async fn find_token(
        &mut self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError> {
        let mut session = self.take_session().await?;
        let rows: Vec<(String, i64)> = within(
            sqlx::query_as("SELECT key, revision FROM wk.resolve($1, $2)")
                .bind(token.0.cast_signed())
                .bind(to_sql(after))
                .fetch_all(&mut session),
        )
        .await?;
        self.session = Some(session);
        rows.into_iter()
            .map(|(key, revision)| {
                let revision = from_sql(revision, "log", "revision", &key)?;
                Ok((parse_key(key, "log")?, revision))
            })
            .collect()
    }

    /// Takes the session out, so that a call that is given up takes it along.
    async fn take_session(&mut self) -> Result<PgConnection, StoreError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.sessions.writer(&self.identity).await,
        }
    }
}

/// One call if no key is written twice; else one transaction of several.
async fn apply(
    session: &mut PgConnection,
    token: Token,
    batch: &[Group],
) -> Result<Vec<Outcome>, sqlx::Error> {
    if is_disjoint(batch) {
        return apply_disjoint(session, token, batch).await;
    }
    let mut transaction = session.begin().await?;
    let mut outcomes = Vec::new();
    let mut rest = batch;
    while !rest.is_empty() {
        let mut keys = KeySet::default();
        // A group alone is always taken: the writer above refuses one that repeats a key.
        let size = rest.iter().take_while(|group| keys.add(group)).count();
        let (run, after) = rest.split_at(size.max(1));
        rest = after;
        outcomes.extend(apply_disjoint(&mut transaction, token, run).await?);
    }
    transaction.commit().await?;
    Ok(outcomes)
}

async fn apply_disjoint(
    session: &mut PgConnection,
    token: Token,
    batch: &[Group],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut groups: Vec<i32> = Vec::new();
    let mut keys: Vec<&str> = Vec::new();
    let mut expecteds: Vec<i64> = Vec::new();
    let mut operations: Vec<i16> = Vec::new();
    let mut contents: Vec<Option<&[u8]>> = Vec::new();
    for (number, group) in (0..).zip(batch) {
        for op in &group.ops {
            let (operation, value) = match op {
                Op::Check { .. } => (0, None),
                Op::Put { value, .. } => (1, Some(&value[..])),
                Op::Delete { value, .. } => (2, Some(&value[..])),
            };
            groups.push(number);
            keys.push(op.key().as_str());
            expecteds.push(match op.expect() {
                Expect::Absent => 0,
                Expect::At(revision) => to_sql(revision),
            });
            operations.push(operation);
            contents.push(value);
        }
    }
    let mut rows: Vec<(i64, i64, bool)> = sqlx::query_as(
        "SELECT place, revision, holds
         FROM wk.apply($1, $2, $3, $4, $5, $6)",
    )
    .bind(token.0.cast_signed())
    .bind(groups)
    .bind(keys)
    .bind(expecteds)
    .bind(operations)
    .bind(contents)
    .fetch_all(session)
    .await?;
    rows.sort_unstable_by_key(|(place, ..)| *place);
    Ok(rows
        .into_iter()
        .map(|(_, revision, holds)| (revision, holds))
        .collect())
}

/// A group's commit, from what became of its operations.
fn commit(group: &Group, outcomes: &[Outcome]) -> Result<Commit, StoreError> {
    let mut revisions = Vec::with_capacity(group.ops.len());
    for (op, (revision, holds)) in group.ops.iter().zip(outcomes) {
        let revision = from_sql(*revision, "log", "revision", op.key().as_str())?;
        if !holds {
            return Ok(Commit::Conflict {
                key: op.key().clone(),
                current: Some(revision).filter(|revision| *revision != Revision(0)),
            });
        }
        revisions.push(revision);
    }
    Ok(Commit::Done(revisions))
}

/// True if the server says that it rolled the transaction back and goes on. When it ends the session,
/// or the link breaks, the commit may have happened.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| error.severity() == PgSeverity::Error),
        // Raised before anything was sent.
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}
