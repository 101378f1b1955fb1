//! WebSocket carries streams in two ways: messages whose first byte is a channel (`channels`), and SPDY/3.1 in
//! binary messages (`tunnel`).

pub(crate) mod channels;
pub(crate) mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

/// Bytes of one message. Clients of the channel protocols send whole files in one.
const LONGEST_MESSAGE: usize = 16 << 20;
/// Bytes that are read at once, and written at once.
const BUFFER: usize = 16 * 1024;

/// The server's end of a WebSocket on a connection that is upgraded already.
async fn server<Io: AsyncRead + AsyncWrite + Unpin>(io: Io) -> WebSocketStream<Io> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
