//! TaintNodesByCondition: a new Node takes no pods until the node lifecycle controller has seen it
//! Ready.

use serde_json::{Value, json};

use crate::{
    admission::{Operation, Review, objects},
    kinds::value::{child, each, fill, text},
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) fn mutate(review: &Review<'_>, node: &mut Value) {
    if objects::is(review, "", "nodes") && review.operation == Operation::Create {
        taint(node);
    }
}

fn taint(node: &mut Value) {
    let Some(spec) = child(node, "spec") else {
        return;
    };
    let tainted = each(spec, "taints")
        .any(|taint| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule");
    if tainted {
        return;
    }
    fill(spec, "taints", Vec::<Value>::new());
    if let Some(taints) = spec["taints"].as_array_mut() {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_is_not_ready_once() {
        let mut node = json!({"metadata": {"name": "n"}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(
            node["spec"]["taints"],
            json!([{"key": NOT_READY, "effect": "NoSchedule"}])
        );
    }
}
