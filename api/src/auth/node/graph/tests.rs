//! The graph made step by step is the graph made at once, and keeps nothing of what is gone.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What there is, by name.
#[derive(Clone, Default, Debug)]
struct World {
    pods: BTreeMap<u8, (u8, Vec<Reference>)>,
    revisions: BTreeMap<u8, Vec<Reference>>,
    volumes: BTreeMap<u8, VolumeSeen>,
    asked: BTreeMap<u8, u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Pod(u8, Option<(u8, Vec<Reference>)>),
    Revision(u8, Option<Vec<Reference>>),
    Volume(u8, Option<VolumeSeen>),
    Asked(u8, Option<u8>),
}

const NAMESPACE: &str = "ns";

fn node(number: u8) -> String {
    format!("n{number}")
}

fn named(number: u8) -> String {
    format!("x{number}")
}

impl World {
    fn take(&mut self, step: &Step) {
        fn put<T: Clone>(all: &mut BTreeMap<u8, T>, name: u8, value: Option<&T>) {
            match value {
                Some(value) => drop(all.insert(name, value.clone())),
                None => drop(all.remove(&name)),
            }
        }
        match step {
            Step::Pod(name, pod) => put(&mut self.pods, *name, pod.as_ref()),
            Step::Revision(name, to) => put(&mut self.revisions, *name, to.as_ref()),
            Step::Volume(name, seen) => put(&mut self.volumes, *name, seen.as_ref()),
            Step::Asked(name, node) => put(&mut self.asked, *name, node.as_ref()),
        }
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (name, pod) in &self.pods {
            graph.take(&Step::Pod(*name, Some(pod.clone())));
        }
        for (name, to) in &self.revisions {
            graph.take(&Step::Revision(*name, Some(to.clone())));
        }
        for (name, seen) in &self.volumes {
            graph.take(&Step::Volume(*name, Some(seen.clone())));
        }
        for (name, node) in &self.asked {
            graph.take(&Step::Asked(*name, Some(*node)));
        }
        graph
    }

    /// The same by following everything at each question.
    fn reaches(&self, at: u8, kind: Kind, name: &str) -> bool {
        let wanted = (kind, name.to_owned());
        let mut pods = self.pods.values();
        let direct = pods.any(|(own, to)| *own == at && to.contains(&wanted));
        let mut revisions = self.revisions.values();
        let everywhere = revisions.any(|to| to.contains(&wanted));
        let through = kind == Kind::Secret
            && self.volumes.values().any(|seen| {
                let claim = seen.claim.as_ref();
                seen.secrets.iter().any(|(_, secret)| secret == name)
                    && claim.is_some_and(|(_, claim)| self.uses(at, claim))
            });
        let asked = kind == Kind::Claim
            && self
                .asked
                .iter()
                .any(|(claim, node)| named(*claim) == name && *node == at);
        direct || everywhere || through || asked
    }

    fn uses(&self, at: u8, claim: &str) -> bool {
        let wanted = (Kind::Claim, claim.to_owned());
        let mut pods = self.pods.values();
        pods.any(|(own, to)| *own == at && to.contains(&wanted))
            || self.revisions.values().any(|to| to.contains(&wanted))
    }
}

impl Graph {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Pod(name, Some((at, to))) => {
                self.put_pod(NAMESPACE, &named(*name), &node(*at), to);
            }
            Step::Pod(name, None) => self.remove_pod(NAMESPACE, &named(*name)),
            Step::Revision(name, Some(to)) => self.put_revision(NAMESPACE, &named(*name), to),
            Step::Revision(name, None) => self.remove_revision(NAMESPACE, &named(*name)),
            Step::Volume(name, Some(seen)) => self.put_volume(&named(*name), seen),
            Step::Volume(name, None) => self.remove_volume(&named(*name)),
            Step::Asked(name, Some(at)) => self.put_asked(NAMESPACE, &named(*name), &node(*at)),
            Step::Asked(name, None) => self.remove_asked(NAMESPACE, &named(*name)),
        }
    }

    /// Everything that it holds, by names.
    fn facts(&self) -> Vec<String> {
        let counts = |counts: &Counts, names: &dyn Fn(Id) -> String| -> Vec<String> {
            let counts = counts.0.iter();
            let mut all: Vec<_> = counts
                .map(|(id, count)| format!("{}*{count}", names(*id)))
                .collect();
            all.sort();
            all
        };
        let node = |id: Id| self.nodes.name(id).to_owned();
        let thing = |id: Id| self.things.name(id).to_owned();
        let mut facts: Vec<String> = self.nodes.all().map(|(name, _)| name.to_owned()).collect();
        for (name, id) in self.things.all() {
            let near = self.things.value(id);
            let nodes = counts(&near.nodes, &node);
            let through = self.through.get(&id).map(|claims| counts(claims, &thing));
            facts.push(format!("{name} {nodes:?} {} {through:?}", near.revisions));
        }
        facts.extend(self.pods.keys().map(|name| format!("pod {name}")));
        facts.extend(self.revisions.keys().map(|name| format!("revision {name}")));
        facts.extend(self.volumes.keys().map(|name| format!("volume {name}")));
        facts.extend(self.asked.keys().map(|name| format!("asked {name}")));
        facts.sort();
        facts
    }
}

fn names() -> impl Strategy<Value = u8> {
    0..4u8
}

fn references() -> impl Strategy<Value = Vec<Reference>> {
    let kind = prop_oneof![
        Just(Kind::Claim),
        Just(Kind::Secret),
        Just(Kind::ServiceAccount)
    ];
    let all = prop::collection::btree_set((kind, names().prop_map(named)), 0..5);
    all.prop_map(|all| all.into_iter().collect())
}

fn volumes() -> impl Strategy<Value = VolumeSeen> {
    let names = || names().prop_map(|number| (NAMESPACE.to_owned(), named(number)));
    let secrets = prop::collection::btree_set(names(), 0..3);
    let maker = prop_oneof![Just(String::new()), (0..3u8).prop_map(node)];
    (prop::option::of(names()), secrets, maker).prop_map(|(claim, secrets, maker)| VolumeSeen {
        secrets: match claim {
            Some(_) => secrets.into_iter().collect(),
            None => Vec::new(),
        },
        claim,
        maker,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (names(), prop::option::of((0..3u8, references()))).prop_map(|(name, pod)| Step::Pod(name, pod)),
        1 => (names(), prop::option::of(references())).prop_map(|(name, to)| Step::Revision(name, to)),
        2 => (names(), prop::option::of(volumes())).prop_map(|(name, seen)| Step::Volume(name, seen)),
        1 => (names(), prop::option::of(0..3u8)).prop_map(|(name, node)| Step::Asked(name, node)),
    ]
}

proptest! {
    #[test]
    fn a_graph_that_followed_is_the_one_made_at_once(steps in prop::collection::vec(steps(), 0..40)) {
        let (mut graph, mut world) = (Graph::default(), World::default());
        for step in &steps {
            graph.take(step);
            world.take(step);
        }
        prop_assert_eq!(graph.facts(), world.graph().facts());
        for at in 0..4 {
            for name in (0..4).map(named) {
                for kind in [Kind::Claim, Kind::Secret, Kind::ServiceAccount, Kind::ConfigMap] {
                    prop_assert_eq!(
                        graph.reaches(&node(at), kind, NAMESPACE, &name),
                        world.reaches(at, kind, &name),
                        "n{} {:?} {}", at, kind, name
                    );
                }
            }
        }
    }

    #[test]
    fn when_all_is_gone_nothing_is_kept(steps in prop::collection::vec(steps(), 0..40)) {
        let mut graph = Graph::default();
        for step in &steps {
            graph.take(step);
        }
        for name in 0..4 {
            graph.take(&Step::Pod(name, None));
            graph.take(&Step::Revision(name, None));
            graph.take(&Step::Volume(name, None));
            graph.take(&Step::Asked(name, None));
        }
        prop_assert_eq!(graph.facts(), Vec::<String>::new());
        prop_assert!(graph.through.is_empty());
    }
}
