//! Nodes that have a pod's images already are better, the more so the larger the images are.
//!
//! Pure. An image that few nodes have counts for less, so that not every pod goes to the few.

use std::collections::HashSet;

use crate::census::Slot;
use crate::framework::{Change, MAX_SCORE, Plugin, Score};
use crate::pod::Pod;
use crate::snapshot::{Candidate, Snapshot};

/// Less than this is nothing, in bytes.
const LEAST: i64 = 23 << 20;
/// More than this for each image makes no difference, in bytes.
const MOST: i64 = 1000 << 20;

/// The plugin.
pub(super) struct ImageLocality;

/// Images of a pod that some node has.
struct Known<'a> {
    /// What an image counts on the nodes that have it.
    images: Vec<(i64, &'a HashSet<Slot>)>,
    most: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Pod,
        _: &[&'a Candidate],
    ) -> Option<Box<dyn Score<'a> + 'a>> {
        let nodes = snapshot.candidates().len() as f64;
        let images = pod.images.iter();
        let known = images.filter_map(|name| snapshot.images.get(name));
        let images: Vec<_> = known
            .map(|image| {
                let spread = image.nodes.len() as f64 / nodes;
                ((image.size as f64 * spread) as i64, &image.nodes)
            })
            .collect();
        let most = MOST.saturating_mul(i64::try_from(pod.images.len()).unwrap_or(i64::MAX));
        (!images.is_empty()).then(|| Box::new(Known { images, most }) as _)
    }

    fn may_help(&self, _: &Change<'_>, _: &Pod) -> bool {
        false
    }
}

impl<'a> Score<'a> for Known<'_> {
    fn score(&self, node: &Candidate) -> i64 {
        let here = self.images.iter();
        let here = here.filter(|(_, nodes)| nodes.contains(&node.slot));
        let sum = here.fold(0_i64, |sum, (size, _)| sum.saturating_add(*size));
        MAX_SCORE * (sum.clamp(LEAST, self.most) - LEAST) / (self.most - LEAST)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::node::Node;

    /// Nodes with the images that they have, as `name=MiB`; then the scores for a pod with these images.
    #[track_caller]
    fn check(nodes: &[&str], images: &[&str], scores: &[i64]) {
        let mut snapshot = Snapshot::default();
        for (index, words) in nodes.iter().enumerate() {
            let images = words.split_whitespace().map(|word| {
                let (name, size) = word.split_once('=').unwrap();
                let size: i64 = size.parse().unwrap();
                json!({ "names": [name], "sizeBytes": size << 20 })
            });
            let node = json!({
                "metadata": { "name": index.to_string() },
                "status": { "images": images.collect::<Vec<_>>() },
            });
            let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(node).unwrap();
            snapshot.put_node(Node::from(&node));
        }
        let containers = images
            .iter()
            .map(|image| json!({ "name": "c", "image": image }));
        let pod = json!({ "spec": { "containers": containers.collect::<Vec<_>>() } });
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        let pod = Pod::from(&pod);
        let score = ImageLocality.pre_score(&snapshot, &pod, &[]);
        let nodes = snapshot.candidates().iter();
        let found: Vec<_> = nodes
            .map(|node| score.as_ref().map_or(0, |score| score.score(node)))
            .collect();
        assert_eq!(found, scores);
    }

    #[test]
    fn a_large_image_that_is_there_makes_a_node_better() {
        check(&["web:1=2000", ""], &["web:1"], &[100, 0]);
        check(&["web:1=40", ""], &["web:1"], &[0, 0]);
        check(&["web:latest=1000", ""], &["web"], &[48, 0]);
        check(&["web:1=500", "web:1=500"], &["web:1"], &[48, 48]);
        check(&["web:1=500 db:1=500"], &["web:1", "db:1"], &[49]);
        check(&["r:5000/web:latest=500"], &["r:5000/web"], &[48]);
        check(&["web:1=500"], &["other"], &[0]);
    }

    #[test]
    fn an_image_that_was_removed_counts_no_longer() {
        let node = |images: serde_json::Value| {
            let node = json!({ "metadata": { "name": "n" }, "status": { "images": images } });
            let node: k8s_openapi::api::core::v1::Node = serde_json::from_value(node).unwrap();
            Node::from(&node)
        };
        let mut snapshot = Snapshot::default();
        snapshot.put_node(node(json!([{ "names": ["a", "b"], "sizeBytes": 1 }])));
        snapshot.put_node(node(json!([{ "names": ["b"], "sizeBytes": 1 }])));
        assert!(snapshot.images.get("a").is_none() && snapshot.images.get("b").is_some());
        snapshot.remove_node(&Arc::<str>::from("n"));
        assert!(snapshot.images.get("b").is_none());
    }
}
