//! Which objects a list or a watch is about: namespace, name, label and field selectors.

use store::Item;

use super::call::Call;
use crate::{
    error::Error,
    selector::{FieldSelector, LabelSelector},
};

pub(crate) struct Filter {
    namespace: String,
    name: String,
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
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
        Ok(Self {
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
                fields.matches(|field| match field {
                    "metadata.name" => Some(key.name()),
                    "metadata.namespace" => Some(key.namespace()),
                    field => item.decoded.fields.get(field).map(String::as_str),
                })
            })
    }
}
