//! Names that many hold, each kept once and known by a small number. Pure.

use std::{collections::HashMap, sync::Arc};

/// A name, as long as somebody holds it.
pub(super) type Id = u32;

/// Names with a value each.
pub(super) struct Names<T> {
    ids: HashMap<Arc<str>, Id>,
    rows: Vec<Row<T>>,
    /// Rows that are to be used again.
    free: Vec<Id>,
}

struct Row<T> {
    name: Arc<str>,
    holders: u32,
    value: T,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            rows: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Default> Names<T> {
    /// Holds a name once more.
    ///
    /// # Panics
    /// Never: four billion names do not fit into memory.
    pub(super) fn hold(&mut self, name: &str) -> Id {
        if let Some(id) = self.ids.get(name) {
            self.rows[at(*id)].holders += 1;
            return *id;
        }
        let name: Arc<str> = name.into();
        let row = Row {
            name: name.clone(),
            holders: 1,
            value: T::default(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.rows[at(id)] = row;
                id
            }
            None => {
                self.rows.push(row);
                Id::try_from(self.rows.len() - 1).expect("they would not fit into memory")
            }
        };
        self.ids.insert(name, id);
        id
    }

    /// Holds it once less; the last takes the name and its value away.
    pub(super) fn release(&mut self, id: Id) {
        let row = &mut self.rows[at(id)];
        row.holders -= 1;
        if row.holders == 0 {
            row.value = T::default();
            self.ids.remove(&row.name);
            row.name = "".into();
            self.free.push(id);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<Id> {
        self.ids.get(name).copied()
    }

    pub(super) fn value(&self, id: Id) -> &T {
        &self.rows[at(id)].value
    }

    pub(super) fn value_mut(&mut self, id: Id) -> &mut T {
        &mut self.rows[at(id)].value
    }

    #[cfg(test)]
    pub(super) fn name(&self, id: Id) -> &str {
        &self.rows[at(id)].name
    }

    /// Every name that is held.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Id)> {
        self.ids.iter().map(|(name, id)| (&**name, *id))
    }
}

fn at(id: Id) -> usize {
    usize::try_from(id).expect("an id is the place of a row")
}
