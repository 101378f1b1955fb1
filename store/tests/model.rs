//! Random batches on the reference back end do what a map of keys does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use store::{Commit, Expect, Group, Key, MemoryStore, Op, ResourceKey, Revision, Store, Token};

/// The simplest thing that is right: every state there ever was.
#[derive(Default)]
struct Model {
    states: Vec<State>,
}

/// Name to revision, revision of creation, value.
type State = BTreeMap<u8, (u64, u64, u8)>;

/// What an operation asks for; `stale` makes its expectation wrong if there is anything to expect.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    name: u8,
    value: u8,
    stale: bool,
}

fn key(name: u8) -> Key {
    ResourceKey::new("", "pods").key("default", &format!("p{name}"))
}

fn step() -> impl Strategy<Value = Step> {
    (0..4_u8, 0..4_u8, any::<u8>(), prop::bool::weighted(0.1)).prop_map(
        |(kind, name, value, stale)| Step {
            kind,
            name,
            value,
            stale,
        },
    )
}

impl Model {
    fn newest(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    /// The operation that a step means now, as it is carried out first of its batch.
    fn op(&self, step: &Step) -> Op {
        let revision = self
            .newest()
            .get(&step.name)
            .map(|(revision, ..)| *revision);
        let expect = match revision {
            Some(revision) if !step.stale => Expect::At(Revision(revision)),
            None if step.stale => Expect::At(Revision(1)),
            _ => Expect::Absent,
        };
        let (key, value) = (key(step.name), Bytes::from(vec![step.value]));
        match step.kind {
            0 => Op::Check { key, expect },
            1 => Op::Delete { key, expect, value },
            _ => Op::Put { key, expect, value },
        }
    }

    /// Carries a group out on every state that it makes.
    fn write(&mut self, group: &[(Step, Op)]) -> Commit {
        let before = self.newest();
        for (step, op) in group {
            let current = before
                .get(&step.name)
                .map(|(revision, ..)| Revision(*revision));
            let expected = match op.expect() {
                Expect::Absent => None,
                Expect::At(revision) => Some(revision),
            };
            if current != expected {
                return Commit::Conflict {
                    key: key(step.name),
                    current,
                };
            }
        }
        let commit = |(step, op): &(Step, Op)| {
            let mut state = self.newest();
            let next = self.states.len() as u64 + 1;
            let current = state.get(&step.name).copied();
            match op {
                Op::Check { .. } => return Revision(current.map_or(0, |(revision, ..)| revision)),
                Op::Delete { .. } => drop(state.remove(&step.name)),
                Op::Put { .. } => {
                    let created = current.map_or(next, |(_, created, _)| created);
                    state.insert(step.name, (next, created, step.value));
                }
            }
            self.states.push(state);
            Revision(next)
        };
        Commit::Done(group.iter().map(commit).collect())
    }
}

async fn run(batches: Vec<Vec<Vec<Step>>>) {
    let store = MemoryStore::new();
    let mut model = Model::default();
    for (token, batch) in (1..).zip(batches) {
        let mut groups = Vec::new();
        let mut expected = Vec::new();
        for mut steps in batch {
            steps.sort_by_key(|step| step.name);
            steps.dedup_by_key(|step| step.name);
            let group: Vec<(Step, Op)> = steps
                .into_iter()
                .map(|step| (step.clone(), model.op(&step)))
                .collect();
            expected.push(model.write(&group));
            groups.push(Group {
                ops: group.into_iter().map(|(_, op)| op).collect(),
            });
        }
        assert_eq!(store.write(Token(token), &groups).await.unwrap(), expected);
    }
    for (at, state) in (1..).map(Revision).zip(&model.states) {
        let page = store.list("", Some(at), None, 100).await.unwrap();
        let listed: Vec<_> = page
            .entries
            .into_iter()
            .map(|e| (e.key, e.revision.0, e.created.0, e.value))
            .collect();
        let expected: Vec<_> = state
            .iter()
            .map(|(name, (revision, created, value))| {
                (key(*name), *revision, *created, Bytes::from(vec![*value]))
            })
            .collect();
        assert_eq!(listed, expected, "at {at}");
    }
}

proptest! {
    #[test]
    fn random_batches_do_what_a_map_does(
        batches in vec(vec(vec(step(), 1..4), 1..4), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(batches));
    }
}
