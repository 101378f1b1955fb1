//! The `continue` token of a list: which state its pages are of, and where the next one starts.
//!
//! Pure. Opaque to clients; a token that somebody made up can do no more than start elsewhere.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where a page starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Token {
    /// The state that all pages are of; `None`: whatever is the newest, once that state is forgotten.
    pub(crate) revision: Option<u64>,
    /// The key that the page starts after.
    pub(crate) start: String,
}

/// As it is written; the fields are Kubernetes'.
#[derive(Serialize, Deserialize)]
struct Written {
    v: String,
    /// -1 stands for the newest state.
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";
const NEWEST: i64 = -1;

impl Token {
    pub(crate) fn write(&self) -> String {
        let written = Written {
            v: VERSION.to_owned(),
            rv: self.revision.map_or(NEWEST, u64::cast_signed),
            start: self.start.clone(),
        };
        let text = serde_json::to_vec(&written).expect("a token is three plain fields");
        URL_SAFE_NO_PAD.encode(text)
    }

    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice::<Written>(&bytes).ok())
            .filter(|written| written.v == VERSION && written.rv >= NEWEST && written.rv != 0)
            .map(|written| Self {
                revision: u64::try_from(written.rv).ok(),
                start: written.start,
            })
            .ok_or_else(|| Error::BadRequest("continue key is not valid".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for revision in [Some(7), None] {
            let token = Token {
                revision,
                start: "/pods/default/a".to_owned(),
            };
            assert_eq!(Token::read(&token.write()).expect("a token"), token);
        }
        for wrong in ["", "x", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6IiJ9"] {
            assert!(Token::read(wrong).is_err(), "{wrong}");
        }
    }
}
