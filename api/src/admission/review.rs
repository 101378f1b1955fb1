//! One write as admission sees it: who does what to which object. Never the object itself, which the
//! phases change and are given.

use crate::{error::Error, verbs::call::Call};

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A write under review.
#[derive(Clone)]
pub(crate) struct Review<'a> {
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// Empty for a new object whose name is still to be made.
    pub(crate) name: String,
    /// Its segment of the path; empty for the object itself.
    pub(crate) subresource: &'static str,
    /// True if nothing will be written.
    pub(crate) dry_run: bool,
}

impl<'a> Review<'a> {
    /// A new object; of the call's subresource, if it has one.
    pub(crate) fn create(call: &'a Call, name: &str) -> Result<Self, Error> {
        Ok(Self {
            call,
            operation: Operation::Create,
            name: name.to_owned(),
            subresource: call.subresource,
            dry_run: call.query.dry_run()?,
        })
    }

    /// A change of an object or of the call's subresource.
    pub(crate) fn update(call: &'a Call, name: &str) -> Result<Self, Error> {
        Ok(Self {
            operation: Operation::Update,
            ..Self::create(call, name)?
        })
    }

    /// The end of an object, whatever path it was asked for by.
    pub(crate) fn delete(call: &'a Call, name: &str, dry_run: bool) -> Self {
        Self {
            call,
            operation: Operation::Delete,
            name: name.to_owned(),
            subresource: "",
            dry_run,
        }
    }
}
