//! The question that every request asks before anything is read or written.

use super::User;

/// What someone wants to do with a resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'a str,
    pub group: &'a str,
    /// Plural, without the subresource.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty at the cluster scope and across all namespaces.
    pub namespace: &'a str,
    /// Empty where the path has none.
    pub name: &'a str,
}

/// Decides. A later role-based authorizer takes the place of [`super::rules::Fixed`].
pub trait Authorizer: Send + Sync + 'static {
    /// True if the user may.
    fn allows(&self, user: &User, attributes: &Attributes<'_>) -> bool;
}

impl Attributes<'_> {
    /// The resource as rules name it: `pods`, `pods/status`.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Why the user may not, in Kubernetes' words.
    pub fn refusal(&self, user: &User) -> String {
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {place}",
            user.name,
            self.verb,
            self.full_resource(),
            self.group
        )
    }
}
