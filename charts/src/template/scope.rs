//! Which variables there are, and in which slot, while a template is parsed.
//!
//! Go's parser and Go's executor differ: the parser takes a variable of the first branch for known in the `else` branch too,
//! the executor has forgotten it. Names are looked up as the parser does, slots as the executor does.

use super::ast::Slot;

/// The variables of one template.
#[derive(Default)]
pub(super) struct Scope {
    variables: Vec<Variable>,
    /// Variables that execution has now.
    live: usize,
    most: usize,
    /// How many `range`s are around.
    pub(super) ranges: usize,
}

struct Variable {
    name: Box<str>,
    /// `None`: execution has it no longer, or never had it.
    slot: Option<usize>,
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
            variable.slot = None;
        }
        self.live = mark.live;
    }

    /// The control structure is over.
    pub(super) fn leave(&mut self, mark: Mark) {
        self.variables.truncate(mark.variables);
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
        let name = name.into();
        self.variables.push(Variable { name, slot });
    }

    /// `None`: no such name; `Some(None)`: a name that execution will not know.
    pub(super) fn find(&self, name: &str) -> Option<Option<Slot>> {
        let known = name == "$" || self.variables.iter().any(|known| &*known.name == name);
        known.then(|| self.slot(name))
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        let live = self.variables.iter().rev();
        let found = live
            .filter(|known| known.slot.is_some())
            .find(|known| &*known.name == name);
        match found {
            Some(found) => found.slot.map(Slot::Local),
            None => (name == "$").then_some(Slot::Root),
        }
    }
}
