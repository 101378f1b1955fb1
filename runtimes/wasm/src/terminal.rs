//! What a terminal does between a keyboard, a program and a screen, for programs that have none.
//!
//! A client with a terminal sends what is typed byte by byte and shows what it gets as it is: echo, lines,
//! erasing, `^C` and `^D` are the terminal's. This one does as much as a program of lines needs.

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

use crate::pipe::Writer;

/// The longest line, as Linux has it. What is typed beyond is lost.
const MAX_LINE: usize = 4096;

/// Output as a screen needs it: lines begin at its left.
pub(crate) fn shown(tty: bool, bytes: &[u8]) -> Cow<'_, [u8]> {
    if !tty || !bytes.contains(&b'\n') {
        return Cow::Borrowed(bytes);
    }
    let mut shown = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if *byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(*byte);
    }
    Cow::Owned(shown)
}

/// Takes what is typed, shows it, and gives the program whole lines.
pub(crate) struct Keyboard {
    program: Writer,
    screen: Option<Writer>,
    /// `^C` and `^\`.
    interrupt: CancellationToken,
    line: Vec<u8>,
    /// What the program has had no room for.
    sent: Vec<u8>,
}

impl Keyboard {
    pub(crate) fn new(
        program: Writer,
        screen: Option<Writer>,
        interrupt: CancellationToken,
    ) -> Keyboard {
        Keyboard {
            program,
            screen,
            interrupt,
            line: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn press(&mut self, byte: u8) {
        match byte {
            b'\r' | b'\n' => {
                self.show(b"\r\n");
                self.sent.append(&mut self.line);
                self.sent.push(b'\n');
            }
            // Backspace and delete: the last character, of however many bytes.
            0x08 | 0x7f => {
                while self.line.last().is_some_and(|byte| byte & 0xc0 == 0x80) {
                    self.line.pop();
                }
                if self.line.pop().is_some() {
                    self.show(b"\x08 \x08");
                }
            }
            // ^C and ^\
            0x03 | 0x1c => {
                self.show(if byte == 0x03 { b"^C\r\n" } else { b"^\\\r\n" });
                self.line.clear();
                self.interrupt.cancel();
            }
            // ^D: the end, or what there is of a line.
            0x04 if self.line.is_empty() && self.sent.is_empty() => self.program.close(),
            0x04 => self.sent.append(&mut self.line),
            // ^U: the whole line.
            0x15 => {
                while !self.line.is_empty() {
                    self.press(0x7f);
                }
            }
            _ if self.line.len() < MAX_LINE => {
                self.line.push(byte);
                self.show(&[byte]);
            }
            _ => {}
        }
    }

    fn show(&self, bytes: &[u8]) {
        // What is typed faster than the screen is read is not worth waiting for.
        if let Some(screen) = &self.screen
            && screen.room().is_some_and(|room| room >= bytes.len())
        {
            screen.push(bytes);
        }
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sent.is_empty() {
            let written = Pin::new(&mut self.program).poll_write(context, &self.sent);
            let size = std::task::ready!(written)?;
            self.sent.drain(..size);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Keyboard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_sent(context))?;
        for byte in bytes {
            self.press(*byte);
        }
        // What cannot be sent now is sent by the next write.
        if let Poll::Ready(Err(error)) = self.poll_sent(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_sent(context))?;
        Pin::new(&mut self.program).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::pipe::pipe;

    /// Types the text and shows what the program gets and what the screen shows.
    #[track_caller]
    fn check(typed: &str, want: Expect) {
        let (program, mut input) = pipe(true);
        let (screen, mut seen) = pipe(true);
        let interrupt = CancellationToken::new();
        let mut keyboard = Keyboard::new(program, Some(screen), interrupt.clone());
        let text = async {
            keyboard.write_all(typed.as_bytes()).await.unwrap();
            drop(keyboard);
            let (mut got, mut shown) = (String::new(), String::new());
            input.read_to_string(&mut got).await.unwrap();
            seen.read_to_string(&mut shown).await.unwrap();
            format!("{got:?} {shown:?} {}\n", interrupt.is_cancelled())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        want.assert_eq(&runtime.unwrap().block_on(text));
    }

    #[test]
    fn a_line_is_sent_when_it_is_whole() {
        check(
            "ab\rc",
            expect![[r#"
            "ab\n" "ab\r\nc" false
        "#]],
        );
    }

    #[test]
    fn what_is_erased_is_not_sent() {
        check(
            "aü\x7fx\x7f\x7f\x7fb\r",
            expect![[r#"
            "b\n" "aü\u{8} \u{8}x\u{8} \u{8}\u{8} \u{8}b\r\n" false
        "#]],
        );
        check(
            "abc\x15d\r",
            expect![[r#"
            "d\n" "abc\u{8} \u{8}\u{8} \u{8}\u{8} \u{8}d\r\n" false
        "#]],
        );
    }

    #[test]
    fn control_c_interrupts_and_control_d_is_the_end() {
        check(
            "a\x03",
            expect![[r#"
            "" "a^C\r\n" true
        "#]],
        );
        check(
            "a\x04b\r\x04",
            expect![[r#"
            "ab\n" "ab\r\n" false
        "#]],
        );
    }
}
