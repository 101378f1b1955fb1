//! `.Capabilities`: the cluster's version and APIs, as templates ask for them.

use std::{any::Any, rc::Rc};

use super::object::{Struct, wrong_number};
use crate::{Failure, Object, Value, semver::Version};

/// What templates know of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    pub kube_version: KubeVersion,
    /// `apps/v1`, and on a live cluster `apps/v1/Deployment` too.
    pub api_versions: Vec<String>,
}

/// A version of Kubernetes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KubeVersion {
    /// `v1.36.0`.
    pub version: String,
    pub major: String,
    pub minor: String,
}

impl KubeVersion {
    /// Reads what `--kube-version` was given.
    pub fn parse(text: &str) -> Result<KubeVersion, String> {
        let version = Version::parse(text)
            .map_err(|error| format!("invalid kube version '{text}': {error}"))?;
        Ok(KubeVersion {
            version: format!("v{version}"),
            major: version.major.to_string(),
            minor: version.minor.to_string(),
        })
    }
}

/// The Helm that templates are told they run in.
const HELM_VERSION: &str = "v4.2";
const GO_VERSION: &str = "go1.26.6";
const CLIENT_VERSION: &str = "v1.36";

/// What is known without a cluster: the groups of Helm's own client.
const API_VERSIONS: &[&str] = &[
    "v1",
    "admissionregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1alpha1",
    "admissionregistration.k8s.io/v1beta1",
    "internal.apiserver.k8s.io/v1alpha1",
    "apps/v1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1",
    "authentication.k8s.io/v1alpha1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1",
    "authorization.k8s.io/v1beta1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "batch/v1beta1",
    "certificates.k8s.io/v1",
    "certificates.k8s.io/v1beta1",
    "certificates.k8s.io/v1alpha1",
    "coordination.k8s.io/v1alpha2",
    "coordination.k8s.io/v1beta1",
    "coordination.k8s.io/v1",
    "discovery.k8s.io/v1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1beta2",
    "flowcontrol.apiserver.k8s.io/v1beta3",
    "networking.k8s.io/v1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "resource.k8s.io/v1",
    "resource.k8s.io/v1beta2",
    "resource.k8s.io/v1beta1",
    "resource.k8s.io/v1alpha3",
    "scheduling.k8s.io/v1alpha2",
    "scheduling.k8s.io/v1beta1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1beta1",
    "storage.k8s.io/v1",
    "storage.k8s.io/v1alpha1",
    "storagemigration.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1",
];

impl Default for Capabilities {
    fn default() -> Capabilities {
        Capabilities {
            kube_version: KubeVersion {
                version: "v1.36.0".to_owned(),
                major: "1".to_owned(),
                minor: "36".to_owned(),
            },
            api_versions: API_VERSIONS
                .iter()
                .map(|&version| version.to_owned())
                .collect(),
        }
    }
}

impl Capabilities {
    /// As templates see it.
    pub(super) fn value(&self) -> Value {
        let text = |text: &str| Value::string(text.to_owned());
        let version = &self.kube_version;
        let kube_version = Struct {
            type_name: "common.KubeVersion",
            kind: "struct",
            fields: vec![
                ("Version", "Version", text(&version.version)),
                ("Major", "Major", text(&version.major)),
                ("Minor", "Minor", text(&version.minor)),
            ],
            printed: Some(version.version.clone()),
            methods: vec![
                ("GitVersion", text(&version.version)),
                ("String", text(&version.version)),
            ],
        };
        let helm_version = Struct {
            type_name: "version.BuildInfo",
            kind: "struct",
            fields: vec![
                ("Version", "version", text(HELM_VERSION)),
                ("GitCommit", "", text("")),
                ("GitTreeState", "", text("")),
                ("GoVersion", "go_version", text(GO_VERSION)),
                (
                    "KubeClientVersion",
                    "kube_client_version",
                    text(CLIENT_VERSION),
                ),
            ],
            printed: None,
            methods: Vec::new(),
        };
        let api_versions = ApiVersions(self.api_versions.clone());
        let object = |object: Struct| Value::Object(Rc::new(object));
        object(Struct {
            type_name: "*common.Capabilities",
            kind: "ptr",
            fields: vec![
                ("KubeVersion", "KubeVersion", object(kube_version)),
                (
                    "APIVersions",
                    "APIVersions",
                    Value::Object(Rc::new(api_versions)),
                ),
                ("HelmVersion", "HelmVersion", object(helm_version)),
            ],
            printed: None,
            methods: Vec::new(),
        })
    }
}

/// `.Capabilities.APIVersions`.
struct ApiVersions(Vec<String>);

impl Object for ApiVersions {
    fn type_name(&self) -> &'static str {
        "common.VersionSet"
    }

    fn kind(&self) -> &'static str {
        "slice"
    }

    fn field(&self, _: &str) -> Option<Value> {
        None
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Result<Value, Failure>> {
        if name != "Has" {
            return None;
        }
        Some(match args {
            [Value::String(wanted)] => {
                let known = self.0.iter().any(|known| known.as_bytes() == &wanted[..]);
                Ok(Value::Bool(known))
            }
            [_] => Err(Failure::new("wrong type for value; expected string")),
            args => Err(wrong_number(name, 1, args.len())),
        })
    }

    fn print(&self) -> String {
        format!("[{}]", self.0.join(" "))
    }

    fn plain(&self) -> Value {
        Value::strings(self.0.iter().cloned().map(Value::string).collect())
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
