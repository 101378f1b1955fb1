#!/usr/bin/env python3
"""Makes protobuf-fields.txt: python3 api/facts/protobuf-fields.py K8S_PB_SOURCE

K8S_PB_SOURCE is the unpacked source of the crate k8s-pb 0.9 (in ~/.cargo/registry/src once some
scratch crate depends on it). Only facts are taken: numbers, names and types of fields. The JSON
names come from kubernetes-1.36-structure.json beside this file: the same letters without the
underscores (and without the dashes and dollars that JSON has). Every message that can be reached from ROOTS is written.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
API = "io.k8s.api."
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis."

# What a request may hold: the message, its apiVersion (* is any) and kind.
ROOTS = [
    ("authentication.v1.SelfSubjectReview", "authentication.k8s.io/v1", "SelfSubjectReview"),
    ("authentication.v1.TokenRequest", "authentication.k8s.io/v1", "TokenRequest"),
    ("authentication.v1.TokenReview", "authentication.k8s.io/v1", "TokenReview"),
    ("authorization.v1.LocalSubjectAccessReview", "authorization.k8s.io/v1", "LocalSubjectAccessReview"),
    ("authorization.v1.SelfSubjectAccessReview", "authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    ("authorization.v1.SelfSubjectRulesReview", "authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    ("authorization.v1.SubjectAccessReview", "authorization.k8s.io/v1", "SubjectAccessReview"),
    ("core.v1.Namespace", "v1", "Namespace"),
    ("core.v1.Node", "v1", "Node"),
    ("core.v1.Pod", "v1", "Pod"),
    ("core.v1.Service", "v1", "Service"),
    ("core.v1.ConfigMap", "v1", "ConfigMap"),
    ("core.v1.Secret", "v1", "Secret"),
    ("core.v1.ServiceAccount", "v1", "ServiceAccount"),
    ("core.v1.Event", "v1", "Event"),
    ("core.v1.Binding", "v1", "Binding"),
    ("core.v1.ComponentStatus", "v1", "ComponentStatus"),
    ("core.v1.Endpoints", "v1", "Endpoints"),
    ("core.v1.LimitRange", "v1", "LimitRange"),
    ("core.v1.PersistentVolume", "v1", "PersistentVolume"),
    ("core.v1.PersistentVolumeClaim", "v1", "PersistentVolumeClaim"),
    ("core.v1.PodTemplate", "v1", "PodTemplate"),
    ("core.v1.ReplicationController", "v1", "ReplicationController"),
    ("core.v1.ResourceQuota", "v1", "ResourceQuota"),
    ("apps.v1.ControllerRevision", "apps/v1", "ControllerRevision"),
    ("apps.v1.DaemonSet", "apps/v1", "DaemonSet"),
    ("apps.v1.StatefulSet", "apps/v1", "StatefulSet"),
    ("apps.v1.ReplicaSet", "apps/v1", "ReplicaSet"),
    ("apps.v1.Deployment", "apps/v1", "Deployment"),
    ("autoscaling.v1.Scale", "autoscaling/v1", "Scale"),
    ("autoscaling.v1.HorizontalPodAutoscaler", "autoscaling/v1", "HorizontalPodAutoscaler"),
    ("autoscaling.v2.HorizontalPodAutoscaler", "autoscaling/v2", "HorizontalPodAutoscaler"),
    ("batch.v1.CronJob", "batch/v1", "CronJob"),
    ("batch.v1.Job", "batch/v1", "Job"),
    ("coordination.v1.Lease", "coordination.k8s.io/v1", "Lease"),
    ("discovery.v1.EndpointSlice", "discovery.k8s.io/v1", "EndpointSlice"),
    ("admissionregistration.v1.MutatingAdmissionPolicy", "admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy"),
    ("admissionregistration.v1.MutatingAdmissionPolicyBinding", "admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.v1.MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.v1.ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBinding", "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("apiextensions.v1.CustomResourceDefinition", "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apiregistration.v1.APIService", "apiregistration.k8s.io/v1", "APIService"),
    ("certificates.v1.CertificateSigningRequest", "certificates.k8s.io/v1", "CertificateSigningRequest"),
    ("flowcontrol.v1.FlowSchema", "flowcontrol.apiserver.k8s.io/v1", "FlowSchema"),
    ("flowcontrol.v1.PriorityLevelConfiguration", "flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"),
    ("networking.v1.IPAddress", "networking.k8s.io/v1", "IPAddress"),
    ("networking.v1.Ingress", "networking.k8s.io/v1", "Ingress"),
    ("networking.v1.IngressClass", "networking.k8s.io/v1", "IngressClass"),
    ("networking.v1.NetworkPolicy", "networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.v1.ServiceCIDR", "networking.k8s.io/v1", "ServiceCIDR"),
    ("node.v1.RuntimeClass", "node.k8s.io/v1", "RuntimeClass"),
    ("rbac.v1.ClusterRole", "rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.v1.ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.v1.Role", "rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.v1.RoleBinding", "rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("resource.v1.DeviceClass", "resource.k8s.io/v1", "DeviceClass"),
    ("resource.v1.ResourceClaim", "resource.k8s.io/v1", "ResourceClaim"),
    ("resource.v1.ResourceClaimTemplate", "resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("resource.v1.ResourceSlice", "resource.k8s.io/v1", "ResourceSlice"),
    ("scheduling.v1.PriorityClass", "scheduling.k8s.io/v1", "PriorityClass"),
    ("storage.v1.CSIDriver", "storage.k8s.io/v1", "CSIDriver"),
    ("storage.v1.CSINode", "storage.k8s.io/v1", "CSINode"),
    ("storage.v1.CSIStorageCapacity", "storage.k8s.io/v1", "CSIStorageCapacity"),
    ("storage.v1.StorageClass", "storage.k8s.io/v1", "StorageClass"),
    ("storage.v1.VolumeAttachment", "storage.k8s.io/v1", "VolumeAttachment"),
    ("storage.v1.VolumeAttributesClass", "storage.k8s.io/v1", "VolumeAttributesClass"),
    ("events.v1.Event", "events.k8s.io/v1", "Event"),
    ("policy.v1.Eviction", "policy/v1", "Eviction"),
    ("policy.v1.PodDisruptionBudget", "policy/v1", "PodDisruptionBudget"),
    ("meta.v1.DeleteOptions", "*", "DeleteOptions"),
]

# Messages that JSON writes in a way of their own.
SPECIAL = {
    "authentication.v1.ExtraValue": "strings",
    "authorization.v1.ExtraValue": "strings",
    "api.resource.Quantity": "quantity",
    "util.intstr.IntOrString": "int-or-string",
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "micro-time",
    "meta.v1.FieldsV1": "json",
    "runtime.RawExtension": "json",
    "certificates.v1.ExtraValue": "strings",
    "apiextensions.v1.JSON": "json",
    "apiextensions.v1.JSONSchemaPropsOrArray": "schema-or-array",
    "apiextensions.v1.JSONSchemaPropsOrBool": "schema-or-bool",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "schema-or-strings",
}

# Messages whose fields JSON writes among those of their owner.
INLINE = {
    "device_configuration",
    "ephemeral_container_common",
    "handler",
    "ingress_rule_value",
    "local_object_reference",
    "persistent_volume_source",
    "rule",
    "rule_with_operations",
    "volume_source",
}

# What the crate, made from 1.35, has and 1.36 has no more.
GONE = {"core.v1.PodSpec.workload_ref"}

# Optional fields whose zero is a value: pointers in Go (k8s.io/api), or written without omitempty.
KEPT = """
admissionregistration.v1.MatchResources matchPolicy
admissionregistration.v1.MutatingAdmissionPolicySpec failurePolicy
admissionregistration.v1.MutatingWebhook failurePolicy matchPolicy sideEffects timeoutSeconds reinvocationPolicy
admissionregistration.v1.ParamRef parameterNotFoundAction
admissionregistration.v1.Rule scope
admissionregistration.v1.ServiceReference path port
admissionregistration.v1.ValidatingAdmissionPolicySpec failurePolicy
admissionregistration.v1.ValidatingWebhook failurePolicy matchPolicy sideEffects timeoutSeconds
admissionregistration.v1.Validation reason
admissionregistration.v1.WebhookClientConfig url
apiextensions.v1.CustomResourceDefinitionVersion deprecationWarning
apiextensions.v1.CustomResourceSubresourceScale labelSelectorPath
apiextensions.v1.JSONSchemaProps $ref maximum minimum maxLength minLength maxItems minItems multipleOf maxProperties minProperties
apiextensions.v1.JSONSchemaProps x-kubernetes-preserve-unknown-fields x-kubernetes-list-type x-kubernetes-map-type
apiextensions.v1.ServiceReference path port
apiextensions.v1.ValidationRule reason optionalOldSelf
apiextensions.v1.WebhookClientConfig url
apiregistration.v1.ServiceReference port
apps.v1.DaemonSetSpec revisionHistoryLimit
apps.v1.DaemonSetStatus collisionCount
apps.v1.DeploymentSpec replicas revisionHistoryLimit progressDeadlineSeconds
apps.v1.DeploymentStatus collisionCount terminatingReplicas
apps.v1.ReplicaSetSpec replicas
apps.v1.ReplicaSetStatus terminatingReplicas
apps.v1.RollingUpdateStatefulSetStrategy partition
apps.v1.StatefulSetOrdinals start
apps.v1.StatefulSetSpec replicas revisionHistoryLimit
apps.v1.StatefulSetStatus collisionCount availableReplicas
autoscaling.v1.HorizontalPodAutoscalerSpec minReplicas targetCPUUtilizationPercentage
autoscaling.v1.HorizontalPodAutoscalerStatus observedGeneration currentCPUUtilizationPercentage
autoscaling.v2.HPAScalingRules stabilizationWindowSeconds selectPolicy
autoscaling.v2.HorizontalPodAutoscalerSpec minReplicas
autoscaling.v2.HorizontalPodAutoscalerStatus observedGeneration
autoscaling.v2.MetricTarget averageUtilization
autoscaling.v2.MetricValueStatus averageUtilization
batch.v1.CronJobSpec timeZone startingDeadlineSeconds suspend successfulJobsHistoryLimit failedJobsHistoryLimit
batch.v1.JobSpec manualSelector ttlSecondsAfterFinished completionMode suspend podReplacementPolicy managedBy
batch.v1.JobSpec parallelism completions activeDeadlineSeconds backoffLimit backoffLimitPerIndex maxFailedIndexes
batch.v1.JobStatus terminating ready failedIndexes
batch.v1.PodFailurePolicyOnExitCodesRequirement containerName
batch.v1.SuccessPolicyRule succeededIndexes succeededCount
authentication.v1.TokenRequestSpec expirationSeconds
certificates.v1.CertificateSigningRequestSpec expirationSeconds
coordination.v1.LeaseSpec holderIdentity leaseDurationSeconds leaseTransitions strategy preferredHolder
core.v1.AppArmorProfile localhostProfile
core.v1.AzureDiskVolumeSource cachingMode fsType readOnly kind
core.v1.AzureFilePersistentVolumeSource secretNamespace
core.v1.CSIVolumeSource readOnly fsType
core.v1.ClientIPConfig timeoutSeconds
core.v1.ClusterTrustBundleProjection name signerName optional
core.v1.ConfigMap immutable
core.v1.ConfigMapEnvSource optional
core.v1.ConfigMapKeySelector optional
core.v1.ConfigMapProjection optional
core.v1.ConfigMapVolumeSource defaultMode optional
core.v1.Container restartPolicy
core.v1.ContainerStatus started stopSignal
core.v1.DownwardAPIVolumeFile mode
core.v1.DownwardAPIVolumeSource defaultMode
core.v1.EndpointAddress nodeName
core.v1.EndpointPort appProtocol
core.v1.EphemeralContainerCommon restartPolicy
core.v1.Event reportingComponent reportingInstance
core.v1.FCVolumeSource lun
core.v1.FileKeySelector optional
core.v1.GRPCAction service
core.v1.GlusterfsPersistentVolumeSource endpointsNamespace
core.v1.HostPathVolumeSource type
core.v1.ISCSIPersistentVolumeSource initiatorName
core.v1.ISCSIVolumeSource initiatorName
core.v1.KeyToPath mode
core.v1.Lifecycle stopSignal
core.v1.LoadBalancerIngress ipMode
core.v1.LocalVolumeSource fsType
core.v1.NodeFeatures supplementalGroupsPolicy
core.v1.NodeRuntimeHandler name
core.v1.NodeRuntimeHandlerFeatures recursiveReadOnlyMounts userNamespaces
core.v1.NodeSwapStatus capacity
core.v1.PersistentVolumeClaimSpec storageClassName volumeMode volumeAttributesClassName
core.v1.PersistentVolumeClaimStatus currentVolumeAttributesClassName
core.v1.PersistentVolumeSpec volumeMode volumeAttributesClassName
core.v1.PodCertificateProjection maxExpirationSeconds
core.v1.PodDNSConfigOption value
core.v1.PodExtendedResourceClaimStatus resourceClaimName
core.v1.PodResourceClaim resourceClaimName resourceClaimTemplateName
core.v1.PodResourceClaimStatus resourceClaimName
core.v1.PodSecurityContext runAsUser runAsNonRoot fsGroup runAsGroup fsGroupChangePolicy supplementalGroupsPolicy seLinuxChangePolicy
core.v1.PodSpec terminationGracePeriodSeconds activeDeadlineSeconds automountServiceAccountToken priority shareProcessNamespace runtimeClassName enableServiceLinks preemptionPolicy setHostnameAsFQDN hostUsers hostnameOverride
core.v1.PortStatus error
core.v1.Probe terminationGracePeriodSeconds
core.v1.ProjectedVolumeSource defaultMode
core.v1.ReplicationControllerSpec replicas
core.v1.SeccompProfile localhostProfile
core.v1.Secret immutable
core.v1.SecretEnvSource optional
core.v1.SecretKeySelector optional
core.v1.SecretProjection optional
core.v1.SecretVolumeSource defaultMode optional
core.v1.SecurityContext privileged runAsUser runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation runAsGroup procMount
core.v1.ServiceAccount automountServiceAccountToken
core.v1.ServiceAccountTokenProjection expirationSeconds
core.v1.ServicePort appProtocol
core.v1.ServiceSpec ipFamilyPolicy allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution
core.v1.Toleration tolerationSeconds
core.v1.TopologySpreadConstraint minDomains nodeAffinityPolicy nodeTaintsPolicy
core.v1.TypedLocalObjectReference apiGroup
core.v1.TypedObjectReference apiGroup namespace
core.v1.VolumeMount mountPropagation recursiveReadOnly
core.v1.VolumeMountStatus recursiveReadOnly
core.v1.WindowsSecurityContextOptions gmsaCredentialSpecName gmsaCredentialSpec runAsUserName hostProcess
discovery.v1.Endpoint hostname nodeName zone
discovery.v1.EndpointConditions ready serving terminating
discovery.v1.EndpointPort name protocol port appProtocol
flowcontrol.v1.ExemptPriorityLevelConfiguration nominalConcurrencyShares lendablePercent
flowcontrol.v1.FlowSchemaSpec matchingPrecedence
flowcontrol.v1.LimitedPriorityLevelConfiguration nominalConcurrencyShares lendablePercent borrowingLimitPercent
flowcontrol.v1.QueuingConfiguration queues handSize queueLengthLimit
meta.v1.DeleteOptions gracePeriodSeconds orphanDependents propagationPolicy ignoreStoreReadErrorWithClusterBreakingPotential
meta.v1.ObjectMeta deletionGracePeriodSeconds
meta.v1.OwnerReference controller blockOwnerDeletion
meta.v1.Preconditions uid resourceVersion
networking.v1.HTTPIngressPath pathType
networking.v1.IngressClassParametersReference apiGroup scope namespace
networking.v1.IngressPortStatus error
networking.v1.IngressSpec ingressClassName
networking.v1.NetworkPolicyPort protocol endPort
policy.v1.PodDisruptionBudgetSpec unhealthyPodEvictionPolicy
resource.v1.AllocatedDeviceStatus shareID
resource.v1.Device bindsToNode nodeName allNodes allowMultipleAllocations
resource.v1.DeviceAttribute int bool string version
resource.v1.DeviceClassSpec extendedResourceName
resource.v1.DeviceConstraint matchAttribute distinctAttribute
resource.v1.DeviceRequestAllocationResult adminAccess shareID
resource.v1.DeviceToleration tolerationSeconds
resource.v1.ExactDeviceRequest adminAccess
resource.v1.ResourceSliceSpec nodeName allNodes perDeviceNodeSelection
scheduling.v1.PriorityClass value preemptionPolicy
storage.v1.CSIDriverSpec attachRequired podInfoOnMount storageCapacity fsGroupPolicy requiresRepublish seLinuxMount nodeAllocatableUpdatePeriodSeconds serviceAccountTokenInSecrets
storage.v1.StorageClass reclaimPolicy allowVolumeExpansion volumeBindingMode
storage.v1.TokenRequest expirationSeconds
storage.v1.VolumeAttachmentSource persistentVolumeName
storage.v1.VolumeError errorCode
storage.v1.VolumeNodeResources count
"""


def definition(message):
    """The structural definition of a message: io.k8s.api.core.v1.Pod of core.v1.Pod."""
    if message.startswith("apiregistration."):
        return "io.k8s.kube-aggregator.pkg.apis." + message
    if message.startswith("apiextensions."):
        return EXTENSIONS + message
    return META + message[8:] if message.startswith("meta.v1.") else API + message


def messages(source, structure):
    """Message -> [(number, name in Rust, prost's type, the message that it holds)]."""
    # Rust writes Dns and Nfs where Kubernetes writes DNS and NFS.
    spelled = {name.lower(): name for name in structure}

    def kubernetes(message):
        found = spelled.get(definition(message).lower(), "")
        return message.rpartition(".")[0] + "." + found.rpartition(".")[2] if found else message

    found = {}
    for path in sorted(source.rglob("mod.rs")):
        parts = path.parent.relative_to(source).parts
        text = re.sub(r"^\s*///.*\n", "", path.read_text(), flags=re.M).replace(" {}\n", " {\n}\n")
        for name, body in re.findall(r"^pub struct (\w+) \{\n(.*?)^\}", text, re.M | re.S):
            field = r'#\[prost\(\s*(.*?),\s*tag = "(\d+)",?\s*\)\]\s+pub (?:r#)?(\w+):\s+(.*?),\n(?=\s*#|\Z)'
            fields = re.findall(field, re.sub(r"#\[deprecated\]\s*", "", body), re.S)
            found[kubernetes(short((*parts, name)))] = [
                (int(number), name, kind, kubernetes(resolve(parts, rust)) if "message" in kind else "")
                for kind, number, name, rust in fields
            ]
    return found


def short(parts):
    """core.v1.Pod of api/core/v1/Pod."""
    path = ".".join(parts)
    groups = [group + ".pkg.apis." for group in ("apiextensions_apiserver", "kube_aggregator", "apimachinery")]
    for prefix in (*groups, "apimachinery.pkg.", "api."):
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path


def resolve(module, rust):
    """The message that a field's Rust type names, if any."""
    named = re.findall(r"(?:super::)*(?:\w+::)*[A-Z]\w+", rust)
    path = named[-1].split("::") if named else [""]
    base = list(module)
    while path[0] == "super":
        base.pop()
        path.pop(0)
    return short((*base, *path))


def scalar(kind, message):
    if kind != "message":
        return kind
    return SPECIAL.get(message, message)


def main():
    source = pathlib.Path(sys.argv[1]) / "src"
    structure = json.loads((HERE / "kubernetes-1.36-structure.json").read_text())
    known = messages(source, structure)
    kept = {
        f"{line.split()[0]}.{name}" for line in KEPT.split("\n") if line for name in line.split()[1:]
    }
    unused = set(kept)
    lines = {}

    def fields(message):
        """The fields of a message; of one that is younger than the crate, those that it had as a beta."""
        if message in known:
            return known[message]
        return [
            (number, name, kind, target.replace(".v1beta1.", ".v1."))
            for number, name, kind, target in known[message.replace(".v1.", ".v1beta1.")]
        ]

    def write(message, owner):
        """A message whose JSON fields are those of the definition of `owner`."""
        if message in lines:
            return
        lines[message] = rows = []
        facts = structure[definition(owner)]
        names = {re.sub(r"[-$]", "", name).lower(): name for name in facts.get("properties", {})}
        for number, rust, kind, target in sorted(fields(message)):
            name = names.get(rust.replace("_", "").lower())
            parts = kind.split(", ")
            repeated = "repeated" in parts
            is_map = kind.startswith("btree_map")
            if is_map:
                value = re.search(r'"string, (\w+)"', kind).group(1)
            else:
                value = parts[0].split(" ")[0]
            text = scalar(value, target)
            if f"{message}.{rust}" in GONE:
                continue
            if name is None and rust in INLINE:
                # One that has no definition of its own is part of its owner's.
                write(text, text if definition(text) in structure else message)
                rows.append(f"{number} inline {text}")
                continue
            if name is None:
                sys.exit(f"{message}.{rust}: no such property of {owner}")
            key = f"{message}.{name}"
            keeps = key in kept or (name in facts.get("required", []) and text == value)
            unused.discard(key)
            if "." in text:
                write(text, text)
            if is_map:
                text = f"map {text}"
            elif repeated:
                text = f"list {text}"
            elif keeps:
                text = f"kept {text}"
            rows.append(f"{number} {name} {text}")

    for message, _, _ in ROOTS:
        write(message, message)
    if unused:
        sys.exit(f"not fields that are reached: {sorted(unused)}")
    roots = {message: f" {version} {kind}" for message, version, kind in ROOTS}
    text = "".join(
        f"{message}{roots.get(message, '')}\n" + "".join(f"  {row}\n" for row in lines[message])
        for message in sorted(lines)
    )
    (HERE / "protobuf-fields.txt").write_text(text)


main()
