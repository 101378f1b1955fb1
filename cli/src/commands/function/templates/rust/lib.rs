//! Answers every request with a greeting.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Function;

wasip2::http::proxy::export!(Function);

impl wasip2::exports::http::incoming_handler::Guest for Function {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let text = format!("Hello from NAME, asked for {path}\n");

        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(answer, Ok(response));

        let stream = body.write().expect("the stream is taken once");
        // A stream takes at most 4096 bytes at once.
        for part in text.as_bytes().chunks(4096) {
            stream.blocking_write_and_flush(part).expect("the client reads the answer");
        }
        drop(stream);
        OutgoingBody::finish(body, None).expect("the answer is complete");
    }
}
