//! DefaultIngressClass: an Ingress that names no class gets the one marked as the default.

use serde_json::Value;

use super::default_of;
use crate::{
    admission::{Operation, Review, objects},
    error::Error,
    kinds::value::{present, put},
    object,
};

const GROUP: &str = "networking.k8s.io";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How a class was named before there was a field for it.
const OLD: &str = "kubernetes.io/ingress.class";

pub(super) fn mutate(review: &Review<'_>, ingress: &mut Value) -> Result<(), Error> {
    let concerned = objects::is(review, GROUP, "ingresses")
        && review.operation == Operation::Create
        && !present(ingress, "/spec/ingressClassName")
        && ingress["metadata"]["annotations"][OLD].is_null();
    if !concerned {
        return Ok(());
    }
    let classes = objects::list(review.call, GROUP, "ingressclasses", None)?;
    if let Some(class) = default_of(classes, DEFAULT) {
        put(
            &mut ingress["spec"],
            "ingressClassName",
            object::name(&class).into(),
        );
    }
    Ok(())
}
