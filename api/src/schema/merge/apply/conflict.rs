//! What an apply may not take: fields that others own and that it wants otherwise.

use std::fmt;

use super::{
    field_set::FieldSet,
    managers::{Entry, Operation},
};

/// Fields of one manager that an apply would change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// As messages name it: `"kubectl-edit" using apps/v1`.
    pub manager: String,
    pub fields: FieldSet,
}

/// Everything that an apply would take from others; at least one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflict {
    pub(super) fn new(owner: &Entry, fields: FieldSet) -> Self {
        let mut manager = format!("{:?}", owner.manager);
        if !owner.subresource.is_empty() {
            manager.push_str(&format!(" with subresource {:?}", owner.subresource));
        }
        if owner.operation == Operation::Update {
            manager.push_str(&format!(" using {}", owner.api_version));
        }
        Self { manager, fields }
    }
}

impl Conflicts {
    /// Manager and field, one pair for each field.
    pub fn causes(&self) -> Vec<(String, String)> {
        let mut causes = Vec::new();
        for conflict in &self.0 {
            for path in conflict.fields.paths() {
                causes.push((format!("conflict with {}", conflict.manager), path));
            }
        }
        causes
    }

    /// Without the fields of a set; None if nothing is left.
    pub(super) fn without(&self, allowed: &FieldSet) -> Option<Self> {
        let left: Vec<Conflict> = self
            .0
            .iter()
            .map(|conflict| Conflict {
                manager: conflict.manager.clone(),
                fields: conflict.fields.difference(allowed),
            })
            .filter(|conflict| !conflict.fields.is_empty())
            .collect();
        (!left.is_empty()).then_some(Self(left))
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = self.causes();
        if let [(manager, path)] = causes.as_slice() {
            return write!(f, "Apply failed with 1 conflict: {manager}: {path}");
        }
        write!(f, "Apply failed with {} conflicts: ", causes.len())?;
        let mut lines = Vec::new();
        for conflict in &self.0 {
            lines.push(format!("conflicts with {}:", conflict.manager));
            lines.extend(
                conflict
                    .fields
                    .paths()
                    .iter()
                    .map(|path| format!("- {path}")),
            );
        }
        f.write_str(&lines.join("\n"))
    }
}
