//! Which objects a list or a watch is about: namespace, name, label and field selectors.

use std::{collections::BTreeMap, sync::Arc};

use store::{Cache, Item, Key, ResourceKey, Scope};

use super::call::Call;
use crate::{
    error::Error,
    selector::{FieldSelector, LabelSelector},
    server::state::Resource,
};

pub(crate) struct Filter {
    resource: ResourceKey,
    /// What the keys of the objects that can match begin with.
    prefix: String,
    namespaced: bool,
    namespace: String,
    name: String,
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
    /// A custom resource whose fields are selected: what they are depends on the version asked for.
    custom: Option<Arc<Resource>>,
}

impl Filter {
    /// Reads the selectors of a request; a field that the kind cannot select by is refused.
    pub(crate) fn read(call: &Call) -> Result<Self, Error> {
        let labels = call
            .query
            .text("labelSelector")
            .map(LabelSelector::parse)
            .transpose()
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        let fields = call
            .query
            .text("fieldSelector")
            .map(FieldSelector::parse)
            .transpose()
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        let known = call.resource.kind.field_names();
        let requirements = fields.as_ref().map(FieldSelector::requirements);
        for (field, ..) in requirements.into_iter().flatten() {
            let field = field.as_str();
            if !["metadata.name", "metadata.namespace"].contains(&field) && !known.contains(&field)
            {
                return Err(Error::BadRequest(format!(
                    "field label not supported: {field}"
                )));
            }
        }
        let empty = FieldSelector::is_everything;
        let custom = fields.is_some() && call.resource.kind.custom().is_some();
        Ok(Self {
            prefix: call
                .resource
                .key
                .prefix(Some(call.namespace.as_str()).filter(|namespace| !namespace.is_empty())),
            custom: custom.then(|| call.resource.clone()),
            resource: call.resource.key.clone(),
            namespaced: call.resource.names().namespaced,
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            labels: labels.filter(|labels| !labels.is_everything()),
            fields: fields.filter(|fields| !empty(fields)),
        })
    }

    /// The key of the only object that can match, if the request says which one it is.
    pub(crate) fn key(&self) -> Option<Key> {
        let name = match self.name.as_str() {
            "" => self.required("metadata.name")?,
            name => name,
        };
        let namespace = match self.namespace.as_str() {
            "" if self.namespaced => self.required("metadata.namespace")?,
            namespace => namespace,
        };
        Some(self.resource.key(namespace, name))
    }

    /// The smallest part of the resource that the objects which can match are known to be of.
    pub(crate) fn scope(&self) -> Scope {
        if let Some(key) = self.key() {
            return Scope::Object(key);
        }
        // Few objects of many share such a value: a node's pods, an object's Events.
        let required = self.fields.iter().flat_map(FieldSelector::requirements);
        let mut fields = required.filter(|(field, equal, _)| {
            // The cache does not know the fields of custom objects.
            self.custom.is_none()
                && *equal
                && !matches!(field.as_str(), "metadata.name" | "metadata.namespace")
        });
        if let Some((field, _, value)) = fields.next() {
            return Scope::Field(field.clone(), value.clone());
        }
        match self.namespace() {
            Some(namespace) => Scope::Namespace(namespace.to_owned()),
            None => Scope::All,
        }
    }

    /// What a field must be, if it must be one thing.
    fn required(&self, wanted: &str) -> Option<&str> {
        let mut required = self.fields.iter().flat_map(FieldSelector::requirements);
        required.find_map(|(field, equal, value)| {
            (*equal && field == wanted && !value.is_empty()).then_some(value.as_str())
        })
    }

    /// The only namespace whose objects can match.
    pub(crate) fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    /// Makes ready what matching these objects needs: custom ones in the version asked for.
    pub(crate) async fn prepare(
        &self,
        items: impl IntoIterator<Item = &Arc<Item>>,
    ) -> Result<(), Error> {
        if let Some(resource) = &self.custom {
            let stored = items.into_iter().map(|item| item.decoded.value.clone());
            let stored = stored.collect();
            resource.served_all(stored).await?;
        }
        Ok(())
    }

    /// The same for all objects of the resource.
    pub(crate) async fn prepare_all(&self, cache: &Cache) -> Result<(), Error> {
        match &self.custom {
            Some(resource) => {
                let snapshot = cache.list(&resource.key, self.namespace());
                self.prepare(&snapshot.items).await
            }
            None => Ok(()),
        }
    }

    /// True if selectors choose among the objects, so that their number is not known beforehand.
    pub(crate) fn selects(&self) -> bool {
        self.labels.is_some() || self.fields.is_some() || !self.name.is_empty()
    }

    pub(crate) fn matches(&self, item: &Item) -> bool {
        let key = &item.key;
        key.as_str().starts_with(&self.prefix)
            && (self.name.is_empty() || key.name() == self.name)
            && self
                .labels
                .as_ref()
                .is_none_or(|labels| labels.matches(&item.decoded.labels))
            && self.fields.as_ref().is_none_or(|fields| {
                let custom = self.custom_fields(item);
                fields.matches(|field| match field {
                    "metadata.name" => Some(key.name()),
                    "metadata.namespace" => Some(key.namespace()),
                    field => match &custom {
                        Some(fields) => fields.get(field).map(String::as_str),
                        None => item.decoded.fields.get(field).map(String::as_str),
                    },
                })
            })
    }

    /// The selectable fields of a custom object.
    fn custom_fields(&self, item: &Item) -> Option<BTreeMap<&'static str, String>> {
        let resource = self.custom.as_ref()?;
        let served = resource.served_now(&item.decoded.value)?;
        let object = serde_json::from_slice(&served).ok()?;
        Some(resource.kind.fields(&object).into_iter().collect())
    }
}
