//! What a guest's failure is in words. Pure.

use wasmtime::{Error, WasmBacktrace};

/// How many functions are named in a short message.
const MAX_FUNCTIONS: usize = 6;

/// One line: what happened, and in which functions, innermost first. The whole backtrace is for the log.
pub(crate) fn in_words(error: &Error) -> String {
    let cause = error.root_cause().to_string();
    let functions = error
        .downcast_ref::<WasmBacktrace>()
        .map(functions)
        .unwrap_or_default();
    if functions.is_empty() {
        return cause;
    }
    let more = functions.len().saturating_sub(MAX_FUNCTIONS);
    let mut text = format!(
        "{cause} in {}",
        functions[..functions.len() - more].join(", called by ")
    );
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

/// The functions of a backtrace, demangled; those without a name by their module and number.
fn functions(backtrace: &WasmBacktrace) -> Vec<String> {
    // Its text has a line for each frame, `0: 0x1c5 - module!function`, and lines for inlined source.
    let text = backtrace.to_string();
    let frames = text.lines().filter_map(|line| {
        let (place, function) = line.split_once(" - ")?;
        place.contains("0x").then(|| function.trim().to_owned())
    });
    let mut functions: Vec<String> = frames.collect();
    // Of a recursion one is enough; how deep it went is not in a backtrace of bounded length.
    functions.dedup();
    functions
}
