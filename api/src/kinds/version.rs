//! The order of API groups and of their versions, as discovery lists them.
//!
//! Pure. Kubernetes orders its own groups by a table and all others after them by name, and versions
//! by how stable they are: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then whatever else, by name.

use std::cmp::Reverse;

/// The groups in the order of Kubernetes' own APIServices.
const GROUPS: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// Sorts groups.
pub(super) fn group_rank(group: &str) -> (usize, &str) {
    let known = GROUPS.iter().position(|known| *known == group);
    (known.unwrap_or(GROUPS.len()), group)
}

/// Sorts versions, the one to prefer first.
pub(crate) fn rank(version: &str) -> Rank<'_> {
    match parse(version) {
        Some((stability, major, minor)) => Rank {
            other: false,
            stability: Reverse(stability),
            major: Reverse(major),
            minor: Reverse(minor),
            name: version,
        },
        None => Rank {
            other: true,
            stability: Reverse(Stability::Alpha),
            major: Reverse(0),
            minor: Reverse(0),
            name: version,
        },
    }
}

/// Where a version stands; less is better.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank<'a> {
    other: bool,
    stability: Reverse<Stability>,
    major: Reverse<u64>,
    minor: Reverse<u64>,
    name: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stability {
    Alpha,
    Beta,
    Stable,
}

/// `v1`, `v1beta2`: how stable, and its two numbers. None for any other name.
fn parse(version: &str) -> Option<(Stability, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = number(major)?;
    if rest.is_empty() {
        return Some((Stability::Stable, major, 0));
    }
    [("alpha", Stability::Alpha), ("beta", Stability::Beta)]
        .into_iter()
        .find_map(|(word, stability)| Some((stability, major, number(rest.strip_prefix(word)?)?)))
}

fn number(digits: &str) -> Option<u64> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stable_version_comes_first() {
        let mut versions = [
            "foo10",
            "v1",
            "v11alpha2",
            "v10beta3",
            "v2",
            "v10",
            "v12alpha1",
            "foo1",
            "v3beta1",
            "v11beta2",
        ];
        versions.sort_by_key(|version| rank(version));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10",
            ]
        );
    }

    #[test]
    fn unknown_groups_come_after_kubernetes_own_by_name() {
        let mut groups = ["stable.example.com", "batch", "acme.io", "", "apps"];
        groups.sort_by_key(|group| group_rank(group));
        assert_eq!(
            groups,
            ["", "apps", "batch", "acme.io", "stable.example.com"]
        );
    }
}
