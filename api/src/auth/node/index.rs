//! The graph as objects come and go. Pure.

use store::{Item, Key, ResourceKey};

use super::{graph::Graph, references};
use crate::{auth::follow::Index, kinds::local_volume::NODE_FIELD};

/// The resources that lead from nodes to other objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    Pods,
    Revisions,
    Volumes,
    Claims,
}

impl Index for Graph {
    type Table = Table;
    const TABLES: &'static [Table] =
        &[Table::Pods, Table::Revisions, Table::Volumes, Table::Claims];

    fn resource(table: Table) -> ResourceKey {
        match table {
            Table::Pods => ResourceKey::new("", "pods"),
            Table::Revisions => ResourceKey::new(function_kinds::GROUP, "functionrevisions"),
            Table::Volumes => ResourceKey::new("", "persistentvolumes"),
            Table::Claims => ResourceKey::new("", "persistentvolumeclaims"),
        }
    }

    /// An object that cannot be read leads nowhere.
    fn put(&mut self, table: Table, item: &Item) {
        let (namespace, name) = (item.key.namespace(), item.key.name());
        let field = |field: &str| item.decoded.fields.get(field).map_or("", String::as_str);
        let value = &item.decoded.value;
        let put = match table {
            Table::Pods => match field("spec.nodeName") {
                "" => return self.remove_pod(namespace, name),
                node => references::of_pod(name, value)
                    .map(|to| self.put_pod(namespace, name, node, &to)),
            },
            Table::Revisions => {
                references::of_revision(value).map(|to| self.put_revision(namespace, name, &to))
            }
            Table::Volumes => references::of_volume(value, field(NODE_FIELD))
                .map(|seen| self.put_volume(name, &seen)),
            Table::Claims => match field(NODE_FIELD) {
                "" => return self.remove_asked(namespace, name),
                node => {
                    self.put_asked(namespace, name, node);
                    Ok(())
                }
            },
        };
        if let Err(error) = put {
            tracing::error!(key = %item.key, %error, "what an object names cannot be read");
            self.remove(table, &item.key);
        }
    }

    fn remove(&mut self, table: Table, key: &Key) {
        let (namespace, name) = (key.namespace(), key.name());
        match table {
            Table::Pods => self.remove_pod(namespace, name),
            Table::Revisions => self.remove_revision(namespace, name),
            Table::Volumes => self.remove_volume(name),
            Table::Claims => self.remove_asked(namespace, name),
        }
    }
}
