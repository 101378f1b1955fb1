//! `/metrics/probes`: how often probes passed and failed, in Prometheus' format under Kubernetes' names.
//!
//! Carries the names of pods, as Kubernetes' does: it is the contract of those who ask. What is counted of a container
//! goes when it is no longer probed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Kind, Target};

/// The probes of a node; cheap to clone.
#[derive(Clone, Default, Debug)]
pub(crate) struct Counts(Arc<Mutex<Table>>);

#[derive(Default, Debug)]
struct Table {
    next: u64,
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    /// All but `result`.
    labels: Box<str>,
    results: Arc<[AtomicU64; 2]>,
}

/// Counts one container's probe; dropped, it is forgotten.
#[derive(Debug)]
pub(super) struct Counter {
    counts: Counts,
    row: u64,
    results: Arc<[AtomicU64; 2]>,
}

const RESULTS: [&str; 2] = ["failed", "successful"];

impl Counts {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counter(&self, kind: Kind, target: &Target) -> Counter {
        // Names and uids need no escaping.
        let labels = format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{kind}\"",
            target.container, target.pod.namespace, target.pod.name, target.pod.uid
        );
        let results: Arc<[AtomicU64; 2]> = Arc::default();
        let mut table = self.lock();
        let row = table.next;
        table.next += 1;
        let entry = Row {
            labels: labels.into(),
            results: results.clone(),
        };
        table.rows.insert(row, entry);
        Counter {
            counts: self.clone(),
            row,
            results,
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        let name = "prober_probe_total";
        let mut text = format!(
            "# HELP {name} Cumulative number of a liveness, readiness or startup probe for a container by result.\n\
             # TYPE {name} counter\n"
        );
        for row in self.lock().rows.values() {
            for (result, count) in RESULTS.iter().zip(row.results.iter()) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = &row.labels;
                    let _ = writeln!(text, "{name}{{{labels},result=\"{result}\"}} {count}");
                }
            }
        }
        text
    }
}

impl Counter {
    pub(super) fn add(&self, passed: bool) {
        self.results[usize::from(passed)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.counts.lock().rows.remove(&self.row);
    }
}
