//! The built-in kinds: one file each, and the trait that the verbs see them through.
//!
//! Pure: a kind looks at objects and at nothing else. Verbs, storage and HTTP never appear here.
//! Beside the kinds: `value`, `write`, `check` and `column` are what they share;
//! `not_acted_on` is the table of fields that are kept but have no effect yet.

mod access_mode;
mod address;
mod admission;
mod api_service;
pub(crate) mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod binding;
pub(crate) mod certificates;
mod charts;
pub(crate) mod check;
pub(crate) mod column;
mod component_status;
mod config_map;
mod conversion;
mod endpoint_slice;
mod endpoints;
mod event;
mod events;
mod flowcontrol;
pub(crate) mod functions;
mod lease;
mod limit_range;
pub(crate) mod local_volume;
mod metrics;
mod namespace;
mod networking;
mod node;
pub(crate) mod not_acted_on;
mod persistent_volume;
pub(crate) mod persistent_volume_claim;
pub(crate) mod pod;
mod pod_template;
mod policy;
pub(crate) mod priority_class;
mod rbac;
mod replication_controller;
mod resource;
mod resource_quota;
mod review;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod storage;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod value;
pub(crate) mod version;
pub(crate) mod write;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    auth::User,
    custom::kind::CustomKind,
    field::FieldErrors,
    schema::{self, Schema},
};
pub use conversion::Conversion;
pub(crate) use metrics::METRICS_GROUP;

/// What a kind is called and where it is served.
#[derive(Clone, Debug)]
pub struct Names {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Its definition in the structural schema: `io.k8s.api.core.v1.Pod`.
    pub definition: &'static str,
}

impl Names {
    /// As in `apiVersion`: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// A part of an object with a path of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subresource {
    Status,
    Approval,
    Scale,
    Log,
    /// A container's own streams.
    Attach,
    Binding,
    EphemeralContainers,
    Eviction,
    /// Another program in a container, and its streams.
    Exec,
    Finalize,
    /// A pod's ports.
    PortForward,
    /// What the object itself serves over HTTP.
    Proxy,
    Resize,
    Token,
}

impl Subresource {
    /// Its segment of the path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Approval => "approval",
            Self::Scale => "scale",
            Self::Log => "log",
            Self::Attach => "attach",
            Self::Binding => "binding",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Eviction => "eviction",
            Self::Exec => "exec",
            Self::Finalize => "finalize",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Resize => "resize",
            Self::Token => "token",
        }
    }

    /// What may be done with it.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status
            | Self::Approval
            | Self::Scale
            | Self::EphemeralContainers
            | Self::Resize => &["get", "patch", "update"],
            Self::Log => &["get"],
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Attach | Self::Exec | Self::PortForward => &["create", "get"],
            Self::Proxy => &["create", "delete", "get", "patch", "update"],
            Self::Finalize => &["update"],
        }
    }

    /// For a way to what objects run: the kind (of `v1`) of what its requests ask for. Discovery, OpenAPI and
    /// admission know it by that; it is never sent as an object. `owner` is the object's kind.
    pub fn options_kind(self, owner: &str) -> Option<&'static str> {
        match (self, owner) {
            (Self::Attach, _) => Some("PodAttachOptions"),
            (Self::Exec, _) => Some("PodExecOptions"),
            (Self::PortForward, _) => Some("PodPortForwardOptions"),
            (Self::Proxy, "Node") => Some("NodeProxyOptions"),
            (Self::Proxy, "Pod") => Some("PodProxyOptions"),
            (Self::Proxy, _) => Some("ServiceProxyOptions"),
            _ => None,
        }
    }

    /// Group, version, kind and definition of what is sent, where it is not the object itself.
    pub fn own_kind(self) -> Option<[&'static str; 4]> {
        match self {
            Self::Status
            | Self::Approval
            | Self::Log
            | Self::Attach
            | Self::EphemeralContainers
            | Self::Exec
            | Self::Finalize
            | Self::PortForward
            | Self::Proxy
            | Self::Resize => None,
            Self::Scale => Some([
                "autoscaling",
                "v1",
                "Scale",
                "io.k8s.api.autoscaling.v1.Scale",
            ]),
            Self::Binding => Some(["", "v1", "Binding", "io.k8s.api.core.v1.Binding"]),
            Self::Eviction => Some(["policy", "v1", "Eviction", "io.k8s.api.policy.v1.Eviction"]),
            Self::Token => Some([
                "authentication.k8s.io",
                "v1",
                "TokenRequest",
                "io.k8s.api.authentication.v1.TokenRequest",
            ]),
        }
    }
}

/// What may be done with a kind, if it says nothing else.
pub const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A column of the table that `kubectl get` shows.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: i32,
}

/// Who makes a write, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    pub user: &'a User,
    pub now: Timestamp,
}

/// A kind as the verbs see it. Objects have been checked against the schema before any method.
pub trait Kind: Send + Sync + 'static {
    fn names(&self) -> &Names;

    /// What its objects look like.
    fn schema(&self) -> Schema {
        schema::builtin(self.names().definition)
            .expect("every built-in kind has a definition in the structural schema")
    }

    /// What may be done with it.
    fn verbs(&self) -> &[&'static str] {
        VERBS
    }

    /// What every user of the kind is warned of, if it is on its way out.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// How its objects are stored, if not as it serves them.
    fn conversion(&self) -> Option<&'static Conversion> {
        None
    }

    /// The custom kind that it is, if a user defined it.
    fn custom(&self) -> Option<&CustomKind> {
        None
    }

    /// What a list of its objects is called.
    fn list_kind(&self) -> String {
        format!("{}List", self.names().kind)
    }

    /// Where its `scale` subresource finds numbers and selector.
    fn scale_paths(&self) -> &ScalePaths {
        &ScalePaths::BUILTIN
    }

    /// False for a kind that is answered at its creation and never kept.
    fn is_stored(&self) -> bool {
        true
    }

    /// Subresources that it serves.
    fn subresources(&self) -> &[Subresource] {
        &[]
    }

    /// Fields whose changes raise `metadata.generation`; none: it has no generation.
    fn counted(&self) -> &[&'static str] {
        if self.subresources().contains(&Subresource::Status) {
            &["spec"]
        } else {
            &[]
        }
    }

    /// The status of a new object, if it has a status subresource.
    fn new_status(&self, _object: &Value) -> Value {
        write::empty()
    }

    /// What is wrong with an object's name.
    fn name_problems(&self, name: &str) -> Vec<String> {
        crate::name::subdomain_problems(name)
    }

    /// Fills in what the user left out.
    fn default(&self, _object: &mut Value) {}

    /// Takes out of a new object what only the system may set (its status).
    fn prepare_create(&self, object: &mut Value) {
        if self.subresources().contains(&Subresource::Status) {
            let status = self.new_status(object);
            value::put(object, "status", status);
        }
        if !self.counted().is_empty() {
            write::start_generation(object);
        }
    }

    /// Keeps from the old object what this write may not change (its status), and raises
    /// `metadata.generation` when what is wanted changed.
    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if self.subresources().contains(&Subresource::Status) {
            write::keep_status(object, old);
        }
        if !self.counted().is_empty() {
            write::count_generation(object, old, self.counted());
        }
    }

    /// The same for a write of the status subresource: everything but the status stays.
    fn prepare_status(&self, object: &mut Value, old: &Value) {
        write::status(object, old);
    }

    /// The same for a write of the approval of a request: everything but the decision stays.
    fn prepare_approval(&self, object: &mut Value, old: &Value) {
        self.prepare_update(object, old);
    }

    /// Writes what only the server knows: who makes a new object (there is no old one), and when
    /// something changed.
    fn stamp(&self, _object: &mut Value, _old: Option<&Value>, _by: &Stamp<'_>) {}

    /// What is wrong with a new object; metadata has been validated by the caller.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}

    /// What is wrong with a new object, beyond what [`Kind::validate`] (called too) says.
    fn validate_create(&self, _object: &Value, _errors: &mut FieldErrors) {}

    /// What is wrong with a change, beyond what [`Kind::validate`] (called too) says.
    fn validate_update(&self, _object: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// What is wrong with a changed status.
    fn validate_status(&self, _object: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// What is wrong with an object after a change, in all.
    fn validate_change(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        self.validate(object, errors);
        self.validate_update(object, old, errors);
    }

    /// Marks what must happen before an object that somebody deletes is gone.
    fn prepare_delete(&self, _object: &mut Value) {}

    /// What the user should know though the object is accepted: fields that are not acted on.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Fields that a field selector may name, with their values in the object as it is stored;
    /// `metadata.name` and `metadata.namespace` are added for every kind.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The names that [`Kind::fields`] gives, for refusing others.
    fn field_names(&self) -> &[&'static str] {
        &[]
    }

    /// How long a delete waits for the kind's owner to let the object go; 0 removes it at once.
    fn grace_seconds(&self, _object: &Value, _requested: Option<i64>) -> i64 {
        0
    }

    /// The columns of its table, name first.
    fn columns(&self) -> &[Column];

    /// The same as a table shows them.
    fn column_definitions(&self) -> Value {
        column::definitions(self.columns())
    }

    /// One row: a cell for each column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;
}

/// Where a `scale` subresource finds what it shows, as JSON pointers.
#[derive(Clone, Debug)]
pub struct ScalePaths {
    pub spec_replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    /// A label selector, or one as text. Empty if there is none.
    pub selector: Cow<'static, str>,
}

impl ScalePaths {
    const BUILTIN: Self = Self {
        spec_replicas: Cow::Borrowed("/spec/replicas"),
        status_replicas: Cow::Borrowed("/status/replicas"),
        selector: Cow::Borrowed("/spec/selector"),
    };
}

/// Kinds that are served together, at `/apis/<group>/<version>`.
#[derive(Clone)]
pub struct GroupVersion<'a> {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kinds: Vec<&'a dyn Kind>,
}

impl GroupVersion<'_> {
    /// Where it is served, without the leading slash: `api/v1`, `apis/apps/v1`.
    pub fn path(&self) -> String {
        if self.group.is_empty() {
            format!("api/{}", self.version)
        } else {
            format!("apis/{}/{}", self.group, self.version)
        }
    }

    /// As in `apiVersion`: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

/// Every kind that this server serves.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: Vec<Arc<dyn Kind>>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        Self {
            kinds: vec![
                Arc::new(binding::Binding),
                Arc::new(component_status::ComponentStatus),
                Arc::new(config_map::ConfigMap),
                Arc::new(endpoints::Endpoints),
                Arc::new(event::Event),
                Arc::new(limit_range::LimitRange),
                Arc::new(namespace::Namespace),
                Arc::new(node::Node),
                Arc::new(persistent_volume::PersistentVolume),
                Arc::new(persistent_volume_claim::PersistentVolumeClaim),
                Arc::new(pod::Pod),
                Arc::new(pod_template::PodTemplate),
                Arc::new(replication_controller::ReplicationController),
                Arc::new(resource_quota::ResourceQuota),
                Arc::new(secret::Secret),
                Arc::new(service_account::ServiceAccount),
                Arc::new(service::Service),
                Arc::new(apps::ControllerRevision),
                Arc::new(apps::DaemonSet),
                Arc::new(apps::Deployment),
                Arc::new(apps::ReplicaSet),
                Arc::new(apps::StatefulSet),
                Arc::new(autoscaling::HorizontalPodAutoscaler),
                Arc::new(autoscaling::HorizontalPodAutoscalerV1),
                Arc::new(batch::CronJob),
                Arc::new(batch::Job),
                Arc::new(lease::Lease),
                Arc::new(endpoint_slice::EndpointSlice),
                Arc::new(review::TOKEN),
                Arc::new(review::SELF),
                Arc::new(review::ACCESS),
                Arc::new(review::LOCAL_ACCESS),
                Arc::new(review::SELF_ACCESS),
                Arc::new(review::SELF_RULES),
                Arc::new(admission::policy::MutatingAdmissionPolicy),
                Arc::new(admission::binding::MutatingAdmissionPolicyBinding),
                Arc::new(admission::webhooks::MutatingWebhookConfiguration),
                Arc::new(admission::policy::ValidatingAdmissionPolicy),
                Arc::new(admission::binding::ValidatingAdmissionPolicyBinding),
                Arc::new(admission::webhooks::ValidatingWebhookConfiguration),
                Arc::new(api_service::ApiService),
                Arc::new(certificates::signing_request::CertificateSigningRequest),
                Arc::new(flowcontrol::flow_schema::FlowSchema),
                Arc::new(flowcontrol::priority_level::PriorityLevelConfiguration),
                Arc::new(metrics::NodeMetrics),
                Arc::new(metrics::PodMetrics),
                Arc::new(networking::ingress_class::IngressClass),
                Arc::new(networking::ingress::Ingress),
                Arc::new(networking::ip_address::IpAddress),
                Arc::new(networking::network_policy::NetworkPolicy),
                Arc::new(networking::service_cidr::ServiceCidr),
                Arc::new(events::Event),
                Arc::new(apiextensions::CustomResourceDefinition),
                Arc::new(policy::PodDisruptionBudget),
                Arc::new(rbac::binding::ClusterRoleBinding),
                Arc::new(rbac::role::ClusterRole),
                Arc::new(rbac::binding::RoleBinding),
                Arc::new(rbac::role::Role),
                Arc::new(resource::device_class::DeviceClass),
                Arc::new(resource::claim::ResourceClaim),
                Arc::new(resource::claim::ResourceClaimTemplate),
                Arc::new(resource::slice::ResourceSlice),
                Arc::new(runtime_class::RuntimeClass),
                Arc::new(review::TRANSACTION),
                Arc::new(charts::ChartRelease),
                Arc::new(functions::Function),
                Arc::new(functions::FunctionRevision),
                Arc::new(priority_class::PriorityClass),
                Arc::new(storage::csi_driver::CsiDriver),
                Arc::new(storage::csi_node::CsiNode),
                Arc::new(storage::csi_storage_capacity::CsiStorageCapacity),
                Arc::new(storage::storage_class::StorageClass),
                Arc::new(storage::volume_attachment::VolumeAttachment),
                Arc::new(storage::volume_attributes_class::VolumeAttributesClass),
            ],
        }
    }

    /// Finds the kind served at `/apis/<group>/<version>/…/<plural>`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<dyn Kind>> {
        self.kinds.iter().find(|kind| {
            let names = kind.names();
            names.group == group && names.version == version && names.plural == plural
        })
    }

    /// The group-versions that are served, in the order in which clients should prefer them.
    pub fn group_versions(&self) -> Vec<GroupVersion<'_>> {
        group_versions(self.kinds.iter().map(|kind| &**kind))
    }

    /// All of them, in a fixed order.
    pub fn all(&self) -> &[Arc<dyn Kind>] {
        &self.kinds
    }
}

/// Kinds by group and version: groups in Kubernetes' order, the newest stable version first.
pub(crate) fn group_versions<'a>(
    kinds: impl Iterator<Item = &'a dyn Kind>,
) -> Vec<GroupVersion<'a>> {
    let mut groups: BTreeMap<_, GroupVersion<'a>> = BTreeMap::new();
    for kind in kinds {
        let (group, version) = (kind.names().group, kind.names().version);
        groups
            .entry((version::group_rank(group), version::rank(version)))
            .or_insert_with(|| GroupVersion {
                group,
                version,
                kinds: Vec::new(),
            })
            .kinds
            .push(kind);
    }
    groups.into_values().collect()
}
