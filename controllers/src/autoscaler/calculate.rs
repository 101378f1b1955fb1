//! How many replicas a metric asks for: Kubernetes' arithmetic. Pure.
//!
//! Values are in thousandths, as quantities are compared. Pods that are not ready count as using nothing
//! when the rest says more, and those whose usage is unknown as using nothing or all, whichever keeps the
//! answer nearer to what there is; neither ever turns the direction round.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::Timing;
use crate::pod;

/// What a pod used: the mean over a window that ended at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) value: i64,
    pub(super) at: Timestamp,
    pub(super) window: SignedDuration,
}

/// By the pods' names.
pub(super) type Usages = BTreeMap<String, Usage>;

/// How far from its target a metric may be and nothing is done about it: shares of the target.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// The replicas there are, and what the calculation is made with.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// How many replicas the target should have now.
    pub(super) wanted: i32,
    /// How many it has.
    pub(super) present: i32,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) tolerance: Tolerance,
    pub(super) timing: Timing,
    pub(super) now: Timestamp,
}

/// How the pods count.
#[derive(Default, Debug)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

/// What a calculation came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Outcome {
    pub(super) replicas: i32,
    /// What there is now, for the status.
    pub(super) value: i64,
    /// The same in percent of what the pods request, where that is the target.
    pub(super) percent: Option<i32>,
}

impl Scene<'_> {
    /// So many that each pod uses `target` percent of what it requests. `requests` are by pod.
    pub(super) fn by_utilization(
        &self,
        cpu: bool,
        usages: &Usages,
        requests: impl FnOnce() -> Result<BTreeMap<String, i64>, String>,
        target: i32,
    ) -> Result<Outcome, String> {
        let (groups, values) = self.grouped(cpu, usages)?;
        let requests = requests()?;
        let measure = |values: &BTreeMap<String, i64>| {
            let known = values
                .iter()
                .filter_map(|(pod, value)| Some((i128::from(*value), *requests.get(pod)?)));
            let (mut used, mut requested, mut count) = (0, 0, 0);
            for (value, request) in known {
                (used, requested, count) =
                    (used + value, requested + i128::from(request), count + 1);
            }
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
            let mean = i64::try_from(used / count).unwrap_or(i64::MAX);
            Ok((percent, mean))
        };
        let (percent, value) = measure(&values)?;
        let ratio =
            |values: &BTreeMap<String, i64>| Ok(f64::from(measure(values)?.0) / f64::from(target));
        let whole = |pod: &str| {
            let request = i128::from(requests.get(pod).copied().unwrap_or_default());
            i64::try_from(request * i128::from(target.max(100)) / 100).unwrap_or(i64::MAX)
        };
        let replicas = self.settle(&groups, values, whole, ratio)?;
        let percent = Some(percent);
        Ok(Outcome {
            replicas,
            value,
            percent,
        })
    }

    /// So many that each pod has `target` of something.
    pub(super) fn by_average(
        &self,
        cpu: bool,
        usages: &Usages,
        target: i64,
    ) -> Result<Outcome, String> {
        let (groups, values) = self.grouped(cpu, usages)?;
        let value = mean(&values);
        let ratio = |values: &BTreeMap<String, i64>| Ok(ratio(mean(values), target));
        let replicas = self.settle(&groups, values, |_| target, ratio)?;
        Ok(Outcome {
            replicas,
            value,
            percent: None,
        })
    }

    /// So many that something which all share comes to `target`.
    pub(super) fn by_total(&self, value: i64, target: i64) -> Result<Outcome, String> {
        let ratio = ratio(value, target);
        let replicas = if self.wanted == 0 {
            ceil(ratio)
        } else if self.tolerance.covers(ratio) {
            self.wanted
        } else if self.pods.is_empty() {
            return Err(format!("unable to calculate ready pods: {NO_PODS}"));
        } else {
            let ready = |pod: &&Arc<Pod>| pod::phase(pod) == "Running" && pod::ready(pod);
            ceil(ratio * count(self.pods.iter().filter(ready).count()))
        };
        Ok(Outcome {
            replicas,
            value,
            percent: None,
        })
    }

    /// So many that each has a share of `target` in something.
    pub(super) fn by_share(&self, total: i64, target: i64) -> Outcome {
        let there_are = f64::from(self.present);
        let replicas = if self.tolerance.covers(ratio(total, target) / there_are) {
            self.present
        } else {
            ceil(ratio(total, target))
        };
        #[expect(clippy::cast_precision_loss, reason = "a share for show")]
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        let value = (total as f64 / there_are).ceil() as i64;
        Outcome {
            replicas,
            value,
            percent: None,
        }
    }

    /// The pods as they count, and the usage of those that do.
    fn grouped(
        &self,
        cpu: bool,
        usages: &Usages,
    ) -> Result<(Groups, BTreeMap<String, i64>), String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let groups = self.group(cpu, usages);
        let mut values: BTreeMap<String, i64> = usages
            .iter()
            .map(|(pod, usage)| (pod.clone(), usage.value))
            .collect();
        for pod in groups.ignored.iter().chain(&groups.unready) {
            values.remove(pod);
        }
        if values.is_empty() {
            let text = "did not receive metrics for targeted pods (pods might be unready)";
            return Err(text.to_owned());
        }
        Ok((groups, values))
    }

    fn group(&self, cpu: bool, usages: &Usages) -> Groups {
        let mut groups = Groups::default();
        for pod in self.pods {
            let phase = pod::phase(pod);
            let list = if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
                &mut groups.ignored
            } else if phase == "Pending" {
                &mut groups.unready
            } else {
                match usages.get(&pod.name_any()) {
                    None => &mut groups.missing,
                    Some(usage) if cpu && !self.is_telling(pod, usage) => &mut groups.unready,
                    Some(_) => {
                        groups.ready += 1;
                        continue;
                    }
                }
            };
            list.push(pod.name_any());
        }
        groups
    }

    /// Whether what a pod spent of CPU says something of its work, and not of its start.
    fn is_telling(&self, pod: &Pod, usage: &Usage) -> bool {
        let status = pod.status.as_ref();
        let begun = status.and_then(|status| status.start_time.as_ref());
        let (Some(begun), Some(condition)) = (begun, pod::condition(pod, "Ready")) else {
            return false;
        };
        let turned = condition.last_transition_time.as_ref();
        let turned = turned.map_or(Timestamp::MIN, |time| time.0);
        let unready = condition.status == "False";
        if after(begun.0, self.timing.cpu_initialization) > self.now {
            let whole_window = turned
                .saturating_add(usage.window)
                .unwrap_or(Timestamp::MAX);
            !unready && usage.at >= whole_window
        } else {
            !(unready && after(begun.0, self.timing.initial_readiness) > turned)
        }
    }

    /// The replicas, once pods that say nothing count as what keeps nearest to what there is.
    fn settle(
        &self,
        groups: &Groups,
        mut values: BTreeMap<String, i64>,
        whole: impl Fn(&str) -> i64,
        ratio: impl Fn(&BTreeMap<String, i64>) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let seen = ratio(&values)?;
        let unready = !groups.unready.is_empty() && seen > 1.0;
        if !unready && groups.missing.is_empty() {
            return Ok(if self.tolerance.covers(seen) {
                self.wanted
            } else {
                ceil(seen * count(groups.ready))
            });
        }
        for pod in &groups.missing {
            if seen < 1.0 {
                values.insert(pod.clone(), whole(pod));
            } else if seen > 1.0 {
                values.insert(pod.clone(), 0);
            }
        }
        if unready {
            values.extend(groups.unready.iter().map(|pod| (pod.clone(), 0)));
        }
        let assumed = ratio(&values)?;
        let turned = (seen < 1.0 && assumed > 1.0) || (seen > 1.0 && assumed < 1.0);
        if self.tolerance.covers(assumed) || turned {
            return Ok(self.wanted);
        }
        let replicas = ceil(assumed * count(values.len()));
        let turned =
            (assumed < 1.0 && replicas > self.wanted) || (assumed > 1.0 && replicas < self.wanted);
        Ok(if turned { self.wanted } else { replicas })
    }
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";

fn after(time: Timestamp, seconds: std::time::Duration) -> Timestamp {
    time.saturating_add(seconds).unwrap_or(Timestamp::MAX)
}

fn mean(values: &BTreeMap<String, i64>) -> i64 {
    let total: i128 = values.values().map(|value| i128::from(*value)).sum();
    let count = i128::try_from(values.len()).unwrap_or(i128::MAX).max(1);
    i64::try_from(total / count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more")]
fn ratio(value: i64, target: i64) -> f64 {
    value as f64 / target as f64
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many pods")]
fn count(pods: usize) -> f64 {
    pods as f64
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// Each pod requests 1000 and is a word: what it uses (`300`, or `?` for unknown), and how it is: nothing
    /// for ready, `-` not ready and new, `*` ready since a moment, `_` not ready any more, `p` pending,
    /// `x` failed, `!` being deleted.
    fn scene(words: &str) -> (Vec<Arc<Pod>>, Usages) {
        let (mut pods, mut usages) = (Vec::new(), Usages::new());
        for (index, word) in words.split_whitespace().enumerate() {
            let name = format!("p{index}");
            let usage = word.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '?');
            let state = &word[usage.len()..];
            if let Ok(value) = usage.parse() {
                let window = SignedDuration::from_secs(30);
                let at = NOW.parse().expect("a time");
                usages.insert(name.clone(), Usage { value, at, window });
            }
            let (begun, ready, turned) = match state {
                "-" => ("2026-01-01T00:59:00Z", "False", "2026-01-01T00:59:00Z"),
                "*" => ("2026-01-01T00:59:00Z", "True", "2026-01-01T00:59:50Z"),
                "_" => ("2026-01-01T00:00:00Z", "False", "2026-01-01T00:30:00Z"),
                _ => ("2026-01-01T00:00:00Z", "True", "2026-01-01T00:00:05Z"),
            };
            let phase = match state {
                "p" => "Pending",
                "x" => "Failed",
                _ => "Running",
            };
            let deleted = (state == "!").then_some(NOW);
            let pod = json!({
                "metadata": {"name": name, "deletionTimestamp": deleted},
                "status": {"phase": phase, "startTime": begun, "conditions": [
                    {"type": "Ready", "status": ready, "lastTransitionTime": turned}]},
            });
            pods.push(Arc::new(serde_json::from_value(pod).expect("a pod")));
        }
        (pods, usages)
    }

    fn with<T>(wanted: i32, words: &str, ask: impl FnOnce(Scene<'_>, &Usages) -> T) -> T {
        let (pods, usages) = scene(words);
        let scene = Scene {
            wanted,
            present: wanted,
            pods: &pods,
            tolerance: Tolerance { down: 0.1, up: 0.1 },
            timing: Timing::default(),
            now: NOW.parse().expect("a time"),
        };
        ask(scene, &usages)
    }

    fn show(outcome: Result<Outcome, String>) -> String {
        match outcome {
            Ok(Outcome {
                replicas,
                value,
                percent: Some(percent),
            }) => format!("{replicas} ({percent}%, {value})"),
            Ok(outcome) => format!("{} ({})", outcome.replicas, outcome.value),
            Err(error) => error,
        }
    }

    #[track_caller]
    fn check_cpu(wanted: i32, words: &str, target: i32, expect: Expect) {
        let outcome = with(wanted, words, |scene, usages| {
            let requests = scene
                .pods
                .iter()
                .map(|pod| (pod.name_any(), 1000))
                .collect();
            scene.by_utilization(true, usages, || Ok(requests), target)
        });
        expect.assert_eq(&show(outcome));
    }

    #[track_caller]
    fn check_average(wanted: i32, words: &str, target: i64, expect: Expect) {
        let outcome = with(wanted, words, |scene, usages| {
            scene.by_average(false, usages, target)
        });
        expect.assert_eq(&show(outcome));
    }

    #[test]
    fn replicas_follow_the_ratio_of_usage_to_target() {
        check_cpu(3, "300 500 700", 30, expect!["5 (50%, 500)"]);
        check_cpu(5, "100 300 500 250 250", 50, expect!["3 (28%, 280)"]);
        check_cpu(1, "2000", 50, expect!["4 (200%, 2000)"]);
        check_average(3, "20000 10000 30000", 15000, expect!["4 (20000)"]);
    }

    #[test]
    fn within_the_tolerance_nothing_changes() {
        check_cpu(3, "1010 1030 1020", 100, expect!["3 (102%, 1020)"]);
        check_cpu(2, "110 110", 10, expect!["2 (11%, 110)"]);
        check_cpu(2, "120 120", 10, expect!["3 (12%, 120)"]);
        check_average(3, "20000 21000 21000", 20000, expect!["3 (20666)"]);
    }

    #[test]
    fn pods_that_start_dampen_going_up_and_do_not_count_going_down() {
        check_cpu(3, "300- 500 700", 30, expect!["4 (60%, 600)"]);
        check_cpu(3, "300* 500 700", 30, expect!["4 (60%, 600)"]);
        check_cpu(3, "0p 500 700", 30, expect!["4 (60%, 600)"]);
        check_cpu(3, "400- 500- 700", 30, expect!["3 (70%, 700)"]);
        check_cpu(5, "100- 300 500 250 250", 50, expect!["3 (32%, 325)"]);
    }

    #[test]
    fn a_pod_that_was_ready_once_counts_though_it_is_not_now() {
        check_cpu(3, "300_ 500 700", 30, expect!["5 (50%, 500)"]);
    }

    #[test]
    fn pods_that_go_or_failed_are_nobodys_business() {
        check_cpu(2, "500 700 ?x 900!", 30, expect!["4 (60%, 600)"]);
    }

    #[test]
    fn unknown_usage_counts_as_none_going_up_and_as_all_going_down() {
        check_cpu(4, "400 95 ? ?", 100, expect!["3 (24%, 247)"]);
        check_cpu(3, "100 450 ?", 20, expect!["3 (27%, 275)"]);
        check_cpu(2, "400 ?", 300, expect!["2 (40%, 400)"]);
        check_cpu(3, "? 1000 -", 50, expect!["3 (100%, 1000)"]);
        check_average(4, "10 ? ? ?", 100, expect!["4 (10)"]);
    }

    #[test]
    fn without_pods_or_usage_there_is_no_answer() {
        check_cpu(
            1,
            "",
            50,
            expect!["no pods returned by selector while calculating replica count"],
        );
        check_cpu(
            1,
            "500-",
            50,
            expect!["did not receive metrics for targeted pods (pods might be unready)"],
        );
        let extra = with(1, "500", |scene, usages| {
            scene.by_utilization(false, usages, || Ok(BTreeMap::new()), 50)
        });
        expect!["no metrics returned matched known pods"].assert_eq(&show(extra));
    }

    #[track_caller]
    fn check_total(wanted: i32, words: &str, value: i64, target: i64, expect: Expect) {
        let outcome = with(wanted, words, |scene, _| scene.by_total(value, target));
        expect.assert_eq(&show(outcome));
    }

    #[test]
    fn what_all_share_is_brought_to_its_target_by_the_pods_that_are_ready() {
        check_total(3, "1 1 1", 20_000, 15_000, expect!["4 (20000)"]);
        check_total(3, "1 1 1-", 20_000, 15_000, expect!["3 (20000)"]);
        check_total(3, "1 1 1", 15_500, 15_000, expect!["3 (15500)"]);
        check_total(0, "", 20_000, 7_000, expect!["3 (20000)"]);
        check_total(
            3,
            "1 1 1",
            i64::MAX,
            1,
            expect!["2147483647 (9223372036854775807)"],
        );
    }

    #[track_caller]
    fn check_share(wanted: i32, total: i64, target: i64, expect: Expect) {
        let outcome = with(wanted, "", |scene, _| Ok(scene.by_share(total, target)));
        expect.assert_eq(&show(outcome));
    }

    #[test]
    fn a_share_each_needs_no_pods_to_be_seen() {
        check_share(3, 8_600, 2_150, expect!["4 (2867)"]);
        check_share(3, 6_400, 2_150, expect!["3 (2134)"]);
        check_share(5, 8_600, 4_000, expect!["3 (1720)"]);
    }
}
