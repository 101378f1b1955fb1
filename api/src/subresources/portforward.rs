//! GET and POST `pods/<name>/portforward`: connections to a pod's own ports.
//!
//! The nodelet serves it at `/portForward/<namespace>/<pod>`. Clients that speak SPDY name the ports later,
//! one for each stream.

use axum::response::Response;
use serde_json::{Value, json};

use super::stream::{self, Opening};
use crate::{error::Error, verbs::call::Call};

pub(crate) async fn serve(call: &Call, opening: Opening) -> Result<Response, Error> {
    let ports = ports(call.query.texts("ports"))?;
    let options = match ports.as_slice() {
        [] => json!({}),
        ports => json!({ "ports": ports }),
    };
    stream::open(call, opening, options, |_, options| {
        let ports = options["ports"].as_array().into_iter().flatten();
        let ports: Vec<String> = ports.map(Value::to_string).collect();
        let query = match ports.as_slice() {
            [] => String::new(),
            ports => format!("?port={}", ports.join(",")),
        };
        Ok(format!(
            "/portForward/{}/{}{query}",
            call.namespace, call.name
        ))
    })
    .await
}

/// Ports as a query has them: several, or several in one, with commas between them.
fn ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, Error> {
    values
        .flat_map(|value| value.split(','))
        .map(|text| match text.parse() {
            Ok(port @ 1..) => Ok(port),
            _ => Err(Error::BadRequest(format!(
                "ports: Invalid value: {text:?}: must be between 1 and 65535, inclusive"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_one_by_one_or_together() {
        let of = |values: &[&str]| ports(values.iter().copied()).map_err(|error| error.to_string());
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["80", "81,82"]), Ok(vec![80, 81, 82]));
        for wrong in ["0", "65536", "http", "", "-1", "80,"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
