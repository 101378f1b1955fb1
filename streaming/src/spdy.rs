//! SPDY/3.1, as far as Kubernetes' clients use it: streams that the client opens, header compression, pings.
//!
//! - [`frame`]: frames, read and written; pure.
//! - [`headers`](Headers): a stream's headers and their compression.
//! - `connection`: the server's end of a connection.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub(crate) use connection::{Stream, accept};
pub(crate) use frame::reset;
pub use frame::{Decoder, Encoder, Frame, FrameError};
pub use headers::Headers;
