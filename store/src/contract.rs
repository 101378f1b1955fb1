//! What a back end does, and the values that pass through it.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Key;

/// A place in the one history, in commit order over all resources; 0 is before everything.
/// On the wire it is `resourceVersion`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What must be true of a key for an operation on it to be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// There is no such key.
    Absent,
    /// Its latest change has this revision.
    At(Revision),
}

/// One operation of a group.
#[derive(Clone, Debug)]
pub enum Op {
    /// Changes nothing; the group fails unless the expectation holds.
    Check { key: Key, expect: Expect },
    /// Writes a value.
    Put {
        key: Key,
        expect: Expect,
        value: Bytes,
    },
    /// Removes the key; `value` is the last state, kept in the history for watchers.
    Delete {
        key: Key,
        expect: Expect,
        value: Bytes,
    },
}

impl Op {
    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Check { key, .. } | Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// What must hold.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Check { expect, .. } | Self::Put { expect, .. } | Self::Delete { expect, .. } => {
                *expect
            }
        }
    }
}

/// Operations that commit wholly or not at all. A key appears at most once.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// In the order in which they take revisions.
    pub ops: Vec<Op>,
}

/// How one group of a batch ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Commit {
    /// The revision of each operation, in order; a check has the revision it found (0 if absent).
    Done(Vec<Revision>),
    /// The first operation whose expectation failed, and what is there now (`None`: absent).
    Conflict { key: Key, current: Option<Revision> },
}

/// Names one batch of one writer for ever, so that a commit whose answer was lost is found again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(pub u64);

/// The latest version of a key, or the version at a past revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: Key,
    /// When this version was written.
    pub revision: Revision,
    /// When the key was created (the latest time, if it was deleted in between).
    pub created: Revision,
    pub value: Bytes,
}

/// One row of the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key's state after this change; for a delete, its last state before it.
    pub entry: Entry,
    /// The key's revision before this change; 0 if it had none.
    pub previous: Revision,
    /// True if this change removed the key.
    pub deleted: bool,
}

impl Change {
    /// What [`Change::previous`] is for a row that is linked to `linked`: a key that is created again
    /// is linked to its delete, and that link is no revision that a reader ever saw.
    pub fn shown_previous(revision: Revision, created: Revision, linked: Revision) -> Revision {
        if created == revision {
            Revision(0)
        } else {
            linked
        }
    }
}

/// Some entries in key order, of one consistent revision.
#[derive(Clone, Debug)]
pub struct Page {
    /// The state that the entries are of.
    pub revision: Revision,
    pub entries: Vec<Entry>,
    /// True if keys follow the last entry.
    pub more: bool,
}

/// Why a call to a store failed, by what the caller does next.
#[derive(thiserror::Error, Debug)]
pub enum StoreError {
    /// The history before `floor` is gone: list anew.
    #[error("revision {asked} was compacted: the history starts after {floor}")]
    Compacted { asked: Revision, floor: Revision },
    /// A revision that this store has not reached: the caller holds another store's, or waits.
    #[error("revision {asked} is in the future: the store is at {current}")]
    Future { asked: Revision, current: Revision },
    /// The database cannot be reached or did not answer: try again later.
    #[error("the store is unavailable: {message}")]
    Unavailable {
        message: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The cache and its writer have ended: the process is about to.
    #[error("the store is unavailable: it has stopped")]
    Stopped,
    /// The outcome of a write is unknown: ask with [`Store::find_token`] before anything else.
    #[error("the answer to a commit was lost")]
    Ambiguous,
    /// What the database holds is not what was written: someone must look.
    #[error("the store is damaged: table {table}, column {column}, key {key}")]
    Corrupt {
        table: &'static str,
        column: &'static str,
        key: String,
    },
}

/// A back end. One history, one writer at a time; every method is safe to call from many tasks.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits a batch in one transaction: each group wholly or not at all, in order, a later group
    /// seeing the earlier ones. Answers one [`Commit`] a group. Wakes every process' [`Store::wait`].
    async fn write(&self, token: Token, batch: &[Group]) -> Result<Vec<Commit>, StoreError>;

    /// The revisions that a batch took, newest last, if it was committed after `after`. If the answer
    /// is empty, the batch wrote nothing and never will: a late arrival of it is refused.
    async fn find_token(
        &self,
        token: Token,
        after: Revision,
    ) -> Result<Vec<(Key, Revision)>, StoreError>;

    /// The revision of the newest commit.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Reads the latest version of one key.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Reads up to `limit` entries whose keys start with `prefix` and come after `after`,
    /// as they are now or as they were `at` a revision not yet compacted.
    async fn list(
        &self,
        prefix: &str,
        at: Option<Revision>,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Reads up to `limit` changes after a revision, oldest first; fewer means there are no more yet.
    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError>;

    /// The revision before which history is gone.
    async fn floor(&self) -> Result<Revision, StoreError>;

    /// Forgets what was superseded or deleted up to `until`, in small windows; never the newest row.
    /// Answers the new floor.
    async fn compact(&self, until: Revision) -> Result<Revision, StoreError>;

    /// Returns when there may be changes after `after`: a wake-up, or the back end's poll interval.
    async fn wait(&self, after: Revision);
}
