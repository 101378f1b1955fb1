//! Which pods an autoscaler counts, and whether it is the only one that does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use crate::context::Context;
use crate::key::Key;
use crate::selector;

/// Why a selector is of no use.
pub(super) struct Unusable {
    pub(super) event: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) error: String,
}

/// The pods of the target, if no other autoscaler counts any of them.
pub(super) fn counted(
    context: &Context,
    all: &Mutex<HashMap<Key, Selector>>,
    autoscaler: &HorizontalPodAutoscaler,
    text: &str,
) -> Result<Vec<Arc<Pod>>, Unusable> {
    if text.is_empty() {
        return Err(Unusable {
            event: "SelectorRequired",
            reason: "InvalidSelector",
            message: "the HPA target's scale is missing a selector".to_owned(),
            error: "selector is required".to_owned(),
        });
    }
    let selector = selector::parse(text).map_err(|error| {
        let error = format!(
            "couldn't convert selector into a corresponding internal selector object: {error}"
        );
        Unusable {
            event: "InvalidSelector",
            reason: "InvalidSelector",
            message: error.clone(),
            error,
        }
    })?;
    let key = Key::of(autoscaler);
    let mut pods = context.pods.by("namespace", &key.namespace);
    pods.retain(|pod| selector.matches(pod.labels()));
    let mut selectors = all.lock().unwrap_or_else(PoisonError::into_inner);
    selectors.insert(key.clone(), selector);
    let mut rivals: Vec<&Key> = selectors
        .iter()
        .filter(|(other, selector)| {
            **other == key
                || (other.namespace == key.namespace
                    && pods.iter().any(|pod| selector.matches(pod.labels())))
        })
        .map(|(other, _)| other)
        .collect();
    if rivals.len() < 2 {
        return Ok(pods);
    }
    rivals.sort();
    let rivals: Vec<String> = rivals.into_iter().map(Key::to_string).collect();
    let error = format!(
        "pods by selector {text} are controlled by multiple HPAs: [{}]",
        rivals.join(" ")
    );
    Err(Unusable {
        event: "AmbiguousSelector",
        reason: "AmbiguousSelector",
        message: error.clone(),
        error,
    })
}
