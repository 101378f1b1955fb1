//! Writes one of the images that tests are made with as an archive, for trying things by hand:
//! `images nginx docker.io/library/nginx:1.22 nginx.tar`, then `wkctl image import nginx.tar`.

use std::process::ExitCode;

use e2e::Image;

#[expect(clippy::print_stderr, reason = "it speaks to whoever runs it")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [name, reference, path] = words[..] else {
        eprintln!(
            "usage: images <busybox|ghost|nginx|redis|postgres|prometheus|victoria|python> <reference> <archive>"
        );
        return ExitCode::from(2);
    };
    let Some(image) = Image::named(name) else {
        eprintln!("there is no image {name}");
        return ExitCode::FAILURE;
    };
    image.archive(reference, path.as_ref());
    ExitCode::SUCCESS
}
