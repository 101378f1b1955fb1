//! Which variables there are, and in which slot, while a template is parsed.
//!
//! Go's parser and Go's executor differ: the parser takes a variable of the first branch for known in the `else` branch too,
//! the executor has forgotten it. Names are looked up as the parser does, slots as the executor does.

use std::collections::HashMap;

use super::ast::Slot;

/// The variables of one template.
#[derive(Default)]
pub(super) struct Scope {
    variables: Vec<Variable>,
    /// By name: a template may have very many.
    names: HashMap<Box<str>, Named>,
    /// Variables that execution has now.
    live: usize,
    most: usize,
    /// How many `range`s are around.
    pub(super) ranges: usize,
}

struct Variable {
    name: Box<str>,
    /// Whether execution has it, or had it and forgot.
    live: bool,
}

/// What is called by one name.
#[derive(Default)]
struct Named {
    /// How many variables the parser knows.
    known: usize,
    /// The slots of those that execution has, the innermost last.
    slots: Vec<usize>,
}

/// Where a control structure began.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    variables: usize,
    live: usize,
}

impl Scope {
    /// The most variables at once.
    pub(super) fn slots(&self) -> usize {
        self.most
    }

    pub(super) fn enter(&self) -> Mark {
        Mark {
            variables: self.variables.len(),
            live: self.live,
        }
    }

    /// The first branch is over: execution forgets its variables.
    pub(super) fn end_branch(&mut self, mark: Mark) {
        for variable in &mut self.variables[mark.variables..] {
            if std::mem::take(&mut variable.live)
                && let Some(named) = self.names.get_mut(&variable.name)
            {
                named.slots.pop();
            }
        }
        self.live = mark.live;
    }

    /// The control structure is over.
    pub(super) fn leave(&mut self, mark: Mark) {
        for variable in self.variables.drain(mark.variables..) {
            if let Some(named) = self.names.get_mut(&variable.name) {
                named.known -= 1;
                if variable.live {
                    named.slots.pop();
                }
            }
        }
        self.live = mark.live;
    }

    /// A pipeline will set this variable: the parser knows it from here on.
    pub(super) fn announce(&mut self, name: &str) {
        self.push(name, None);
    }

    /// Declares a variable, or finds the one to assign to.
    pub(super) fn target(&mut self, name: &str, assigns: bool) -> Option<Slot> {
        if assigns {
            return self.slot(name);
        }
        let slot = self.live;
        self.live += 1;
        self.most = self.most.max(self.live);
        self.push(name, Some(slot));
        Some(Slot::Local(slot))
    }

    fn push(&mut self, name: &str, slot: Option<usize>) {
        let named = self.names.entry(name.into()).or_default();
        named.known += 1;
        named.slots.extend(slot);
        self.variables.push(Variable {
            name: name.into(),
            live: slot.is_some(),
        });
    }

    /// `None`: no such name; `Some(None)`: a name that execution will not know.
    pub(super) fn find(&self, name: &str) -> Option<Option<Slot>> {
        let known = name == "$" || self.names.get(name).is_some_and(|named| named.known > 0);
        known.then(|| self.slot(name))
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        match self.names.get(name).and_then(|named| named.slots.last()) {
            Some(slot) => Some(Slot::Local(*slot)),
            None => (name == "$").then_some(Slot::Root),
        }
    }
}
