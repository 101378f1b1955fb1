//! Which objects a list or a watch is about: namespace, name, label and field selectors.

use std::{collections::BTreeMap, sync::Arc};

use store::Item;

use super::call::Call;
use crate::{
    error::Error,
    selector::{FieldSelector, LabelSelector},
    server::state::Resource,
};

pub(crate) struct Filter {
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
        let custom = fields.is_some() && call.resource.kind.custom().is_some();
        Ok(Self {
            custom: custom.then(|| call.resource.clone()),
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            labels,
            fields,
        })
    }

    /// The only namespace whose objects can match.
    pub(crate) fn namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    /// Makes ready what matching these objects needs: custom ones in the version asked for.
    pub(crate) async fn prepare(&self, items: &[Arc<Item>]) -> Result<(), Error> {
        if let Some(resource) = &self.custom {
            let stored = items.iter().map(|item| item.decoded.value.clone());
            resource.served_all(stored.collect()).await?;
        }
        Ok(())
    }

    /// True if selectors choose among the objects, so that their number is not known beforehand.
    pub(crate) fn selects(&self) -> bool {
        self.labels.is_some() || self.fields.is_some() || !self.name.is_empty()
    }

    pub(crate) fn matches(&self, item: &Item) -> bool {
        let key = &item.key;
        (self.namespace.is_empty() || key.namespace() == self.namespace)
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
