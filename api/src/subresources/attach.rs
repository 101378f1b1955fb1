//! GET and POST `pods/<name>/attach`: the streams of a container that runs.
//!
//! The nodelet serves it at `/attach/<namespace>/<pod>/<container>`.

use axum::response::Response;

use super::{
    container,
    stream::{self, Opening},
};
use crate::{error::Error, verbs::call::Call};

pub(crate) async fn serve(call: &Call, opening: Opening) -> Result<Response, Error> {
    let options = stream::streams(call)?;
    stream::open(call, opening, options, |pod, options| {
        let container = container::choose(pod, &call.name, options["container"].as_str())?;
        Ok(format!(
            "/attach/{}/{}/{container}{}",
            call.namespace,
            call.name,
            stream::streams_query(options)
        ))
    })
    .await
}
