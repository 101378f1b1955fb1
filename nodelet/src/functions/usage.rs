//! What revisions used: requests, CPU, memory over time, bytes sent.
//!
//! Sums of what has been closed are kept in `functions-usage.json` below the node's state, written every few seconds if
//! they changed: a process that is killed loses no more than that. A deleted revision's stay for a month.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use runtimes::{RevisionRef, ServeUsage};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{opening::Opening, table::Table};
use crate::pod::worker::Context;

/// How often the sums are written down.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// How long those of a deleted revision stay.
const KEPT: SignedDuration = SignedDuration::from_hours(31 * 24);
/// The most that are kept.
const MOST: usize = 20_000;

/// The sums of this node; clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Usage {
    sums: Arc<Mutex<Sums>>,
}

#[derive(Default)]
struct Sums {
    /// By uid.
    all: BTreeMap<String, Sum>,
    /// As they were last written down.
    written: BTreeMap<String, Sum>,
}

/// What one revision used.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sum {
    namespace: String,
    function: String,
    revision: String,
    requests: u64,
    failed: u64,
    cpu_nanoseconds: u64,
    /// Bytes × milliseconds.
    memory_byte_milliseconds: u128,
    egress_bytes: u64,
    /// Now.
    #[serde(default)]
    active: u64,
    #[serde(default)]
    instances: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Timestamp>,
}

impl Sum {
    fn add(&mut self, used: ServeUsage) {
        self.requests += used.requests;
        self.failed += used.failed;
        self.cpu_nanoseconds += u64::try_from(used.cpu.as_nanos()).unwrap_or(u64::MAX);
        self.memory_byte_milliseconds += used.memory_byte_ms;
        self.egress_bytes += used.egress_bytes;
    }
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what an opening used in all, when it was closed.
    pub(super) fn add(&self, opening: &Opening, used: ServeUsage) {
        sum_of(&mut self.lock().all, opening).add(used);
    }

    pub(super) fn all(&self) -> BTreeMap<String, Sum> {
        self.lock().all.clone()
    }

    /// Says that a revision was deleted.
    pub(super) fn end(&self, uid: &str) {
        if let Some(sum) = self.lock().all.get_mut(uid) {
            sum.deleted = Some(Timestamp::now());
        }
    }

    /// Those of other revisions than these are deleted ones'.
    fn end_others(&self, live: &HashSet<Arc<str>>) {
        let now = Timestamp::now();
        for (uid, sum) in &mut self.lock().all {
            if !live.contains(uid.as_str()) {
                sum.deleted.get_or_insert(now);
            }
        }
    }
}

fn sum_of<'a>(all: &'a mut BTreeMap<String, Sum>, opening: &Opening) -> &'a mut Sum {
    let RevisionRef { namespace, name } = &opening.name;
    all.entry(opening.uid.to_string()).or_insert_with(|| Sum {
        namespace: namespace.clone(),
        function: opening.function.clone(),
        revision: name.clone(),
        ..Sum::default()
    })
}

/// What every revision has used until now, by uid.
pub(crate) fn summary(table: &Table) -> BTreeMap<String, Sum> {
    let (mut all, open) = table.sums();
    for opening in open {
        let Some(used) = opening.usage() else {
            continue;
        };
        let sum = sum_of(&mut all, &opening);
        sum.add(used);
        sum.active = used.active;
        sum.instances = used.instances;
    }
    all
}

fn path(context: &Context) -> PathBuf {
    context.config.state_dir.join("functions-usage.json")
}

/// Reads what was written down.
pub(super) async fn load(context: &Context) {
    let path = path(context);
    let Ok(bytes) = tokio::fs::read(&path).await else {
        return;
    };
    match serde_json::from_slice::<BTreeMap<String, Sum>>(&bytes) {
        Ok(all) => {
            let mut sums = context.functions.usage().lock();
            sums.written = all.clone();
            sums.all = all;
        }
        Err(error) => warn!(%error, path = %path.display(), "read what functions used"),
    }
}

/// Writes the sums down, if they changed.
pub(super) async fn save(context: &Context, listed: bool) {
    if listed {
        let live = context.functions.uids();
        context.functions.usage().end_others(&live);
    }
    let mut all = summary(&context.functions);
    let now = Timestamp::now();
    let old = |sum: &Sum| sum.deleted.is_some_and(|at| now.duration_since(at) > KEPT);
    all.retain(|_, sum| !old(sum));
    let surplus = all.len().saturating_sub(MOST);
    let deleted = all
        .iter()
        .filter_map(|(uid, sum)| Some((sum.deleted?, uid.clone())));
    let mut deleted: Vec<_> = deleted.collect();
    deleted.sort();
    for (_, uid) in deleted.into_iter().take(surplus) {
        all.remove(&uid);
    }
    for sum in all.values_mut() {
        (sum.active, sum.instances) = (0, 0);
    }
    {
        let mut sums = context.functions.usage().lock();
        sums.all.retain(|uid, _| all.contains_key(uid));
        if sums.written == all {
            return;
        }
        sums.written = all.clone();
    }
    let path = path(context);
    let written = tokio::task::spawn_blocking(move || {
        let new = path.with_extension("json.new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    });
    let written = written
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = written {
        warn!(%error, "write down what functions used");
    }
}

/// Tells what revisions used that were ever opened here. The one family of metrics with names of objects as labels:
/// it is what is paid for, and there are no more of them than [`MOST`].
pub(crate) struct Metrics(pub(crate) Table);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all = summary(&self.0);
        type Value = fn(&Sum) -> f64;
        let counters: [(&str, &str, Value); 5] = [
            (
                "wk_function_requests",
                "Requests that a function's components were given",
                |sum| sum.requests as f64,
            ),
            (
                "wk_function_requests_failed",
                "Of those, by a trap, a limit or the deadline",
                |sum| sum.failed as f64,
            ),
            (
                "wk_function_cpu_seconds",
                "CPU time that a function's components used",
                |sum| sum.cpu_nanoseconds as f64 / 1e9,
            ),
            (
                "wk_function_memory_byte_seconds",
                "Memory of a function's instances times how long they had it",
                |sum| sum.memory_byte_milliseconds as f64 / 1e3,
            ),
            (
                "wk_function_egress_bytes",
                "Bytes of a function's responses and of connections that it made",
                |sum| sum.egress_bytes as f64,
            ),
        ];
        for (name, help, value) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for sum in all.values() {
                ConstCounter::new(value(sum)).encode(family.encode_family(&labels(sum))?)?;
            }
        }
        let help = "Instances of a function that there are now, idle ones too";
        let mut family =
            encoder.encode_descriptor("wk_function_instances", help, None, MetricType::Gauge)?;
        for sum in all.values().filter(|sum| sum.instances > 0) {
            let count = i64::try_from(sum.instances).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&labels(sum))?)?;
        }
        Ok(())
    }
}

fn labels(sum: &Sum) -> [(&'static str, &str); 3] {
    [
        ("namespace", &sum.namespace),
        ("function", &sum.function),
        ("revision", &sum.revision),
    ]
}
