//! What a decision looks at: nodes with what is left on them, and what a pod needs.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use crate::quantity::parse_milli;

/// Amounts by resource name, in thousandths; `pods` counts pods.
pub(crate) type Amounts = BTreeMap<String, i128>;

/// What a pod takes from the node that it is on.
#[derive(Clone, Debug, Default)]
pub struct PodNeeds {
    pub(crate) amounts: Amounts,
    /// Protocol, address and port.
    pub(crate) host_ports: Vec<(String, String, i32)>,
}

impl PodNeeds {
    /// The larger of the sum of its containers and the largest of its init containers, and overhead.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else {
            return Self::default();
        };
        let mut amounts = Amounts::new();
        let mut beside = Amounts::new();
        let mut peak = Amounts::new();
        for init in spec.init_containers.iter().flatten() {
            let own = requests(init);
            if init.restart_policy.as_deref() == Some("Always") {
                add(&mut beside, &own);
                raise(&mut peak, &beside);
            } else {
                let mut own = own;
                add(&mut own, &beside);
                raise(&mut peak, &own);
            }
        }
        for container in &spec.containers {
            add(&mut amounts, &requests(container));
        }
        add(&mut amounts, &beside);
        raise(&mut amounts, &peak);
        for (name, quantity) in spec.overhead.iter().flatten() {
            *amounts.entry(name.clone()).or_default() += parse_milli(&quantity.0).unwrap_or(0);
        }
        amounts.insert("pods".into(), 1000);
        let ports = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten());
        let host_ports = ports
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0)?;
                Some((
                    port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    port.host_ip.clone().unwrap_or_default(),
                    number,
                ))
            })
            .collect();
        Self {
            amounts,
            host_ports,
        }
    }
}

fn requests(container: &Container) -> Amounts {
    let requests = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    requests
        .into_iter()
        .flatten()
        .map(|(name, quantity)| (name.clone(), parse_milli(&quantity.0).unwrap_or(0)))
        .collect()
}

fn add(to: &mut Amounts, what: &Amounts) {
    for (name, amount) in what {
        *to.entry(name.clone()).or_default() += amount;
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let has = to.entry(name.clone()).or_default();
        *has = (*has).max(*amount);
    }
}

/// A node and what is taken of it.
#[derive(Clone, Debug)]
pub struct NodeState {
    pub(crate) node: Node,
    pub(crate) allocatable: Amounts,
    pub(crate) used: Amounts,
    pub(crate) host_ports: Vec<(String, String, i32)>,
}

impl NodeState {
    fn new(node: Node) -> Self {
        let allocatable = node.status.as_ref().and_then(|status| {
            status
                .allocatable
                .clone()
                .or_else(|| status.capacity.clone())
        });
        let allocatable = allocatable
            .unwrap_or_default()
            .into_iter()
            .map(|(name, quantity)| (name, parse_milli(&quantity.0).unwrap_or(0)))
            .collect();
        Self {
            node,
            allocatable,
            used: Amounts::new(),
            host_ports: Vec::new(),
        }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }
}

/// All nodes, and the pods on them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: BTreeMap<String, NodeState>,
    /// By uid: also those whose node is not known (yet).
    placed: HashMap<String, (String, PodNeeds)>,
}

impl Snapshot {
    /// Takes in a node, or its newer version.
    pub fn set_node(&mut self, node: Node) {
        let mut state = NodeState::new(node);
        match self.nodes.get_mut(state.name()) {
            Some(old) => {
                (state.used, state.host_ports) = (
                    std::mem::take(&mut old.used),
                    std::mem::take(&mut old.host_ports),
                );
            }
            None => {
                let here = self
                    .placed
                    .values()
                    .filter(|(node, _)| Some(node) == state.node.metadata.name.as_ref());
                for (_, needs) in here {
                    add(&mut state.used, &needs.amounts);
                    state.host_ports.extend(needs.host_ports.iter().cloned());
                }
            }
        }
        self.nodes.insert(state.name().to_owned(), state);
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Counts a pod on a node; a pod is counted once, where it was last said to be.
    pub fn place(&mut self, uid: &str, node: &str, needs: PodNeeds) {
        self.remove_pod(uid);
        if let Some(state) = self.nodes.get_mut(node) {
            add(&mut state.used, &needs.amounts);
            state.host_ports.extend(needs.host_ports.iter().cloned());
        }
        self.placed.insert(uid.to_owned(), (node.to_owned(), needs));
    }

    /// Whether a pod is counted.
    pub(crate) fn holds(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// Counts a pod no more; says whether it was counted.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some((node, needs)) = self.placed.remove(uid) else {
            return false;
        };
        if let Some(state) = self.nodes.get_mut(&node) {
            for (name, amount) in &needs.amounts {
                *state.used.entry(name.clone()).or_default() -= amount;
            }
            for port in &needs.host_ports {
                if let Some(place) = state.host_ports.iter().position(|used| used == port) {
                    state.host_ports.swap_remove(place);
                }
            }
        }
        true
    }
}
