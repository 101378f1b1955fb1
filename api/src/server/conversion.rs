//! Between the bytes of the store and the version that a resource serves.
//!
//! Most resources are stored as they are served: their bytes are passed on and never parsed. Reads
//! nothing but the objects that it is given.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::state::Resource;
use crate::{codec, custom::conversion as custom, error::Error, kinds};

/// How a resource's objects are stored.
pub(crate) enum Conversion {
    /// As they are served.
    None,
    /// As another built-in kind.
    Builtin(&'static kinds::Conversion),
    /// As one of the versions of a custom kind.
    Custom(Arc<custom::Conversion>),
}

impl Resource {
    /// A stored object, with its revision, as this resource serves it.
    pub(crate) async fn served(&self, stored: Bytes) -> Result<Bytes, Error> {
        match self.conversion {
            Conversion::None => Ok(stored),
            Conversion::Builtin(conversion) => self.convert(conversion, &stored),
            Conversion::Custom(ref conversion) => {
                let served = conversion.served(vec![stored]).await?;
                Ok(served.into_iter().next().unwrap_or_default())
            }
        }
    }

    /// The same without waiting; `None` if only a webhook could tell, and none was asked before.
    pub(crate) fn served_now(&self, stored: &Bytes) -> Option<Bytes> {
        match self.conversion {
            Conversion::None => Some(stored.clone()),
            Conversion::Builtin(conversion) => self.convert(conversion, stored).ok(),
            Conversion::Custom(ref conversion) => conversion.served_now(stored),
        }
    }

    /// The same for many at once.
    pub(crate) async fn served_all(&self, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Error> {
        match self.conversion {
            Conversion::None => Ok(stored),
            Conversion::Builtin(conversion) => stored
                .iter()
                .map(|bytes| self.convert(conversion, bytes))
                .collect(),
            Conversion::Custom(ref conversion) => conversion.served(stored).await,
        }
    }

    /// True if an object is stored as another version than it would be now.
    pub(crate) fn outdated(&self, stored: &Bytes) -> bool {
        match self.conversion {
            Conversion::None | Conversion::Builtin(_) => false,
            Conversion::Custom(ref conversion) => conversion.outdated(stored),
        }
    }

    fn convert(&self, conversion: &kinds::Conversion, stored: &Bytes) -> Result<Bytes, Error> {
        let mut object: Value = serde_json::from_slice(stored).map_err(Error::internal)?;
        conversion.serve(&mut object, self.names());
        Ok(Bytes::from(object.to_string()))
    }

    /// What is stored of an object that this resource serves; takes its `resourceVersion` away.
    pub(crate) async fn stored(&self, object: &mut Value) -> Result<Bytes, Error> {
        match self.conversion {
            Conversion::None => Ok(codec::stored(object)),
            Conversion::Builtin(conversion) => {
                crate::object::unset(object, "resourceVersion");
                let mut stored = object.clone();
                conversion.store(&mut stored);
                Ok(Bytes::from(stored.to_string()))
            }
            Conversion::Custom(ref conversion) => conversion.stored(object).await,
        }
    }
}
