//! The exit codes of preview-1 modules. Pure.
//!
//! The adapter knows success and failure alone: it makes 1 of every code but 0. So a module's import of
//! `proc_exit` is made one of `exit-with-code` of WASI 0.2.12, past the adapter: both take the code as a
//! number, of which the lowest eight bits count.

use std::sync::LazyLock;

use wasmparser::{BinaryReader, ImportSectionReader, Imports};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::module::{IMPORT_SECTION, with_section, write_u64};

/// What is imported, from where.
const PROC_EXIT: [&str; 2] = ["wasi_snapshot_preview1", "proc_exit"];
/// What is imported instead.
const EXIT_WITH_CODE: [&str; 2] = ["wasi:cli/exit@0.2.12", "exit-with-code"];

/// The interface is whole, as the adapter's own is.
const WIT: &str = "
package wasi:cli@0.2.12;
interface exit {
    @since(version = 0.2.0)
    exit: func(status: result);
    @since(version = 0.2.12)
    exit-with-code: func(status-code: u8);
}
world codes {
    import exit;
}
";

/// What a module that exits with a code says of its imports.
static CODES: LazyLock<(Resolve, WorldId)> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("exit.wit", WIT);
    let package = package.expect("it is well formed");
    let world = resolve.select_world(&[package], None);
    (resolve, world.expect("it has one world"))
});

/// The module with its exit code, if it gives one.
pub(crate) fn keep(module: &[u8]) -> Option<Vec<u8>> {
    let mut made = with_section(module, IMPORT_SECTION, rename)?;
    let (resolve, world) = &*CODES;
    embed_component_metadata(&mut made, resolve, *world, StringEncoding::UTF8).ok()?;
    Some(made)
}

/// An import section with the other import, if it has the one.
fn rename(section: &[u8]) -> Option<Vec<u8>> {
    let reader = ImportSectionReader::new(BinaryReader::new(section, 0)).ok()?;
    let mut exits = Vec::new();
    for imports in reader.into_iter_with_offsets() {
        match imports.ok()? {
            (at, Imports::Single(_, import)) if [import.module, import.name] == PROC_EXIT => {
                exits.push(at);
            }
            _ => {}
        }
    }
    // A linker makes one of several; two of a name would be refused.
    let &[at] = exits.as_slice() else {
        return None;
    };
    let mut names = BinaryReader::new(&section[at..], 0);
    names.read_string().ok()?;
    names.read_string().ok()?;
    let after = at + names.original_position();
    let mut made = section[..at].to_vec();
    for name in EXIT_WITH_CODE {
        write_u64(&mut made, name.len() as u64);
        made.extend(name.as_bytes());
    }
    made.extend(&section[after..]);
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(imports: &str) -> Vec<u8> {
        wat::parse_str(format!("(module {imports} (memory 1))")).unwrap()
    }

    #[test]
    fn an_exit_by_preview_1_becomes_one_with_a_code() {
        let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
        let yield_ = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
        let with_code = r#"(import "wasi:cli/exit@0.2.12" "exit-with-code" (func (param i32)))"#;
        let made = keep(&module(&format!("{yield_}{exit}{yield_}"))).unwrap();
        assert!(made.starts_with(&module(&format!("{yield_}{with_code}{yield_}"))));
        assert_eq!(keep(&module(&format!("{exit}{exit}"))), None);
        assert_eq!(keep(&module(yield_)), None);
        assert_eq!(keep(&module("")), None);
    }

    #[test]
    fn broken_modules_stay_as_they_are() {
        let module = module(r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#);
        let section = 8 + 2 + 5;
        for end in 0..section + 20 {
            assert_eq!(keep(&module[..end]), None, "{end}");
        }
    }
}
