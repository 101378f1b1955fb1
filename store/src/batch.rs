//! Decides what a batch does to a state: which groups hold, and which rows they write.
//!
//! Pure: reads the heads it is given, writes nothing. Never used by a back end that compares and
//! swaps inside its database.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::{Commit, Expect, Group, Key, Op, Revision};

/// The newest change of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub revision: Revision,
    pub created: Revision,
    /// True if that change removed the key.
    pub deleted: bool,
}

/// One row that a batch adds to the log.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    pub revision: Revision,
    pub key: &'a Key,
    pub created: Revision,
    /// The key's row before this one, a delete included; 0 if there is none.
    pub previous: Revision,
    pub deleted: bool,
    pub value: &'a Bytes,
}

/// The outcome of a batch.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// One a group.
    pub commits: Vec<Commit>,
    /// In revision order, without gaps.
    pub rows: Vec<Row<'a>>,
}

/// Plans `batch` on a state whose newest revision is `base`; `heads` has every key of the batch that
/// has rows. Each group holds wholly or not at all and sees the groups before it.
pub fn plan<'a>(base: Revision, mut heads: HashMap<Key, Head>, batch: &'a [Group]) -> Plan<'a> {
    let mut plan = Plan {
        commits: Vec::with_capacity(batch.len()),
        rows: Vec::with_capacity(batch.len()),
    };
    let mut newest = base;
    for group in batch {
        let commit = match conflict(&heads, group) {
            Some(conflict) => conflict,
            None => Commit::Done(
                group
                    .ops
                    .iter()
                    .map(|op| apply(&mut heads, &mut newest, &mut plan.rows, op))
                    .collect(),
            ),
        };
        plan.commits.push(commit);
    }
    plan
}

/// True if `groups` may share one set-based statement: no key that one operation writes is named by
/// another. Keys that are only checked may repeat.
pub fn is_disjoint<'a>(groups: impl IntoIterator<Item = &'a Group>) -> bool {
    let mut keys = KeySet::default();
    groups.into_iter().all(|group| keys.add(group))
}

/// The keys that some groups name, and whether they write them.
#[derive(Default)]
pub struct KeySet {
    written: HashSet<Key>,
    checked: HashSet<Key>,
}

impl KeySet {
    /// Adds a group's keys; false, and nothing is added, if one of them is written by either side.
    pub fn add(&mut self, group: &Group) -> bool {
        let taken = |op: &Op| {
            self.written.contains(op.key())
                || !matches!(op, Op::Check { .. }) && self.checked.contains(op.key())
        };
        if group.ops.iter().any(taken) {
            return false;
        }
        for op in &group.ops {
            match op {
                Op::Check { key, .. } => self.checked.insert(key.clone()),
                Op::Put { key, .. } | Op::Delete { key, .. } => self.written.insert(key.clone()),
            };
        }
        true
    }
}

fn current(heads: &HashMap<Key, Head>, key: &Key) -> Option<Head> {
    heads.get(key).copied().filter(|head| !head.deleted)
}

fn conflict(heads: &HashMap<Key, Head>, group: &Group) -> Option<Commit> {
    group.ops.iter().find_map(|op| {
        let current = current(heads, op.key()).map(|head| head.revision);
        let holds = match op.expect() {
            Expect::Absent => current.is_none(),
            Expect::At(revision) => current == Some(revision),
        };
        (!holds).then(|| Commit::Conflict {
            key: op.key().clone(),
            current,
        })
    })
}

fn apply<'a>(
    heads: &mut HashMap<Key, Head>,
    newest: &mut Revision,
    rows: &mut Vec<Row<'a>>,
    op: &'a Op,
) -> Revision {
    let (key, value, deleted) = match op {
        Op::Check { key, .. } => {
            return current(heads, key).map_or(Revision(0), |head| head.revision);
        }
        Op::Put { key, value, .. } => (key, value, false),
        Op::Delete { key, value, .. } => (key, value, true),
    };
    *newest = Revision(newest.0 + 1);
    let head = Head {
        revision: *newest,
        created: current(heads, key).map_or(*newest, |head| head.created),
        deleted,
    };
    let previous = heads.insert(key.clone(), head);
    rows.push(Row {
        revision: head.revision,
        key,
        created: head.created,
        previous: previous.map_or(Revision(0), |head| head.revision),
        deleted,
        value,
    });
    head.revision
}
