//! Files of noise, for measuring how fast an image is fetched and unpacked.

use super::layer::Layer;

pub(super) const LAYERS: usize = 4;
/// Of one file, unpacked; as many as programs and libraries have.
const FILE: usize = 48 << 10;

/// One of [`LAYERS`] layers of an image that is about `packed_bytes` when packed: half of what it unpacks to.
pub(super) fn layer(seed: u64, number: usize, packed_bytes: usize) -> Layer {
    let mut state = seed
        .wrapping_mul(1_000_003)
        .wrapping_add(number as u64)
        .wrapping_add(1);
    let mut layer = Layer::default();
    let files = packed_bytes * 2 / LAYERS / FILE;
    for file in 0..files {
        let directory = format!("opt/{number}-{}", file / 50);
        layer.directory(&directory, 0o755, 0);
        layer.file(format!("{directory}/{file}"), 0o644, noise(&mut state));
    }
    layer.directory("opt", 0o755, 0);
    layer
}

/// Every 32 bytes that nobody can guess come twice.
fn noise(state: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE);
    while bytes.len() < FILE {
        let start = bytes.len();
        for _ in 0..4 {
            // Splitmix64.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = *state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend((word ^ (word >> 31)).to_le_bytes());
        }
        bytes.extend_from_within(start..);
    }
    bytes
}
