//! What one rule of a role allows, and whether rules cover others. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::auth::authorizer::{Attributes, Resource, Target};

/// `rbac.authorization.k8s.io/v1` `PolicyRule`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) api_groups: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub(crate) non_resource_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) resource_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) resources: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) verbs: Vec<String>,
}

/// A null list is an empty one.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Vec<T>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

const ALL: &str = "*";
/// How many rules of one verb and one resource are compared one by one.
const MOST_SINGLES: usize = 20_000;

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|own| own == ALL || own == word)
}

impl Rule {
    /// True if it allows what is asked for.
    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        has(&self.verbs, attributes.verb)
            && match &attributes.target {
                Target::Path(path) => self
                    .non_resource_urls
                    .iter()
                    .any(|pattern| path_covers(pattern, path)),
                Target::Resource(resource) => self.allows_resource(resource),
            }
    }

    fn allows_resource(&self, asked: &Resource<'_>) -> bool {
        let named = || {
            self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| name == asked.name)
        };
        has(&self.api_groups, asked.group)
            && self.resources.iter().any(|own| resource_covers(own, asked))
            && named()
    }

    /// True if everything that `other` allows is allowed by this rule alone.
    fn covers(&self, other: &Self) -> bool {
        let all = |own: &[String], others: &[String]| others.iter().all(|word| has(own, word));
        let resources = other.resources.iter().all(|text| {
            let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
            let asked = Resource {
                resource,
                subresource,
                ..Resource::default()
            };
            self.resources
                .iter()
                .any(|own| resource_covers(own, &asked))
        });
        let paths = other.non_resource_urls.iter().all(|path| {
            self.non_resource_urls
                .iter()
                .any(|pattern| path_covers(pattern, path))
        });
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other
                    .resource_names
                    .iter()
                    .all(|name| self.resource_names.contains(name)));
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && resources
            && paths
            && names
    }

    /// How many rules [`Self::singles`] would make.
    fn count(&self) -> usize {
        let resources = self.api_groups.len().saturating_mul(self.resources.len());
        let named = resources.saturating_mul(self.resource_names.len().max(1));
        let parts = named.saturating_add(self.non_resource_urls.len());
        self.verbs.len().saturating_mul(parts)
    }

    /// The same as rules of one verb, and one path, or one group, resource and name each.
    fn singles(&self) -> Vec<Self> {
        let mut singles = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for path in &self.non_resource_urls {
                singles.push(Self {
                    non_resource_urls: vec![path.clone()],
                    verbs: verbs.clone(),
                    ..Self::default()
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let single = Self {
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        verbs: verbs.clone(),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        singles.push(single.clone());
                    }
                    singles.extend(self.resource_names.iter().map(|name| Self {
                        resource_names: vec![name.clone()],
                        ..single.clone()
                    }));
                }
            }
        }
        singles
    }

    /// True if it speaks of resources and not of paths.
    pub(crate) fn is_of_resources(&self) -> bool {
        !self.resources.is_empty()
    }
}

/// `pods`, `pods/log`, `*/scale` or `*`.
fn resource_covers(own: &str, asked: &Resource<'_>) -> bool {
    if own == ALL {
        return true;
    }
    match own.split_once('/') {
        None => asked.subresource.is_empty() && own == asked.resource,
        Some((resource, subresource)) => {
            !asked.subresource.is_empty()
                && subresource == asked.subresource
                && (resource == ALL || resource == asked.resource)
        }
    }
}

/// `/healthz`, `/healthz/*` or `*`.
fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == path
        || pattern
            .strip_suffix(ALL)
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches(ALL)))
}

/// What of `wanted` is not covered by `owned`, verbs of one resource together. Of rules that would come
/// apart into more than [`MOST_SINGLES`], those that no owned rule covers as a whole.
pub(crate) fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let count = wanted.iter().map(Rule::count);
    if count.fold(0, usize::saturating_add) > MOST_SINGLES {
        let wanted = wanted.iter();
        let uncovered = wanted.filter(|rule| !owned.iter().any(|own| own.covers(rule)));
        return uncovered.cloned().collect();
    }
    let mut missing: Vec<Rule> = Vec::new();
    let mut places = HashMap::new();
    let singles: BTreeSet<Rule> = wanted.iter().flat_map(Rule::singles).collect();
    for single in singles {
        if owned.iter().any(|rule| rule.covers(&single)) {
            continue;
        }
        let place = match single.is_of_resources() {
            true => *places
                .entry((
                    single.api_groups.clone(),
                    single.resources.clone(),
                    single.resource_names.clone(),
                ))
                .or_insert(missing.len()),
            false => missing.len(),
        };
        match missing.get_mut(place) {
            Some(known) => known.verbs.extend(single.verbs),
            None => missing.push(single),
        }
    }
    missing
}

impl fmt::Display for Rule {
    /// As Kubernetes writes rules in messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// A list as Go writes it with `%q`.
pub(crate) fn quoted(list: &[String]) -> String {
    let words: Vec<Cow<'_, str>> = list
        .iter()
        .map(|word| Cow::Owned(format!("{word:?}")))
        .collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    /// `verbs groups resources [names]` or `verbs urls paths`; `-` is the core group.
    fn rule(text: &str) -> Rule {
        let list = |word: &str| -> Vec<String> {
            let words = word.split(',');
            words
                .map(|word| if word == "-" { "" } else { word }.to_owned())
                .collect()
        };
        let words: Vec<&str> = text.split(' ').collect();
        let verbs = list(words[0]);
        if words[1] == "urls" {
            return Rule {
                verbs,
                non_resource_urls: list(words[2]),
                ..Rule::default()
            };
        }
        Rule {
            verbs,
            api_groups: list(words[1]),
            resources: list(words[2]),
            resource_names: words.get(3).map(|names| list(names)).unwrap_or_default(),
            ..Rule::default()
        }
    }

    /// `asked`: verb, group, resource and name.
    #[track_caller]
    fn check(own: &str, asked: &str, allowed: bool) {
        let words: Vec<&str> = asked.split(' ').collect();
        let attributes = if words[1].starts_with('/') {
            Attributes::path(words[0], words[1])
        } else {
            let (resource, subresource) = words[2].split_once('/').unwrap_or((words[2], ""));
            Attributes::resource(
                words[0],
                Resource {
                    group: if words[1] == "-" { "" } else { words[1] },
                    resource,
                    subresource,
                    namespace: "",
                    name: words.get(3).copied().unwrap_or_default(),
                    fields: None,
                },
            )
        };
        assert_eq!(rule(own).allows(&attributes), allowed, "{own}: {asked}");
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        check("get,list - pods", "get - pods a", true);
        check("get,list - pods", "watch - pods", false);
        check("get - pods", "get apps pods", false);
        check("get - pods", "get - pods/log a", false);
        check("get - pods/log", "get - pods/log a", true);
        check("get - pods/log", "get - pods a", false);
        check("* * *", "delete apps deployments/scale a", true);
        check("get * */scale", "get apps deployments/scale a", true);
        check("get * */scale", "get apps deployments a", false);
        check("get * */scale", "get apps deployments/status a", false);
        check("get - pods/*", "get - pods/log a", false);
        check("get - secrets a,b", "get - secrets b", true);
        check("get - secrets a,b", "get - secrets c", false);
        check("list - secrets a", "list - secrets", false);
    }

    #[test]
    fn a_path_may_end_in_a_star() {
        check("get urls /healthz", "get /healthz", true);
        check("get urls /healthz", "get /healthz/ping", false);
        check("get urls /healthz/*", "get /healthz/ping", true);
        check("get urls /healthz/*", "get /healthz", false);
        check("get urls *", "get /metrics", true);
        check("get urls *", "post /metrics", false);
        check("get urls /api*", "get /apis/apps", true);
        check("* * *", "get /metrics", false);
        check("get urls *", "get - pods", false);
    }

    #[track_caller]
    fn check_missing(owned: &[&str], wanted: &[&str], expected: Expect) {
        let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
        let mut lines: Vec<String> = missing(&rules(owned), &rules(wanted))
            .iter()
            .map(ToString::to_string)
            .collect();
        lines.sort();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn what_is_not_held_is_told_by_resource() {
        check_missing(
            &["get,list - pods"],
            &["get,list,delete - pods,secrets"],
            expect![[r#"
                {APIGroups:[""], Resources:["pods"], Verbs:["delete"]}
                {APIGroups:[""], Resources:["secrets"], Verbs:["delete" "get" "list"]}"#]],
        );
        check_missing(
            &["get - secrets a"],
            &["get - secrets", "get - secrets a", "get - secrets b"],
            expect![[r#"
                {APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["get"]}
                {APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#]],
        );
        check_missing(
            &["get urls /healthz/*"],
            &["get urls /healthz/ping,/metrics"],
            expect![[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#]],
        );
        check_missing(
            &["* * */scale"],
            &["update apps deployments/scale,deployments"],
            expect![[r#"{APIGroups:["apps"], Resources:["deployments"], Verbs:["update"]}"#]],
        );
        check_missing(
            &["get,list,watch * *"],
            &["* * *"],
            expect![[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#]],
        );
    }

    #[test]
    fn a_rule_of_a_billion_parts_is_compared_as_a_whole() {
        let words: Vec<String> = (0..1_000).map(|number| format!("w{number}")).collect();
        let words = words.join(",");
        let wanted = format!("{words} {words} {words}");
        let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
        assert_eq!(
            missing(&rules(&["get - pods"]), &rules(&[&wanted])).len(),
            1
        );
        assert_eq!(missing(&rules(&["* * *"]), &rules(&[&wanted])), []);
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let words = |all: &'static [&'static str]| {
            proptest::collection::vec(proptest::sample::select(all), 1..3)
                .prop_map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let names = proptest::collection::vec("[ab]", 0..2);
        (
            words(&["get", "list", "*"]),
            words(&["", "apps", "*"]),
            words(&["pods", "pods/log", "*/scale", "*"]),
            names,
        )
            .prop_map(|(verbs, api_groups, resources, resource_names)| Rule {
                api_groups,
                resource_names,
                resources,
                verbs,
                ..Rule::default()
            })
    }

    proptest! {
        #[test]
        fn whoever_lacks_nothing_may_all_that_is_wanted(
            owned in proptest::collection::vec(rules(), 0..3),
            wanted in rules(),
            verb in "get|list|patch",
            group in "|apps|batch",
            resource in "pods|jobs",
            subresource in "|log|scale",
            name in "|a|b",
        ) {
            let asked = Attributes::resource(&verb, Resource {
                group: &group, resource: &resource, subresource: &subresource, namespace: "", name: &name,
                fields: None,
            });
            if missing(&owned, std::slice::from_ref(&wanted)).is_empty() && wanted.allows(&asked) {
                prop_assert!(owned.iter().any(|rule| rule.allows(&asked)));
            }
        }
    }
}
