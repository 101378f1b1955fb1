//! Between the version that custom objects are stored as and the one that is asked for.
//!
//! What comes out is as the asked version's schema has it: pruned, and with its defaults, whatever the
//! schema was when the object was stored. With the strategy `None` only `apiVersion` changes; with
//! `Webhook` a `ConversionReview` goes out, for many objects at once where there are many. What came of
//! an object's bytes is remembered, so that the watchers of one version share the work.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use store::Cache;

use super::kind::CustomKind;
use crate::{
    codec,
    error::Error,
    kinds::Kind,
    object,
    schema::{self, Schema},
    webhook_client::Webhook,
};

/// How long a webhook may take, as in Kubernetes.
const DEADLINE: Duration = Duration::from_secs(30);
/// Objects of one review.
const BATCH: usize = 500;
/// Bytes of stored and converted objects that a version remembers.
const REMEMBERED: usize = 16 * 1024 * 1024;

/// How a definition's objects change between versions.
pub(crate) enum Strategy {
    /// Only `apiVersion` changes.
    None,
    Webhook {
        /// Its client, or why there is none.
        webhook: Box<Result<Webhook, String>>,
        cache: Cache,
    },
}

impl Strategy {
    /// Reads the strategy of a definition's spec.
    pub(crate) fn read(spec: &Value, cache: &Cache) -> Self {
        let conversion = &spec["conversion"];
        if conversion["strategy"] != "Webhook" {
            return Self::None;
        }
        Self::Webhook {
            webhook: Box::new(Webhook::read(&conversion["webhook"]["clientConfig"])),
            cache: cache.clone(),
        }
    }
}

/// The way between the stored version and one that is served.
pub(crate) struct Conversion {
    kind: &'static str,
    /// As in `apiVersion`: the served version, and the stored one.
    own: String,
    stored: String,
    schema: Schema,
    strategy: Arc<Strategy>,
    memory: Mutex<Memory>,
}

/// What stored bytes were turned into; the oldest are forgotten first.
#[derive(Default)]
struct Memory {
    /// By where the stored bytes are in memory: they stay there for as long as they are kept here.
    found: HashMap<usize, (Bytes, Bytes)>,
    order: VecDeque<usize>,
    bytes: usize,
}

impl Memory {
    fn get(&self, stored: &Bytes) -> Option<Bytes> {
        let (kept, served) = self.found.get(&(stored.as_ptr() as usize))?;
        (kept.len() == stored.len()).then(|| served.clone())
    }

    fn insert(&mut self, stored: &Bytes, served: &Bytes) {
        let at = stored.as_ptr() as usize;
        if self.found.contains_key(&at) {
            return;
        }
        self.bytes += stored.len() + served.len();
        self.found.insert(at, (stored.clone(), served.clone()));
        self.order.push_back(at);
        while self.bytes > REMEMBERED {
            let Some((stored, served)) = self
                .order
                .pop_front()
                .and_then(|oldest| self.found.remove(&oldest))
            else {
                return;
            };
            self.bytes -= stored.len() + served.len();
        }
    }
}

impl Conversion {
    pub(crate) fn new(kind: &CustomKind, stored_version: &str, strategy: Arc<Strategy>) -> Self {
        let names = kind.names();
        Self {
            kind: names.kind,
            own: names.api_version(),
            stored: format!("{}/{stored_version}", names.group),
            schema: kind.schema(),
            strategy,
            memory: Mutex::default(),
        }
    }

    /// Stored objects, with their revisions, as this version has them.
    pub(crate) async fn served(&self, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Error> {
        let mut served: Vec<Option<Bytes>> = {
            let memory = self.memory();
            stored.iter().map(|bytes| memory.get(bytes)).collect()
        };
        let missing: Vec<usize> = (0..stored.len())
            .filter(|index| served[*index].is_none())
            .collect();
        for batch in missing.chunks(BATCH) {
            let objects = batch
                .iter()
                .map(|index| serde_json::from_slice(&stored[*index]).map_err(Error::internal))
                .collect::<Result<Vec<Value>, _>>()?;
            let converted = self.convert(objects, &self.own).await?;
            for (index, object) in batch.iter().zip(converted) {
                let bytes = self.finish(object);
                self.memory().insert(&stored[*index], &bytes);
                served[*index] = Some(bytes);
            }
        }
        Ok(served.into_iter().flatten().collect())
    }

    /// The same without waiting, where no webhook is needed for it or was asked before.
    pub(crate) fn served_now(&self, stored: &Bytes) -> Option<Bytes> {
        if let Some(known) = self.memory().get(stored) {
            return Some(known);
        }
        let mut object: Value = serde_json::from_slice(stored).ok()?;
        let same = object["apiVersion"] == self.own;
        if !same && matches!(*self.strategy, Strategy::Webhook { .. }) {
            return None;
        }
        object["apiVersion"] = self.own.as_str().into();
        let bytes = self.finish(object);
        self.memory().insert(stored, &bytes);
        Some(bytes)
    }

    /// What is stored of an object of this version; takes its `resourceVersion` away.
    pub(crate) async fn stored(&self, object: &mut Value) -> Result<Bytes, Error> {
        object::unset(object, "resourceVersion");
        if self.own == self.stored {
            return Ok(codec::stored(object));
        }
        let converted = self.convert(vec![object.clone()], &self.stored).await?;
        let mut converted = converted.into_iter().next().unwrap_or_default();
        Ok(codec::stored(&mut converted))
    }

    /// True if an object is stored as another version than it would be now.
    pub(crate) fn outdated(&self, stored: &Bytes) -> bool {
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(rename = "apiVersion", default)]
            api_version: String,
        }
        serde_json::from_slice(stored)
            .is_ok_and(|Versioned { api_version }| api_version != self.stored)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, object: Value) -> Bytes {
        let mut object = schema::check(&self.schema, object).value;
        schema::default(&self.schema, &mut object);
        Bytes::from(object.to_string())
    }

    /// Objects in another version, in their order.
    async fn convert(&self, mut objects: Vec<Value>, wanted: &str) -> Result<Vec<Value>, Error> {
        let different: Vec<usize> = (0..objects.len())
            .filter(|index| objects[*index]["apiVersion"] != wanted)
            .collect();
        match &*self.strategy {
            Strategy::Webhook { webhook, cache } if !different.is_empty() => {
                let sent: Vec<_> = different
                    .iter()
                    .map(|index| objects[*index].clone())
                    .collect();
                let from = sent[0]["apiVersion"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let converted = review(webhook, cache, &sent, wanted)
                    .await
                    .map_err(|cause| {
                        Error::Conversion(format!(
                            "conversion webhook for {from}, Kind={} failed: {cause}",
                            self.kind
                        ))
                    })?;
                for (index, object) in different.into_iter().zip(converted) {
                    objects[index] = object;
                }
            }
            _ => {
                for index in different {
                    objects[index]["apiVersion"] = wanted.into();
                }
            }
        }
        Ok(objects)
    }
}

/// Has a webhook convert objects, and checks what it made of them.
async fn review(
    webhook: &Result<Webhook, String>,
    cache: &Cache,
    objects: &[Value],
    wanted: &str,
) -> Result<Vec<Value>, String> {
    let webhook = webhook.as_ref().map_err(Clone::clone)?;
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
    });
    let answer = webhook
        .call(cache, &review, DEADLINE)
        .await
        .map_err(|error| error.to_string())?;
    let response = &answer["response"];
    if answer["kind"] != "ConversionReview" || !response.is_object() {
        return Err("invalid response: no ConversionReview with a response".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!(
            "invalid response: expected response.uid={uid:?}, got {}",
            response["uid"]
        ));
    }
    if response["result"]["status"] != "Success" {
        let message = response["result"]["message"].as_str();
        return Err(message.unwrap_or("the webhook did not say why").to_owned());
    }
    let converted = response["convertedObjects"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if converted.len() != objects.len() {
        return Err(format!(
            "invalid response: expected {} converted objects, got {}",
            objects.len(),
            converted.len()
        ));
    }
    objects
        .iter()
        .zip(converted)
        .enumerate()
        .map(|(index, (sent, got))| {
            accept(sent, got, wanted)
                .map_err(|problem| format!("invalid converted object at index {index}: {problem}"))
        })
        .collect()
}

/// A converted object: of the wanted version, and the same object. Of the metadata a webhook may
/// change labels and annotations.
fn accept(sent: &Value, got: &Value, wanted: &str) -> Result<Value, String> {
    if got["apiVersion"] != wanted {
        return Err(format!(
            "invalid apiVersion {}, expected {wanted:?}",
            got["apiVersion"]
        ));
    }
    if got["kind"] != sent["kind"] {
        return Err(format!(
            "invalid kind {}, expected {}",
            got["kind"], sent["kind"]
        ));
    }
    if !got["metadata"].is_object() {
        return Err("invalid metadata: must be an object".to_owned());
    }
    for field in ["name", "namespace", "uid"] {
        if object::text(got, field) != object::text(sent, field) {
            return Err(format!("invalid metadata: {field} must not change"));
        }
    }
    let mut accepted = got.clone();
    let mut metadata = sent["metadata"].clone();
    for field in ["labels", "annotations"] {
        match got["metadata"].get(field).filter(|value| value.is_object()) {
            Some(value) => metadata[field] = value.clone(),
            None => {
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.remove(field);
                }
            }
        }
    }
    accepted["metadata"] = metadata;
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_may_change_labels_and_annotations_and_no_other_metadata() {
        let sent = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {
            "name": "a", "uid": "1", "finalizers": ["x"], "labels": {"old": "1"},
        }});
        let mut got = json!({"apiVersion": "a/v2", "kind": "A", "metadata": {
            "name": "a", "uid": "1", "annotations": {"new": "1"},
        }, "spec": {}});
        assert_eq!(
            accept(&sent, &got, "a/v2").expect("it is accepted")["metadata"],
            json!({"name": "a", "uid": "1", "finalizers": ["x"], "annotations": {"new": "1"}})
        );
        got["metadata"]["uid"] = "2".into();
        assert!(accept(&sent, &got, "a/v2").is_err());
        assert!(accept(&sent, &got, "a/v3").is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = Memory::default();
        let object = Bytes::from(vec![b'x'; REMEMBERED / 8]);
        let all: Vec<_> = (0..20).map(|_| Bytes::copy_from_slice(&object)).collect();
        for stored in &all {
            memory.insert(stored, &object);
        }
        assert!(memory.bytes <= REMEMBERED);
        assert_eq!(memory.found.len(), memory.order.len());
        assert!(memory.get(&all[0]).is_none());
        assert_eq!(memory.get(&all[19]), Some(object));
    }
}
