//! Which values a field may have, and which it gets if it is left out, as the documents publish them.
//!
//! Facts of Kubernetes' API that the structure lacks. Only what is said to clients: defaults are set and
//! values checked by the kinds themselves.

use serde_json::{Value, json};

/// Definition, field, its values in alphabetical order.
const ENUMS: &[(&str, &str, &[&str])] = &[
    (
        "admissionregistration.v1.MutatingWebhook",
        "failurePolicy",
        FAILURE,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "matchPolicy",
        MATCH,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "reinvocationPolicy",
        &["IfNeeded", "Never"],
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "sideEffects",
        SIDE_EFFECTS,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "failurePolicy",
        FAILURE,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "matchPolicy",
        MATCH,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "sideEffects",
        SIDE_EFFECTS,
    ),
    (
        "apps.v1.DaemonSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    (
        "apps.v1.DeploymentStrategy",
        "type",
        &["Recreate", "RollingUpdate"],
    ),
    (
        "apps.v1.StatefulSetSpec",
        "podManagementPolicy",
        &["OrderedReady", "Parallel"],
    ),
    (
        "apps.v1.StatefulSetUpdateStrategy",
        "type",
        &["OnDelete", "RollingUpdate"],
    ),
    (
        "batch.v1.CronJobSpec",
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
    ),
    (
        "batch.v1.JobSpec",
        "completionMode",
        &["Indexed", "NonIndexed"],
    ),
    (
        "batch.v1.JobSpec",
        "podReplacementPolicy",
        &["Failed", "TerminatingOrFailed"],
    ),
    (
        "batch.v1.PodFailurePolicyOnExitCodesRequirement",
        "operator",
        &["In", "NotIn"],
    ),
    (
        "batch.v1.PodFailurePolicyRule",
        "action",
        &["Count", "FailIndex", "FailJob", "Ignore"],
    ),
    ("core.v1.AppArmorProfile", "type", PROFILE),
    (
        "core.v1.AzureDiskVolumeSource",
        "cachingMode",
        &["None", "ReadOnly", "ReadWrite"],
    ),
    (
        "core.v1.AzureDiskVolumeSource",
        "kind",
        &["Dedicated", "Managed", "Shared"],
    ),
    ("core.v1.Container", "imagePullPolicy", PULL),
    ("core.v1.Container", "terminationMessagePolicy", TERMINATION),
    ("core.v1.ContainerPort", "protocol", PROTOCOL),
    ("core.v1.EndpointPort", "protocol", PROTOCOL),
    ("core.v1.EphemeralContainer", "imagePullPolicy", PULL),
    (
        "core.v1.EphemeralContainer",
        "terminationMessagePolicy",
        TERMINATION,
    ),
    ("core.v1.HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    (
        "core.v1.HostPathVolumeSource",
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    ),
    (
        "core.v1.NamespaceStatus",
        "phase",
        &["Active", "Terminating"],
    ),
    (
        "core.v1.NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    (
        "core.v1.NodeStatus",
        "phase",
        &["Pending", "Running", "Terminated"],
    ),
    (
        "core.v1.PersistentVolumeClaimSpec",
        "volumeMode",
        VOLUME_MODE,
    ),
    (
        "core.v1.PersistentVolumeClaimStatus",
        "phase",
        &["Bound", "Lost", "Pending"],
    ),
    (
        "core.v1.PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        RECLAIM,
    ),
    ("core.v1.PersistentVolumeSpec", "volumeMode", VOLUME_MODE),
    (
        "core.v1.PersistentVolumeStatus",
        "phase",
        &["Available", "Bound", "Failed", "Pending", "Released"],
    ),
    (
        "core.v1.PodSecurityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "core.v1.PodSecurityContext",
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
    ),
    (
        "core.v1.PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    ("core.v1.PodSpec", "preemptionPolicy", PREEMPTION),
    (
        "core.v1.PodSpec",
        "restartPolicy",
        &["Always", "Never", "OnFailure"],
    ),
    (
        "core.v1.PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "core.v1.PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    ("core.v1.PortStatus", "protocol", PROTOCOL),
    (
        "core.v1.ScopedResourceSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "In", "NotIn"],
    ),
    (
        "core.v1.ScopedResourceSelectorRequirement",
        "scopeName",
        &[
            "BestEffort",
            "CrossNamespacePodAffinity",
            "NotBestEffort",
            "NotTerminating",
            "PriorityClass",
            "Terminating",
            "VolumeAttributesClass",
        ],
    ),
    ("core.v1.SeccompProfile", "type", PROFILE),
    (
        "core.v1.SecurityContext",
        "procMount",
        &["Default", "Unmasked"],
    ),
    ("core.v1.ServicePort", "protocol", PROTOCOL),
    (
        "core.v1.ServiceSpec",
        "externalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "core.v1.ServiceSpec",
        "internalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    (
        "core.v1.ServiceSpec",
        "sessionAffinity",
        &["ClientIP", "None"],
    ),
    (
        "core.v1.ServiceSpec",
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ),
    ("core.v1.Taint", "effect", TAINT),
    ("core.v1.Toleration", "effect", TAINT),
    (
        "core.v1.Toleration",
        "operator",
        &["Equal", "Exists", "Gt", "Lt"],
    ),
    (
        "core.v1.TopologySpreadConstraint",
        "nodeAffinityPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "core.v1.TopologySpreadConstraint",
        "nodeTaintsPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "core.v1.TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    (
        "core.v1.VolumeMount",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
    (
        "discovery.v1.EndpointSlice",
        "addressType",
        &["FQDN", "IPv4", "IPv6"],
    ),
    (
        "networking.v1.HTTPIngressPath",
        "pathType",
        &["Exact", "ImplementationSpecific", "Prefix"],
    ),
    ("networking.v1.NetworkPolicyPort", "protocol", PROTOCOL),
    (
        "scheduling.v1.PriorityClass",
        "preemptionPolicy",
        PREEMPTION,
    ),
    ("storage.v1.StorageClass", "reclaimPolicy", RECLAIM),
    (
        "storage.v1.StorageClass",
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    ),
];

const FAILURE: &[&str] = &["Fail", "Ignore"];
const MATCH: &[&str] = &["Equivalent", "Exact"];
const PREEMPTION: &[&str] = &["Never", "PreemptLowerPriority"];
const PROFILE: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const PROTOCOL: &[&str] = &["SCTP", "TCP", "UDP"];
const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
const RECLAIM: &[&str] = &["Delete", "Recycle", "Retain"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const TAINT: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
const TERMINATION: &[&str] = &["FallbackToLogsOnError", "File"];
const VOLUME_MODE: &[&str] = &["Block", "Filesystem"];

/// Definition, field, its default: those that Kubernetes publishes.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("core.v1.AzureDiskVolumeSource", "cachingMode", "ReadWrite"),
    ("core.v1.AzureDiskVolumeSource", "fsType", "ext4"),
    ("core.v1.AzureDiskVolumeSource", "kind", "Shared"),
    ("core.v1.ContainerPort", "protocol", "TCP"),
    (
        "core.v1.ISCSIPersistentVolumeSource",
        "iscsiInterface",
        "default",
    ),
    ("core.v1.ISCSIVolumeSource", "iscsiInterface", "default"),
    (
        "core.v1.RBDPersistentVolumeSource",
        "keyring",
        "/etc/ceph/keyring",
    ),
    ("core.v1.RBDPersistentVolumeSource", "pool", "rbd"),
    ("core.v1.RBDPersistentVolumeSource", "user", "admin"),
    ("core.v1.RBDVolumeSource", "keyring", "/etc/ceph/keyring"),
    ("core.v1.RBDVolumeSource", "pool", "rbd"),
    ("core.v1.RBDVolumeSource", "user", "admin"),
    ("core.v1.ScaleIOPersistentVolumeSource", "fsType", "xfs"),
    (
        "core.v1.ScaleIOPersistentVolumeSource",
        "storageMode",
        "ThinProvisioned",
    ),
    ("core.v1.ScaleIOVolumeSource", "fsType", "xfs"),
    (
        "core.v1.ScaleIOVolumeSource",
        "storageMode",
        "ThinProvisioned",
    ),
    ("core.v1.ServicePort", "protocol", "TCP"),
];

/// The values that a field may have, if they are a closed set.
pub(super) fn allowed(definition: &str, field: &str) -> Option<&'static [&'static str]> {
    let definition = definition.strip_prefix("io.k8s.api.")?;
    let found = ENUMS
        .iter()
        .find(|(owner, name, _)| (*owner, *name) == (definition, field))?;
    Some(found.2)
}

/// What a field is if it is left out: its own default, or the zero of a scalar that is always
/// written.
pub(super) fn default(definition: &str, field: &str, kind: &str, required: bool) -> Option<Value> {
    let own = definition.strip_prefix("io.k8s.api.").and_then(|owner| {
        DEFAULTS
            .iter()
            .find(|(known, name, _)| (*known, *name) == (owner, field))
    });
    match own {
        Some((_, _, value)) => Some(json!(value)),
        None if required => zero(kind),
        None => None,
    }
}

/// The zero of a scalar type.
pub(super) fn zero(kind: &str) -> Option<Value> {
    match kind {
        "string" => Some(json!("")),
        "integer" | "number" => Some(json!(0)),
        "boolean" => Some(json!(false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_field_exists_and_its_values_are_in_order() {
        let exists = |owner: &str, field: &str| {
            let definition = format!("io.k8s.api.{owner}");
            let schema = schema::builtin(&definition).unwrap_or_else(|| panic!("no {definition}"));
            assert!(schema.property(field).is_some(), "{owner}.{field}");
        };
        for (owner, field, values) in ENUMS {
            exists(owner, field);
            assert!(values.is_sorted(), "{owner}.{field}");
        }
        for (owner, field, value) in DEFAULTS {
            exists(owner, field);
            let definition = format!("io.k8s.api.{owner}");
            let allowed = allowed(&definition, field);
            assert!(
                allowed.is_none_or(|values| values.contains(value)),
                "{owner}.{field}"
            );
        }
    }
}
