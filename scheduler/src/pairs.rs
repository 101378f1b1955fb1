//! Finds what a set of labels concerns without looking at everything.
//!
//! Pure. Who asks for a label and its value is found under them; who does not is found always.

use std::collections::HashMap;

use crate::pod::Labels;

/// Ids by a label and its value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    by_key: HashMap<String, HashMap<String, Vec<usize>>>,
    others: Vec<usize>,
}

impl Pairs {
    pub(crate) fn insert(&mut self, pair: Option<(&str, &str)>, id: usize) {
        let Some((key, value)) = pair else {
            self.others.push(id);
            return;
        };
        if !self.by_key.contains_key(key) {
            self.by_key.insert(key.to_owned(), HashMap::new());
        }
        let values = self.by_key.get_mut(key).expect("it was just put there");
        match values.get_mut(value) {
            Some(ids) => ids.push(id),
            None => {
                values.insert(value.to_owned(), vec![id]);
            }
        }
    }

    pub(crate) fn remove(&mut self, pair: Option<(&str, &str)>, id: usize) {
        let Some((key, value)) = pair else {
            take(&mut self.others, id);
            return;
        };
        let Some(values) = self.by_key.get_mut(key) else {
            return;
        };
        if let Some(ids) = values.get_mut(value) {
            take(ids, id);
            if ids.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_key.remove(key);
        }
    }

    /// Those that one label is asked for by.
    pub(crate) fn of(&self, key: &str, value: &str) -> &[usize] {
        let values = self.by_key.get(key);
        let ids = values.and_then(|values| values.get(value));
        ids.map_or(&[], Vec::as_slice)
    }

    /// Those that may concern these labels; each once if it was inserted once.
    pub(crate) fn about<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = usize> + 'a {
        let asked = labels.iter().filter(|_| !self.by_key.is_empty());
        let asked = asked.flat_map(|(key, value)| self.of(key, value));
        asked.chain(&self.others).copied()
    }
}

fn take(ids: &mut Vec<usize>, id: usize) {
    if let Some(index) = ids.iter().position(|own| *own == id) {
        ids.swap_remove(index);
    }
}
