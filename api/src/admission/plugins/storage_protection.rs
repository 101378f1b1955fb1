//! StorageObjectInUseProtection: a new claim or volume has the finalizer that keeps it while it is used.
//!
//! Taking it away again is the controllers'.

use serde_json::{Value, json};

use crate::admission::{Operation, Review, objects};

const OF_CLAIM: &str = "kubernetes.io/pvc-protection";
const OF_VOLUME: &str = "kubernetes.io/pv-protection";

pub(super) fn mutate(review: &Review<'_>, object: &mut Value) {
    if review.operation != Operation::Create {
        return;
    }
    if objects::is(review, "", "persistentvolumeclaims") {
        guard(object, OF_CLAIM);
    } else if objects::is(review, "", "persistentvolumes") {
        guard(object, OF_VOLUME);
    }
}

/// Adds a finalizer that is not there yet.
fn guard(object: &mut Value, finalizer: &str) {
    let finalizers = &mut object["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|own| own == finalizer) => {}
        Some(list) => list.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_is_added_once_to_those_that_are_there() {
        let mut object = json!({"metadata": {"finalizers": ["example.com/mine"]}});
        guard(&mut object, OF_CLAIM);
        guard(&mut object, OF_CLAIM);
        let finalizers = &object["metadata"]["finalizers"];
        assert_eq!(*finalizers, json!(["example.com/mine", OF_CLAIM]));
    }
}
