//! The sections of a core module, before it is parsed as a whole. Pure.

/// The first eight bytes of a core module: the magic word and version 1.
pub(crate) const HEADER: &[u8] = b"\0asm\x01\0\0\0";

pub(crate) const CUSTOM_SECTION: u8 = 0;
pub(crate) const IMPORT_SECTION: u8 = 2;
pub(crate) const MEMORY_SECTION: u8 = 5;

/// The module with what `change` makes of its section `wanted`; `None` if it has none, if `change` leaves
/// it, or if the module cannot be read.
pub(crate) fn with_section(
    module: &[u8],
    wanted: u8,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut rest = module.strip_prefix(HEADER)?;
    while let Some((id, after_id)) = rest.split_first() {
        let (size, body) = read_u64(after_id)?;
        let (body, after) = body.split_at_checked(usize::try_from(size).ok()?)?;
        if *id == wanted {
            let changed = change(body)?;
            let before = module.len() - rest.len();
            let mut made = module[..before].to_vec();
            made.push(wanted);
            write_u64(&mut made, changed.len() as u64);
            made.extend(changed);
            made.extend(after);
            return Some(made);
        }
        rest = after;
    }
    None
}

/// A number of 7 bits a byte, and what follows it.
pub(crate) fn read_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

pub(crate) fn write_u64(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
