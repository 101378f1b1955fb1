//! `apiextensions.k8s.io`: kinds that users define.
//!
//! - [`definition`]: CustomResourceDefinition. [`names`]: what it may be called.
//! - [`versions`]: what its versions may say. [`structural`]: what their schemas may say.

mod definition;
mod names;
mod structural;
mod versions;

pub(crate) use definition::{CLEANUP, CustomResourceDefinition};
