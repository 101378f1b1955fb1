//! `admissionregistration.k8s.io`: who else is asked about writes.
//!
//! - [`webhooks`]: ValidatingWebhookConfiguration and MutatingWebhookConfiguration.
//! - [`policy`], [`binding`]: ValidatingAdmissionPolicy, MutatingAdmissionPolicy and their bindings.
//! - [`rule`]: which requests any of them is about.
//!
//! Only what the objects may look like: calling webhooks is admission's.

pub(super) mod binding;
pub(super) mod policy;
mod rule;
pub(super) mod webhooks;

const GROUP: &str = "admissionregistration.k8s.io";

const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
