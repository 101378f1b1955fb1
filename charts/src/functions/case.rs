//! Words of identifiers: `HTTPServer2xx` to `http_server_2xx` and back, as the library behind Sprig splits them.

use super::runes;

/// `some_words` to `SomeWords`: connectors between words go, those at either end and all but one of several stay.
pub(super) fn to_pascal(text: &[u8]) -> String {
    let mut out = String::new();
    let mut all = runes::decode(text).map(|(rune, _)| rune);
    let mut current = loop {
        match all.next() {
            Some(rune) if is_connector(rune) => out.push(rune),
            Some(rune) => break rune,
            None => {
                // Nothing but connectors: the last comes out twice.
                if let Some(last) = out.chars().last() {
                    out.push(last);
                }
                return out;
            }
        }
    };
    let mut abbreviation = runes::is_upper(current);
    current = runes::upper(current);
    for next in all {
        let before = current;
        current = next;
        if is_connector(current) && is_connector(before) {
            out.push(before);
            continue;
        }
        if is_connector(before) {
            abbreviation = runes::is_upper(current);
            current = runes::upper(current);
            continue;
        }
        if abbreviation {
            if runes::is_upper(current) {
                current = runes::lower(current);
            } else {
                abbreviation = false;
            }
        }
        out.push(before);
    }
    out.push(current);
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invalid,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punctuation,
    Other,
}

/// `SomeWords` to `some_words` or `some-words`.
pub(super) fn to_separated(text: &[u8], connector: char) -> Vec<u8> {
    let mut words = Words {
        rest: text,
        connector,
        out: Vec::new(),
    };
    if text.is_empty() {
        return Vec::new();
    }
    let (mut kind, mut word) = words.next();
    while !words.rest.is_empty() {
        if kind != Kind::Connector {
            words.write(kind, word);
        }
        let (before, last) = (kind, word);
        (kind, word) = words.next();
        match before {
            Kind::Number => {
                (kind, word) = words.write_run(kind, word);
                if !matches!(kind, Kind::Invalid | Kind::Punctuation | Kind::Connector) {
                    words.connect();
                }
            }
            Kind::Connector => words.write(before, last),
            Kind::Punctuation => {}
            _ if kind != Kind::Number => {
                if !matches!(kind, Kind::Connector | Kind::Punctuation) {
                    words.connect();
                }
            }
            _ if words.rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word) = words.next();
                if kind != Kind::Alphabet {
                    // The number belongs to the word before: `Bld4Floor`.
                    words.write(Kind::Number, number);
                    if !matches!(kind, Kind::Connector | Kind::Punctuation) {
                        words.connect();
                    }
                } else {
                    // Small letters belong to the number: `HTTP2xx`.
                    words.connect();
                    words.write(Kind::Number, number);
                    (kind, word) = words.write_run(kind, word);
                    if !matches!(kind, Kind::Invalid | Kind::Connector | Kind::Punctuation) {
                        words.connect();
                    }
                }
            }
        }
    }
    words.write(kind, word);
    words.out
}

struct Words<'a> {
    rest: &'a [u8],
    connector: char,
    out: Vec<u8>,
}

impl<'a> Words<'a> {
    /// Writes words and numbers that follow one another; the first that is neither.
    fn write_run(&mut self, mut kind: Kind, mut word: &'a [u8]) -> (Kind, &'a [u8]) {
        while matches!(kind, Kind::Alphabet | Kind::Number) {
            self.write(kind, word);
            (kind, word) = self.next();
        }
        (kind, word)
    }

    fn connect(&mut self) {
        self.push(self.connector);
    }

    fn push(&mut self, rune: char) {
        self.out
            .extend_from_slice(rune.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn write(&mut self, kind: Kind, word: &[u8]) {
        if !matches!(kind, Kind::Upper | Kind::Connector) {
            self.out.extend_from_slice(word);
            return;
        }
        for (rune, _) in runes::decode(word) {
            if is_connector(rune) {
                self.connect();
            } else if runes::is_upper(rune) {
                self.push(runes::lower(rune));
            } else {
                self.push(rune);
            }
        }
    }

    fn next(&mut self) -> (Kind, &'a [u8]) {
        let whole = self.rest;
        if whole.is_empty() {
            return (Kind::Invalid, whole);
        }
        let (kind, size) = first_word(whole);
        let (word, rest) = whole.split_at(size);
        self.rest = rest;
        (kind, word)
    }
}

/// The kind and the bytes of the first word.
fn first_word(whole: &[u8]) -> (Kind, usize) {
    let (first, size) = valid_rune(whole, runes::ERROR);
    if first == runes::ERROR {
        return (Kind::Invalid, size);
    }
    let run = |from: usize, goes_on: &dyn Fn(char) -> bool| {
        let (mut at, mut before) = (from, first);
        while at < whole.len() {
            let (rune, size) = valid_rune(&whole[at..], before);
            if !goes_on(rune) {
                break;
            }
            before = rune;
            at += size;
        }
        at
    };
    let small = |rune| is_alphabet(rune) && !runes::is_upper(rune);
    if is_connector(first) {
        (Kind::Connector, run(size, &is_connector))
    } else if runes::is_punctuation(first) {
        (Kind::Punctuation, run(size, &runes::is_punctuation))
    } else if runes::is_upper(first) {
        (Kind::Upper, upper_word(whole, first, size))
    } else if is_alphabet(first) {
        (Kind::Alphabet, run(size, &small))
    } else if runes::is_number(first) {
        (Kind::Number, run(size, &runes::is_number))
    } else {
        let other = |rune| {
            !(is_connector(rune)
                || is_alphabet(rune)
                || runes::is_number(rune)
                || runes::is_punctuation(rune))
        };
        (Kind::Other, run(size, &other))
    }
}

/// A capital with small letters, or capitals without the last if small letters follow it: `HTTP` of `HTTPStatus`.
fn upper_word(whole: &[u8], first: char, size: usize) -> usize {
    if size == whole.len() {
        return size;
    }
    let (second, second_size) = valid_rune(&whole[size..], first);
    let (mut at, mut before) = (size, second);
    if runes::is_upper(second) {
        let mut last_size = second_size;
        at += second_size;
        while at < whole.len() {
            let (rune, size) = valid_rune(&whole[at..], before);
            before = rune;
            if !runes::is_upper(rune) {
                break;
            }
            last_size = size;
            at += size;
        }
        if at < whole.len() && is_alphabet(before) {
            at -= last_size;
        }
    } else if is_alphabet(second) {
        at += second_size;
        while at < whole.len() {
            let (rune, size) = valid_rune(&whole[at..], before);
            if !is_alphabet(rune) || runes::is_upper(rune) {
                break;
            }
            before = rune;
            at += size;
        }
    }
    at
}

/// The first rune that is valid, with the bytes up to its end; the one before if there is none.
fn valid_rune(text: &[u8], before: char) -> (char, usize) {
    let mut bytes = 0;
    for (rune, size) in runes::decode(text) {
        bytes += size;
        if rune != runes::ERROR {
            return (rune, bytes);
        }
    }
    (before, bytes)
}

fn is_connector(rune: char) -> bool {
    rune == '-' || rune == '_' || runes::is_space(rune)
}

/// A letter, but no ideograph.
fn is_alphabet(rune: char) -> bool {
    runes::is_letter(rune)
        && !matches!(rune, '\u{3400}'..='\u{4DB5}' | '\u{4E00}'..='\u{9FCC}' | '\u{20000}'..='\u{2B81D}')
}
