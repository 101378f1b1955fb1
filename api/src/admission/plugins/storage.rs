//! DefaultStorageClass and PersistentVolumeClaimResize: a claim that names no class gets the default
//! one, and grows only if its class lets it.

use serde_json::Value;

use super::default_of;
use crate::{
    admission::{Operation, Review, objects},
    error::Error,
    kinds::value::{plain, present, put, text, truth},
    object,
    quantity::Quantity,
};

const GROUP: &str = "storage.k8s.io";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// As the annotations were called before.
const OLD_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn mutate(review: &Review<'_>, claim: &mut Value) -> Result<(), Error> {
    let concerned = objects::is(review, "", "persistentvolumeclaims")
        && review.operation == Operation::Create
        && !present(claim, "/spec/storageClassName")
        && claim["metadata"]["annotations"][OLD_CLASS].is_null();
    if !concerned {
        return Ok(());
    }
    let classes = objects::list(review.call, GROUP, "storageclasses", None)?;
    let class = default_of(classes.clone(), DEFAULT).or_else(|| default_of(classes, OLD_DEFAULT));
    if let Some(class) = class {
        put(
            &mut claim["spec"],
            "storageClassName",
            object::name(&class).into(),
        );
    }
    Ok(())
}

pub(super) fn validate(
    review: &Review<'_>,
    claim: &Value,
    old: Option<&Value>,
) -> Result<(), Error> {
    let Some(old) = old.filter(|_| {
        objects::is(review, "", "persistentvolumeclaims") && review.operation == Operation::Update
    }) else {
        return Ok(());
    };
    if !grows(claim, old) {
        return Ok(());
    }
    let name = match text(old, "/spec/storageClassName") {
        "" => old["metadata"]["annotations"][OLD_CLASS]
            .as_str()
            .unwrap_or_default(),
        name => name,
    };
    let class = objects::find(review.call, GROUP, "storageclasses", "", name)?;
    if class.is_some_and(|class| truth(&class, "/allowVolumeExpansion")) {
        return Ok(());
    }
    Err(objects::forbidden(
        review,
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

fn grows(claim: &Value, old: &Value) -> bool {
    let size = |claim: &Value| {
        let value = &claim["spec"]["resources"]["requests"]["storage"];
        plain(value).parse::<Quantity>().ok()
    };
    matches!((size(claim), size(old)), (Some(new), Some(old)) if new > old)
}
