//! What a simulation found, as text for people and as JSON for programs. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use scheduler::Objection;
use serde_json::{Value, json};

use crate::columns::Columns;

/// Names that a line lists before it counts the rest.
const NAMED: usize = 8;

/// Everything that was found.
#[derive(Default, Debug)]
pub(super) struct Report {
    pub(super) leaving: Vec<Leaving>,
    pub(super) budgets: Vec<BudgetUse>,
    pub(super) workloads: Vec<Workload>,
}

/// A pod of a node that goes.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) namespace: String,
    pub(super) name: String,
    /// `ReplicaSet/web`
    pub(super) owner: Option<String>,
    pub(super) from: String,
    pub(super) outcome: Outcome,
}

/// What a drain asks of a PodDisruptionBudget.
#[derive(Debug)]
pub(super) struct BudgetUse {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) allowed: i32,
    pub(super) leaving: usize,
    pub(super) blocked: usize,
}

/// The pods of an object of a manifest.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) display: String,
    pub(super) namespace: String,
    /// Pods of the object as it is now, which were taken away first.
    pub(super) replaced: usize,
    pub(super) pods: Vec<Placed>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

/// What becomes of a pod.
#[derive(Debug)]
pub(super) enum Outcome {
    Fits {
        node: String,
    },
    Refused {
        /// As the pod's condition and its Event would say it.
        message: String,
        /// Why each node is not for it; none if no node was looked at.
        objections: Vec<Objection>,
        /// The node on which less important pods would be removed for it.
        room: Option<String>,
    },
    /// Its disruption budget keeps it from being evicted.
    Blocked {
        message: String,
    },
    /// Nobody makes it again.
    Lost,
    /// It ends with its node.
    Ends,
    /// A drain leaves it where it is.
    Stays,
}

impl Outcome {
    fn name(&self) -> &'static str {
        match self {
            Self::Fits { .. } => "Fits",
            Self::Refused { .. } => "DoesNotFit",
            Self::Blocked { .. } => "Blocked",
            Self::Lost => "Lost",
            Self::Ends => "Ends",
            Self::Stays => "Stays",
        }
    }

    /// What stands where a node's name would.
    fn place(&self) -> &str {
        match self {
            Self::Fits { node } => node,
            Self::Refused { .. } => "<none>",
            Self::Blocked { .. } => "<blocked>",
            Self::Lost => "<lost>",
            Self::Ends => "<ends>",
            Self::Stays => "<stays>",
        }
    }

    fn is_problem(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Blocked { .. })
    }

    fn json(&self, mut about: Value) -> Value {
        about["outcome"] = self.name().into();
        match self {
            Self::Fits { node } => about["node"] = node.clone().into(),
            Self::Blocked { message } => about["message"] = message.clone().into(),
            Self::Refused {
                message,
                objections,
                room,
            } => {
                about["message"] = message.clone().into();
                about["preemptsOn"] = room.clone().into();
                let objections = objections.iter().map(|objection| {
                    json!({"node": objection.node, "plugin": objection.plugin,
                        "reasons": objection.reasons, "resolvable": objection.resolvable})
                });
                about["nodes"] = objections.collect();
                if room.is_none()
                    && let Some(about) = about.as_object_mut()
                {
                    about.remove("preemptsOn");
                }
            }
            Self::Lost | Self::Ends | Self::Stays => {}
        }
        about
    }
}

impl Report {
    /// What went wrong, in a line; `None` if every pod that needs a node has one.
    pub(super) fn problem(&self) -> Option<String> {
        let outcomes = || {
            let leaving = self.leaving.iter().map(|pod| &pod.outcome);
            let placed = self.workloads.iter().flat_map(|workload| &workload.pods);
            leaving.chain(placed.map(|pod| &pod.outcome))
        };
        let count = |of: fn(&Outcome) -> bool| outcomes().filter(|outcome| of(outcome)).count();
        let refused = count(|outcome| matches!(outcome, Outcome::Refused { .. }));
        let blocked = count(|outcome| matches!(outcome, Outcome::Blocked { .. }));
        let needed = refused + count(|outcome| matches!(outcome, Outcome::Fits { .. }));
        let mut parts = Vec::new();
        if refused > 0 {
            parts.push(format!("{refused} of {needed} pods would find no node"));
        }
        if blocked > 0 {
            parts.push(format!("{blocked} pods could not be evicted"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    pub(super) fn json(&self) -> Value {
        let leaving = self.leaving.iter().map(|pod| {
            let about = json!({"namespace": pod.namespace, "pod": pod.name, "owner": pod.owner, "from": pod.from});
            pod.outcome.json(about)
        });
        let budgets = self.budgets.iter().map(|budget| {
            json!({"namespace": budget.namespace, "name": budget.name, "disruptionsAllowed": budget.allowed,
                "pods": budget.leaving, "blocked": budget.blocked})
        });
        let workloads = self.workloads.iter().map(|workload| {
            let pods = workload.pods.iter();
            let pods = pods.map(|pod| pod.outcome.json(json!({"pod": pod.name})));
            json!({"namespace": workload.namespace, "object": workload.display, "replaced": workload.replaced, "pods": pods.collect::<Vec<_>>()})
        });
        json!({
            "kind": "Simulation",
            "fits": self.problem().is_none(),
            "leaving": leaving.collect::<Vec<_>>(),
            "budgets": budgets.collect::<Vec<_>>(),
            "workloads": workloads.collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.leaving.is_empty() {
            parts.push(self.leaving_text());
        }
        if !self.budgets.is_empty() {
            parts.push(self.budgets_text());
        }
        let several = self.workloads.len() > 1;
        for workload in &self.workloads {
            parts.push(workload.text(several));
        }
        let leaving = self.leaving.iter();
        let leaving = leaving.map(|pod| (format!("{}/{}", pod.namespace, pod.name), &pod.outcome));
        let placed = self.workloads.iter().flat_map(|workload| {
            let name = |pod: &Placed| format!("{}/{}", workload.namespace, pod.name);
            workload
                .pods
                .iter()
                .map(move |pod| (name(pod), &pod.outcome))
        });
        parts.extend(why(leaving.chain(placed)));
        match parts.is_empty() {
            true => "No pods are concerned.\n".to_owned(),
            false => parts.join("\n"),
        }
    }

    fn leaving_text(&self) -> String {
        let mut rows = vec![row(["NAMESPACE", "POD", "OWNER", "FROM", "TO"])];
        let mut leaving: Vec<&Leaving> = self.leaving.iter().collect();
        leaving.sort_by_key(|pod| (&pod.namespace, &pod.name));
        rows.extend(leaving.into_iter().map(|pod| {
            let owner = pod.owner.as_deref().unwrap_or("<none>");
            row([
                &pod.namespace,
                &pod.name,
                owner,
                &pod.from,
                pod.outcome.place(),
            ])
        }));
        let mut text = Columns::default().format(&rows);
        let lost = self.leaving.iter();
        let lost = lost
            .filter(|pod| matches!(pod.outcome, Outcome::Lost))
            .count();
        if lost > 0 {
            writeln!(
                text,
                "Lost for good, as no controller makes them again: {lost}."
            )
            .expect("memory");
        }
        text
    }

    fn budgets_text(&self) -> String {
        let header = [
            "NAMESPACE",
            "POD DISRUPTION BUDGET",
            "ALLOWED DISRUPTIONS",
            "PODS",
            "BLOCKED",
        ];
        let mut rows = vec![row(header)];
        rows.extend(self.budgets.iter().map(|budget| {
            let numbers = [budget.leaving, budget.blocked].map(|number| number.to_string());
            let allowed = budget.allowed.to_string();
            row([
                &budget.namespace,
                &budget.name,
                &allowed,
                &numbers[0],
                &numbers[1],
            ])
        }));
        Columns::default().format(&rows)
    }
}

impl Workload {
    fn text(&self, several: bool) -> String {
        let mut text = String::new();
        if several {
            writeln!(text, "{} in {}", self.display, self.namespace).expect("memory");
        }
        if self.pods.is_empty() {
            writeln!(text, "{} makes no pods.", self.display).expect("memory");
            return text;
        }
        let mut rows = vec![row(["NAMESPACE", "POD", "NODE"])];
        rows.extend(
            self.pods
                .iter()
                .map(|pod| row([&self.namespace, &pod.name, pod.outcome.place()])),
        );
        text.push_str(&Columns::default().format(&rows));
        if self.replaced > 0 {
            let (display, replaced) = (&self.display, self.replaced);
            writeln!(text, "Pods of {display} that these replace: {replaced}.").expect("memory");
        }
        text
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Why pods go nowhere: those of which the same is true together, and the nodes by what speaks against them.
fn why<'a>(pods: impl Iterator<Item = (String, &'a Outcome)>) -> Vec<String> {
    let mut groups: Vec<(&Outcome, String, Vec<String>)> = Vec::new();
    for (name, outcome) in pods.filter(|(_, outcome)| outcome.is_problem()) {
        let told = told(outcome);
        match groups.iter_mut().find(|(_, known, _)| *known == told) {
            Some((_, _, names)) => names.push(name),
            None => groups.push((outcome, told, vec![name])),
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(_, told, names)| format!("{}: {told}", listed(&names)))
        .collect()
}

/// The message, and a table of the nodes.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Blocked { message } => format!("{message}\n"),
        Outcome::Refused {
            message,
            objections,
            room,
        } => {
            let room = room.as_ref().map(|node| {
                format!("  Less important pods of node {node} would be removed for it.\n")
            });
            let room = room.unwrap_or_default();
            let mut by_reason: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
            for objection in objections {
                let key = (objection.reasons.join(", "), objection.plugin);
                by_reason
                    .entry(key)
                    .or_default()
                    .push(objection.node.clone());
            }
            let mut rows = vec![row(["  REASON", "PLUGIN", "NODES"])];
            rows.extend(by_reason.iter().map(|((reason, plugin), nodes)| {
                row([&format!("  {reason}"), plugin, &listed(nodes)])
            }));
            match objections.is_empty() {
                true => format!("{message}\n{room}"),
                false => format!("{message}\n{room}{}", Columns::default().format(&rows)),
            }
        }
        _ => String::new(),
    }
}

/// `a, b, c and 4 more`
fn listed(names: &[String]) -> String {
    match names.get(NAMED..) {
        Some(more @ [_, ..]) => format!("{} and {} more", names[..NAMED].join(", "), more.len()),
        _ => names.join(", "),
    }
}
