//! Roles and bindings by the names they are asked for: a question looks at the bindings of the user and
//! of their groups, and at nothing else. Pure.

use std::collections::HashMap;

use serde::Deserialize;
use store::{Item, Key, ResourceKey};

use super::{
    GROUP,
    rule::{Rule, nullable},
};
use crate::auth::{
    User,
    authorizer::{Attributes, Decision, Target},
    follow, service_account,
};

/// The four resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    Roles,
    ClusterRoles,
    Bindings,
    ClusterBindings,
}

impl Table {
    fn plural(self) -> &'static str {
        match self {
            Self::Roles => "roles",
            Self::ClusterRoles => "clusterroles",
            Self::Bindings => "rolebindings",
            Self::ClusterBindings => "clusterrolebindings",
        }
    }
}

#[derive(Deserialize)]
struct Role {
    #[serde(default, deserialize_with = "nullable")]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(default, deserialize_with = "nullable")]
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

/// Whom a binding names.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

/// One subject of one binding.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// The binding's key.
    binding: Key,
    subject: Subject,
    role: RoleRef,
}

/// The grants of one namespace, or (empty) those that hold everywhere.
#[derive(Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// Everything that decides.
#[derive(Default)]
pub(crate) struct Index {
    /// By namespace (empty: ClusterRoles), then name.
    roles: HashMap<Box<str>, HashMap<Box<str>, Vec<Rule>>>,
    /// By namespace.
    grants: HashMap<Box<str>, Grants>,
    /// Where each binding's grants are: namespace, and the users and groups it names.
    bindings: HashMap<Key, Vec<Subject>>,
}

impl follow::Index for Index {
    type Table = Table;
    const TABLES: &'static [Table] = &[
        Table::Roles,
        Table::ClusterRoles,
        Table::Bindings,
        Table::ClusterBindings,
    ];

    fn resource(table: Table) -> ResourceKey {
        ResourceKey::new(GROUP, table.plural())
    }

    fn put(&mut self, table: Table, item: &Item) {
        self.put(table, &item.key, &item.decoded.value);
    }

    fn remove(&mut self, table: Table, key: &Key) {
        self.remove(table, key);
    }
}

impl Index {
    /// Takes an object in. One that cannot be read allows nothing.
    fn put(&mut self, table: Table, key: &Key, value: &[u8]) {
        self.remove(table, key);
        match table {
            Table::Roles | Table::ClusterRoles => match serde_json::from_slice::<Role>(value) {
                Ok(role) => {
                    self.roles
                        .entry(key.namespace().into())
                        .or_default()
                        .insert(key.name().into(), role.rules);
                }
                Err(error) => tracing::error!(%key, %error, "a role cannot be read"),
            },
            Table::Bindings | Table::ClusterBindings => {
                match serde_json::from_slice::<Binding>(value) {
                    Ok(binding) => self.bind(key, binding),
                    Err(error) => tracing::error!(%key, %error, "a role binding cannot be read"),
                }
            }
        }
    }

    fn bind(&mut self, key: &Key, binding: Binding) {
        let grants = self.grants.entry(key.namespace().into()).or_default();
        for subject in &binding.subjects {
            let Some((map, name)) = grants.place(subject) else {
                continue;
            };
            map.entry(name).or_default().push(Grant {
                binding: key.clone(),
                subject: subject.clone(),
                role: binding.role_ref.clone(),
            });
        }
        self.bindings.insert(key.clone(), binding.subjects);
    }

    fn remove(&mut self, table: Table, key: &Key) {
        match table {
            Table::Roles | Table::ClusterRoles => {
                if let Some(roles) = self.roles.get_mut(key.namespace()) {
                    roles.remove(key.name());
                    if roles.is_empty() {
                        self.roles.remove(key.namespace());
                    }
                }
            }
            Table::Bindings | Table::ClusterBindings => self.unbind(key),
        }
    }

    fn unbind(&mut self, key: &Key) {
        let Some(subjects) = self.bindings.remove(key) else {
            return;
        };
        let Some(grants) = self.grants.get_mut(key.namespace()) else {
            return;
        };
        for subject in &subjects {
            if let Some((map, name)) = grants.place(subject)
                && let Some(list) = map.get_mut(&name)
            {
                list.retain(|grant| grant.binding != *key);
                if list.is_empty() {
                    map.remove(&name);
                }
            }
        }
        if grants.users.is_empty() && grants.groups.is_empty() {
            self.grants.remove(key.namespace());
        }
    }

    /// The grant that allows what is asked for.
    pub(super) fn find(&self, user: &User, attributes: &Attributes<'_>) -> Option<&Grant> {
        self.grants_of(user, namespace(attributes)).find(|grant| {
            let rules = self.rules_of(grant).unwrap_or_default();
            rules.iter().any(|rule| rule.allows(attributes))
        })
    }

    /// Whether the user may, and why.
    pub(super) fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if let Some(grant) = self.find(user, attributes) {
            return Decision {
                allowed: true,
                reason: format!("RBAC: allowed by {}", grant.text()),
            };
        }
        let mut missing: Vec<String> = self
            .grants_of(user, namespace(attributes))
            .filter(|grant| self.rules_of(grant).is_none())
            .map(|grant| {
                let (kind, name) = (grant.role.kind.to_ascii_lowercase(), &grant.role.name);
                format!("{kind}.{GROUP} {name:?} not found")
            })
            .collect();
        missing.sort();
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision {
            allowed: false,
            reason,
        }
    }

    /// Every rule that holds for a user in a namespace.
    pub(super) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        self.grants_of(user, namespace)
            .filter_map(|grant| self.rules_of(grant))
            .flatten()
            .cloned()
            .collect()
    }

    pub(super) fn role(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        Some(self.roles.get(namespace)?.get(name)?)
    }

    fn rules_of(&self, grant: &Grant) -> Option<&[Rule]> {
        let namespace = match grant.role.kind.as_str() {
            "Role" => grant.binding.namespace(),
            _ => "",
        };
        self.role(namespace, &grant.role.name)
    }

    /// The grants that hold everywhere, then those of a namespace.
    fn grants_of<'a, 'b>(
        &'a self,
        user: &'b User,
        namespace: &'b str,
    ) -> impl Iterator<Item = &'a Grant> + use<'a, 'b> {
        let local = Some(namespace).filter(|namespace| !namespace.is_empty());
        [Some(""), local]
            .into_iter()
            .flatten()
            .filter_map(|namespace| self.grants.get(namespace))
            .flat_map(move |grants| {
                let own = grants.users.get(&user.name);
                let shared = user
                    .groups
                    .iter()
                    .filter_map(|group| grants.groups.get(group));
                own.into_iter().chain(shared).flatten()
            })
    }
}

impl Grants {
    /// The map and the name under which a subject is found; `None` for a kind that nobody is of.
    fn place(&mut self, subject: &Subject) -> Option<(&mut HashMap<String, Vec<Grant>>, String)> {
        match subject.kind.as_str() {
            "User" => Some((&mut self.users, subject.name.clone())),
            "Group" => Some((&mut self.groups, subject.name.clone())),
            "ServiceAccount" => Some((
                &mut self.users,
                service_account::user_name(&subject.namespace, &subject.name),
            )),
            _ => None,
        }
    }
}

impl Grant {
    /// `RoleBinding "b/ns" of ClusterRole "view" to User "jane"`.
    fn text(&self) -> String {
        let (name, namespace) = (self.binding.name(), self.binding.namespace());
        let binding = match namespace {
            "" => format!("ClusterRoleBinding {name:?}"),
            _ => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        let subject = match self.subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", self.subject.name, self.subject.namespace),
            _ => self.subject.name.clone(),
        };
        format!(
            "{binding} of {} {:?} to {} {subject:?}",
            self.role.kind, self.role.name, self.subject.kind
        )
    }
}

/// Where bindings are looked for.
fn namespace<'a>(attributes: &Attributes<'a>) -> &'a str {
    match attributes.target {
        Target::Resource(resource) => resource.namespace,
        Target::Path(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::authorizer::Resource;

    fn put(index: &mut Index, table: Table, namespace: &str, name: &str, value: &Value) {
        let key = ResourceKey::new(GROUP, table.plural()).key(namespace, name);
        index.put(table, &key, value.to_string().as_bytes());
    }

    fn remove(index: &mut Index, table: Table, namespace: &str, name: &str) {
        let key = ResourceKey::new(GROUP, table.plural()).key(namespace, name);
        index.remove(table, &key);
    }

    fn subject(kind: &str, name: &str) -> Value {
        json!({"kind": kind, "name": name, "namespace": "build"})
    }

    fn binding(role: &str, name: &str, subjects: &[Value]) -> Value {
        json!({"subjects": subjects, "roleRef": {"apiGroup": GROUP, "kind": role, "name": name}})
    }

    fn index() -> Index {
        let mut index = Index::default();
        let read = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]});
        let health = json!({"rules": [{"nonResourceURLs": ["/healthz"], "verbs": ["get"]}]});
        put(&mut index, Table::ClusterRoles, "", "reader", &read);
        put(&mut index, Table::ClusterRoles, "", "prober", &health);
        put(&mut index, Table::Roles, "dev", "local", &read);
        let to = |role: &str, name: &str, subject: Value| binding(role, name, &[subject]);
        put(
            &mut index,
            Table::ClusterBindings,
            "",
            "ops",
            &to("ClusterRole", "reader", subject("Group", "ops")),
        );
        put(
            &mut index,
            Table::ClusterBindings,
            "",
            "probe",
            &to("ClusterRole", "prober", subject("User", "probe")),
        );
        put(
            &mut index,
            Table::Bindings,
            "dev",
            "jane",
            &to("ClusterRole", "reader", subject("User", "jane")),
        );
        put(
            &mut index,
            Table::Bindings,
            "dev",
            "bot",
            &to("Role", "local", subject("ServiceAccount", "bot")),
        );
        put(
            &mut index,
            Table::Bindings,
            "dev",
            "lost",
            &to("Role", "gone", subject("User", "lost")),
        );
        index
    }

    #[track_caller]
    fn check(index: &Index, user: &str, groups: &[&str], namespace: &str, expected: Expect) {
        let asked = Attributes::resource(
            "list",
            Resource {
                resource: "pods",
                namespace,
                ..Resource::default()
            },
        );
        let decision = index.decide(&User::new(user, groups), &asked);
        expected.assert_eq(&format!("{} {}", decision.allowed, decision.reason));
    }

    #[test]
    fn a_binding_holds_where_it_is() {
        let index = index();
        check(
            &index,
            "jane",
            &[],
            "dev",
            expect![[
                r#"true RBAC: allowed by RoleBinding "jane/dev" of ClusterRole "reader" to User "jane""#
            ]],
        );
        check(&index, "jane", &[], "prod", expect!["false "]);
        check(&index, "jane", &[], "", expect!["false "]);
        check(
            &index,
            "eve",
            &["ops"],
            "prod",
            expect![[
                r#"true RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "reader" to Group "ops""#
            ]],
        );
        check(&index, "ops", &[], "prod", expect!["false "]);
        check(
            &index,
            "system:serviceaccount:build:bot",
            &[],
            "dev",
            expect![[
                r#"true RBAC: allowed by RoleBinding "bot/dev" of Role "local" to ServiceAccount "bot/build""#
            ]],
        );
        check(
            &index,
            "system:serviceaccount:dev:bot",
            &[],
            "dev",
            expect!["false "],
        );
    }

    #[test]
    fn a_role_that_is_not_there_is_named() {
        check(
            &index(),
            "lost",
            &[],
            "dev",
            expect![[r#"false RBAC: role.rbac.authorization.k8s.io "gone" not found"#]],
        );
    }

    #[test]
    fn a_path_is_allowed_by_cluster_wide_bindings_only() {
        let index = index();
        let asked = Attributes::path("get", "/healthz");
        assert!(index.decide(&User::new("probe", &[]), &asked).allowed);
        assert!(!index.decide(&User::new("jane", &[]), &asked).allowed);
    }

    #[test]
    fn what_is_removed_or_replaced_allows_nothing_any_more() {
        let mut index = index();
        remove(&mut index, Table::ClusterBindings, "", "ops");
        check(&index, "eve", &["ops"], "prod", expect!["false "]);
        put(
            &mut index,
            Table::Bindings,
            "dev",
            "jane",
            &binding("ClusterRole", "reader", &[subject("User", "joan")]),
        );
        check(&index, "jane", &[], "dev", expect!["false "]);
        remove(&mut index, Table::Roles, "dev", "local");
        check(
            &index,
            "system:serviceaccount:build:bot",
            &[],
            "dev",
            expect![[r#"false RBAC: role.rbac.authorization.k8s.io "local" not found"#]],
        );
        for (namespace, name) in [("dev", "jane"), ("dev", "bot"), ("dev", "lost")] {
            remove(&mut index, Table::Bindings, namespace, name);
        }
        remove(&mut index, Table::ClusterBindings, "", "probe");
        assert!(index.grants.is_empty() && index.bindings.is_empty());
    }

    #[test]
    fn an_object_that_cannot_be_read_allows_nothing() {
        let mut index = index();
        put(
            &mut index,
            Table::Bindings,
            "dev",
            "jane",
            &json!({"subjects": 3}),
        );
        check(&index, "jane", &[], "dev", expect!["false "]);
    }
}
