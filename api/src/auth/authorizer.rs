//! The question that every request asks before anything is read or written. Pure.

use super::User;
use crate::selector::FieldSelector;

/// What someone wants to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or one that
    /// only rules know: `impersonate`, `bind`, `escalate`, `approve`, `sign`. Of a path: the method.
    pub verb: &'a str,
    pub target: Target<'a>,
}

/// What it is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    Resource(Resource<'a>),
    /// A path that names no resource: `/metrics`.
    Path(&'a str),
}

/// A resource, or one object of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resource<'a> {
    pub group: &'a str,
    /// Plural, without the subresource.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty at the cluster scope and across all namespaces.
    pub namespace: &'a str,
    /// Empty where the path has none.
    pub name: &'a str,
    /// Which objects a list or a watch is about; `None`: all.
    pub fields: Option<&'a FieldSelector>,
}

/// What an authorizer answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub allowed: bool,
    /// Which binding allows it, or what kept a binding from doing so; empty if there is nothing to say.
    pub reason: String,
}

impl Decision {
    /// A yes that needs no words.
    pub(crate) fn allowed() -> Self {
        Self {
            allowed: true,
            reason: String::new(),
        }
    }
}

impl<'a> Attributes<'a> {
    /// A verb on a resource.
    pub fn resource(verb: &'a str, resource: Resource<'a>) -> Self {
        Self {
            verb,
            target: Target::Resource(resource),
        }
    }

    /// A method on a path.
    pub fn path(verb: &'a str, path: &'a str) -> Self {
        Self {
            verb,
            target: Target::Path(path),
        }
    }

    /// Why the user may not, in Kubernetes' words.
    pub fn refusal(&self, user: &User) -> String {
        let resource = match self.target {
            Target::Path(path) => {
                return format!("User {:?} cannot {} path {path:?}", user.name, self.verb);
            }
            Target::Resource(resource) => resource,
        };
        let place = if resource.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", resource.namespace)
        };
        format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {place}",
            user.name,
            self.verb,
            resource.full(),
            resource.group
        )
    }
}

impl Resource<'_> {
    /// True if only objects are asked for whose field has a value.
    pub(crate) fn selects(&self, field: &str, value: &str) -> bool {
        let required = self.fields.map(FieldSelector::requirements);
        let mut required = required.unwrap_or_default().iter();
        required.any(|(own, equal, wanted)| *equal && own == field && wanted == value)
    }

    /// As rules name it: `pods`, `pods/status`.
    pub fn full(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}
