//! GET and POST `pods/<name>/exec`: runs another program in a container, with its streams.
//!
//! The nodelet serves it at `/exec/<namespace>/<pod>/<container>`.

use axum::response::Response;
use serde_json::Value;

use super::{
    container,
    stream::{self, Opening},
};
use crate::{error::Error, object, verbs::call::Call};

pub(crate) async fn serve(call: &Call, opening: Opening) -> Result<Response, Error> {
    let mut options = stream::streams(call)?;
    let command: Vec<&str> = call.query.texts("command").collect();
    options["command"] = command.into();
    stream::open(call, opening, options, |pod, options| {
        path(&call.namespace, pod, options)
    })
    .await
}

fn path(namespace: &str, pod: &Value, options: &Value) -> Result<String, Error> {
    let name = object::name(pod);
    let container = container::choose(pod, name, options["container"].as_str())?;
    let words = options["command"].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    if words.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::BadRequest(
            "you must specify at least one command for the container".to_owned(),
        ));
    }
    let mut query = stream::streams_query(options);
    for word in words {
        query.push_str("&command=");
        query.push_str(&stream::encoded(word));
    }
    Ok(format!("/exec/{namespace}/{name}/{container}{query}"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(options: Value, expected: Expect) {
        let pod = json!({
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
        });
        let path = path("default", &pod, &options);
        expected.assert_eq(&path.unwrap_or_else(|error| error.to_string()));
    }

    #[test]
    fn the_nodelet_gets_container_streams_and_command() {
        check(
            json!({"container": "b", "stdin": true, "stdout": true, "tty": true, "command": ["sh", "-c", "echo a&b +ü"]}),
            expect![
                "/exec/default/web/b?input=1&output=1&error=0&tty=1&command=sh&command=-c&command=echo%20a%26b%20%2B%C3%BC"
            ],
        );
        check(
            json!({"stdout": true, "command": ["sh"]}),
            expect!["a container name must be specified for pod web, choose one of: [a b]"],
        );
        check(
            json!({"container": "a", "stdout": true, "command": []}),
            expect!["you must specify at least one command for the container"],
        );
    }
}
