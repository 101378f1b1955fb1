//! The kinds of `functions.wk.dev/v1` as typed values, for whoever reads them: the controller, the gateway, the nodelet
//! and `wkctl`. The apiserver's schema of them is `api/src/kinds/functions`.
//!
//! Values only: never I/O, never a default that the apiserver doesn't write.

mod function;
mod revision;
mod template;

pub use function::{
    Condition, CronTrigger, DeadLetter, Function, FunctionSpec, FunctionStatus, Route, Traffic,
    TrafficStatus, Trigger, TriggerStatus,
};
pub use revision::{FunctionRevision, FunctionRevisionStatus, NodeStatus, pinned_name};
pub use template::{Isolation, Retries, RevisionSpec, Scale};

/// The group of both kinds.
pub const GROUP: &str = "functions.wk.dev";
/// Their version.
pub const VERSION: &str = "v1";
/// The label with the Function's name: on its revisions, and on the pods and Services made for it.
pub const FUNCTION_LABEL: &str = "functions.wk.dev/function";
/// The label with the revision's name: on the pods made for it.
pub const REVISION_LABEL: &str = "functions.wk.dev/revision";
/// The annotation with the revision's number (1, 2, …).
pub const NUMBER_ANNOTATION: &str = "functions.wk.dev/number";

/// What a kind needs in order to be used with `kube::Api`.
macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = "functions.wk.dev/v1";
            const GROUP: &'static str = crate::GROUP;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = crate::VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::NamespaceResourceScope;
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource;
