//! Whether bytes are a WebAssembly module or component, at first sight. Pure.

/// Refuses what is plainly no module, so that the user reads it at the pull.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(b"\0asm") || is_text(bytes) {
        return Ok(());
    }
    Err("neither a WebAssembly component nor a module (binary or text)".to_owned())
}

/// WebAssembly text starts with `(component` or `(module` after white space and comments.
fn is_text(bytes: &[u8]) -> bool {
    let Ok(mut text) = std::str::from_utf8(bytes) else {
        return false;
    };
    loop {
        text = text.trim_start();
        let rest = match text.get(..2) {
            Some(";;") => text.split_once('\n').map(|(_, rest)| rest),
            Some("(;") => text.split_once(";)").map(|(_, rest)| rest),
            _ => {
                let word = text.strip_prefix('(').unwrap_or_default().trim_start();
                return word.starts_with("component") || word.starts_with("module");
            }
        };
        match rest {
            Some(rest) => text = rest,
            None => return false,
        }
    }
}
