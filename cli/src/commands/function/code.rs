//! Which components can be functions: told before a push, in words that help whoever built it. Pure.

use anyhow::{Context as _, Result, bail};

use crate::push::Kind;

/// What a function exports: the interface, of any release of WASI 0.2.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";

/// Looks at a component, binary or text.
///
/// # Errors
/// It cannot answer requests.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let binary = wat::parse_bytes(bytes).context("assemble it")?;
    let exports = match Kind::of(&binary)? {
        Kind::Component { exports, .. } => exports,
        Kind::Module => bail!(
            "it is a core module, and a function is a component: build it for WASI 0.2 (target wasm32-wasip2), or make one of it with wasm-tools component new"
        ),
    };
    if exports.iter().any(|export| export.starts_with(HANDLER)) {
        return Ok(());
    }
    let exports = match exports.is_empty() {
        true => "nothing".to_owned(),
        false => exports.join(", "),
    };
    let hint = match exports.contains("wasi:cli/run@") {
        true => "; a program runs as a Pod or Job",
        false => "",
    };
    bail!("it exports {exports}, and a function exports {HANDLER}x{hint}")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match super::check(text.as_bytes()) {
            Ok(()) => "fits".to_owned(),
            Err(error) => format!("{error:#}"),
        });
    }

    #[test]
    fn a_function_is_a_component_that_handles_requests() {
        let exporting =
            |name: &str| format!(r#"(component (instance) (export "{name}" (instance 0)))"#);
        for release in ["0", "3", "12"] {
            check(
                &exporting(&format!("wasi:http/incoming-handler@0.2.{release}")),
                expect!["fits"],
            );
        }
        check(
            &exporting("wasi:cli/run@0.2.0"),
            expect![
                "it exports wasi:cli/run@0.2.0, and a function exports wasi:http/incoming-handler@0.2.x; a program runs as a Pod or Job"
            ],
        );
        check(
            &exporting("wasi:http/incoming-handler@0.3.0"),
            expect![
                "it exports wasi:http/incoming-handler@0.3.0, and a function exports wasi:http/incoming-handler@0.2.x"
            ],
        );
        check(
            "(component)",
            expect!["it exports nothing, and a function exports wasi:http/incoming-handler@0.2.x"],
        );
        check(
            r#"(module (func (export "_start")))"#,
            expect![
                "it is a core module, and a function is a component: build it for WASI 0.2 (target wasm32-wasip2), or make one of it with wasm-tools component new"
            ],
        );
        let error = super::check(b"\0asm").unwrap_err();
        assert_eq!(error.to_string(), "it is neither a component nor a module");
    }
}
