//! Room between the heap of a Go program and the adapter from preview 1. Pure but for reading a file's head.
//!
//! Go's runtime takes all memory after its data to be its own: it grows it and uses it as if nobody else
//! grew it too. The adapter does, for its own state, when the program first calls it; the heap then runs over
//! that state as soon as it grows, and the program ends in the adapter's assertions. So a module of Go's
//! compiler begins with `ROOM` more memory than it says, and the adapter's pages lie beyond: the heap has that
//! room, and growing it further fails as running out of memory does. Memory that is not touched is address
//! space alone, so the room is not counted as the container's.

use std::{fs::File, io::Read as _, path::Path};

use crate::module::{CUSTOM_SECTION, HEADER, MEMORY_SECTION, read_u64, with_section, write_u64};

/// Memory that lies between, in bytes.
const ROOM: u64 = 448 << 20;

const PAGE: u64 = 64 << 10;

/// The names of the section that Go's linker puts first.
const BUILD_ID: [&[u8]; 2] = [b"go:buildid", b"go.buildid"];

/// How much memory an instance of the module in a file has that is not counted.
pub(crate) fn uncounted(path: &Path) -> u64 {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut head));
    if read.is_ok() && is_go(&head) {
        ROOM
    } else {
        0
    }
}

/// The module with room, if it needs any.
pub(crate) fn make_room(module: &[u8]) -> Option<Vec<u8>> {
    if !is_go(module) {
        return None;
    }
    with_section(module, MEMORY_SECTION, with_room)
}

/// Whether a module's first section is Go's.
fn is_go(module: &[u8]) -> bool {
    let name = || {
        let (id, rest) = module.strip_prefix(HEADER)?.split_first()?;
        let (_, body) = read_u64(rest)?;
        let (size, name) = read_u64(body)?;
        let name = name.get(..usize::try_from(size).ok()?)?;
        (*id == CUSTOM_SECTION).then_some(name)
    };
    name().is_some_and(|name| BUILD_ID.contains(&name))
}

/// A memory section of one memory, which begins and ends later.
fn with_room(section: &[u8]) -> Option<Vec<u8>> {
    let (1, limits) = read_u64(section)? else {
        return None;
    };
    let (flags @ (0 | 1), limits) = read_u64(limits)? else {
        return None;
    };
    let (least, limits) = read_u64(limits)?;
    let most = if flags == 1 {
        read_u64(limits)?.0.checked_add(ROOM / PAGE)?
    } else {
        u64::MAX
    };
    let least = least.checked_add(ROOM / PAGE)?;
    let mut made = vec![1, 1];
    write_u64(&mut made, least);
    // What the program grows never reaches what was put behind the room.
    write_u64(&mut made, most.min(least + ROOM / PAGE));
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(module: &[u8]) -> String {
        wat::parse_bytes(module).unwrap();
        let section = |id: u8| {
            let at = module
                .windows(2)
                .rposition(|pair| pair[0] == id && pair[1] < 16);
            at.map(|at| &module[at + 2..at + 2 + usize::from(module[at + 1])])
        };
        format!("{:?}", section(MEMORY_SECTION).unwrap())
    }

    #[test]
    fn a_module_of_gos_begins_and_ends_later() {
        let go =
            wat::parse_str(r#"(module (@custom "go:buildid" (before first) "x") (memory 300))"#);
        let made = make_room(&go.unwrap()).unwrap();
        // 7,468 and 14,636 pages.
        assert_eq!(text(&made), "[1, 1, 172, 58, 172, 114]");
        let small = r#"(module (@custom "go:buildid" (before first) "x") (memory 1 2))"#;
        let made = make_room(&wat::parse_str(small).unwrap()).unwrap();
        assert_eq!(text(&made), "[1, 1, 129, 56, 130, 56]");
    }

    #[test]
    fn others_and_broken_ones_stay_as_they_are() {
        let other = wat::parse_str("(module (memory 1))").unwrap();
        assert_eq!(make_room(&other), None);
        let go =
            wat::parse_str(r#"(module (@custom "go:buildid" (before first) "x") (memory 300))"#);
        let go = go.unwrap();
        for end in 0..go.len() {
            assert_eq!(make_room(&go[..end]), None);
        }
    }
}
