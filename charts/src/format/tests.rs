use super::*;
use crate::{
    Map,
    value::{IntKind, UintKind},
};

#[track_caller]
fn check(format: &str, args: &[Value], expected: &str) {
    let text = sprintf(format.as_bytes(), args);
    assert_eq!(
        String::from_utf8_lossy(&text),
        expected,
        "{format} {args:?}"
    );
}

fn s(text: &str) -> Value {
    Value::string(text.to_owned())
}

fn i(number: i64) -> Value {
    Value::int(number)
}

fn f(number: f64) -> Value {
    Value::Float(number)
}

#[test]
fn strings_print_as_go_prints_them() {
    for (format, text, expected) in [
        ("%s", "abc", "abc"),
        ("%q", "abc", "\"abc\""),
        ("%x", "abc", "616263"),
        ("%x", "\u{ff}", "c3bf"),
        ("%X", "xyz", "78797A"),
        ("%#x", "abc\u{ff}", "0x616263c3bf"),
        ("% x", "xyz", "78 79 7a"),
        ("%# X", "xyz", "0X78 0X79 0X7A"),
        ("%5s", "abc", "  abc"),
        ("%5s", "日本", "   日本"),
        ("%05s", "abc", "00abc"),
        ("%-5s", "abc", "abc  "),
        ("%-05s", "abc", "abc  "),
        ("%.3s", "日本語日本語", "日本語"),
        ("%.5s", "abcdefghijklmnopqrstuvwxyz", "abcde"),
        ("%.0s", "日本語日本語", ""),
        ("%.1q", "日本語", "\"日\""),
        ("%.3q", "abcdefghijklmnopqrstuvwxyz", "\"abc\""),
        ("%08q", "abc", "000\"abc\""),
        ("%-8q", "abc", "\"abc\"   "),
        ("%q", "\"", "\"\\\"\""),
        (
            "%q",
            "\u{7}\u{8}\u{c}\n\r\t\u{b}",
            "\"\\a\\b\\f\\n\\r\\t\\v\"",
        ),
        ("%q", "☺\n", "\"☺\\n\""),
        ("%#q", "☺\n", "\"☺\\n\""),
        ("%+q", "☺\n", "\"\\u263a\\n\""),
        ("%#q", "abc", "`abc`"),
        ("%q", "\u{10ffff}", "\"\\U0010ffff\""),
        ("%q", "\u{ad}", "\"\\u00ad\""),
        ("%v", "hi", "hi"),
        ("%#v", "hi", "\"hi\""),
        ("%T", "hi", "string"),
        ("%d", "hi", "%!d(string=hi)"),
        ("%5d", "hi", "%!d(string=   hi)"),
        ("%☠", "hi", "%!☠(string=hi)"),
        ("%.x", "abc", ""),
        ("% 5x", "ab", "61 62"),
    ] {
        check(format, &[s(text)], expected);
    }
}

#[test]
fn integers_print_as_go_prints_them() {
    for (format, number, expected) in [
        ("%d", 12345, "12345"),
        ("%v", -12345, "-12345"),
        ("%+d", 12345, "+12345"),
        ("% d", 12345, " 12345"),
        ("%10d", 12345, "     12345"),
        ("%010d", -12345, "-000012345"),
        ("%-10d|", 12345, "12345     |"),
        ("%-010d|", -12345, "-12345    |"),
        ("%.0d", 0, ""),
        ("%6.0d", 0, "      "),
        ("%06.0d", 0, "      "),
        ("%.3d", 7, "007"),
        ("%8.3d", -7, "    -007"),
        ("%08.3d", -7, "    -007"),
        ("%b", -5, "-101"),
        ("%#b", 5, "0b101"),
        ("%o", 0o1234, "1234"),
        ("%#o", 0o1234, "01234"),
        ("%O", 0o1234, "0o1234"),
        ("%x", 0x1234abcd, "1234abcd"),
        ("%#X", 0x1234abcd, "0X1234ABCD"),
        ("%#x", -0x1234, "-0x1234"),
        ("%04x", 127, "007f"),
        ("%c", 120, "x"),
        ("%c", 0x2c00, "Ⰰ"),
        ("%c", 0x110000, "\u{fffd}"),
        ("%-3c|", 120, "x  |"),
        ("%q", 0x263a, "'☺'"),
        ("%+q", 0x263a, "'\\u263a'"),
        ("%q", 39, "'\\''"),
        ("%U", 0x78, "U+0078"),
        ("%#U", 0x263a, "U+263A '☺'"),
        ("%#.6U", 0x263a, "U+00263A '☺'"),
        ("%s", 5, "%!s(int=5)"),
        ("%t", 5, "%!t(int=5)"),
        ("%f", 5, "%!f(int=5)"),
        ("%d", i64::MIN, "-9223372036854775808"),
        ("%x", i64::MIN, "-8000000000000000"),
    ] {
        check(format, &[i(number)], expected);
    }
    check(
        "%T %T",
        &[Value::int64(1), Value::Uint(1, UintKind::Uint8)],
        "int64 uint8",
    );
    check("%#v", &[Value::Uint(23, UintKind::Uint64)], "0x17");
    check("%v", &[Value::Int(3, IntKind::Int32)], "3");
}

#[test]
fn floats_print_as_go_prints_them() {
    for (format, number, expected) in [
        ("%v", 1_000_000.0, "1e+06"),
        ("%v", 999_999.0, "999999"),
        ("%v", 1_234_567.0, "1.234567e+06"),
        ("%v", 123_456_789.5, "1.234567895e+08"),
        ("%v", 12_345_678_901_234_567.0, "1.2345678901234568e+16"),
        ("%v", 0.0001, "0.0001"),
        ("%v", 0.00001, "1e-05"),
        ("%v", 0.0, "0"),
        ("%v", -0.0, "-0"),
        ("%v", 1.5, "1.5"),
        ("%v", 100.0, "100"),
        ("%v", f64::NAN, "NaN"),
        ("%v", f64::INFINITY, "+Inf"),
        ("%+v", f64::INFINITY, "+Inf"),
        ("%5v|", f64::NEG_INFINITY, " -Inf|"),
        ("%08v", f64::INFINITY, "    +Inf"),
        ("%+e", 0.0, "+0.000000e+00"),
        ("%+e", 1.0, "+1.000000e+00"),
        ("%+f", -1.0, "-1.000000"),
        ("%+.3F", 0.0, "+0.000"),
        ("%.0f", 2.5, "2"),
        ("%.0f", 3.5, "4"),
        ("%.2f", 2.14159, "2.14"),
        ("%8.2f", 2.14159, "    2.14"),
        ("%08.2f", -2.14159, "-0002.14"),
        ("%-8.2f|", 2.14159, "2.14    |"),
        ("%+8.2f", 2.14159, "   +2.14"),
        ("% .3E", -1.0, "-1.000E+00"),
        ("% .3E", 1.0, " 1.000E+00"),
        ("%.3g", 1.0, "1"),
        ("%.3g", 100_000.0, "1e+05"),
        ("%.6g", 100_000.0, "100000"),
        ("%.10g", 1_234_567.0, "1234567"),
        ("%g", 3.5, "3.5"),
        ("%G", 1e20, "1E+20"),
        ("%g", 1e21, "1e+21"),
        ("%.3g", 1234.5678, "1.23e+03"),
        ("%20e", 1.2345e3, "        1.234500e+03"),
        ("%20.8e", 1.2345e3, "      1.23450000e+03"),
        ("%#g", 1.0, "1.00000"),
        ("%#.4g", 1.0, "1.000"),
        ("%#g", 1e6, "1.00000e+06"),
        ("%#f", 1.0, "1.000000"),
        ("%#.0f", 123.0, "123."),
        ("%#.e", 1.0, "1.e+00"),
        ("%#.3g", 0.0, "0.00"),
        ("%x", 1.0, "0x1p+00"),
        ("%x", 1.5, "0x1.8p+00"),
        ("%.3x", 1.0, "0x1.000p+00"),
        ("%.0x", 1.99, "0x1p+01"),
        ("%X", 0.1, "0X1.999999999999AP-04"),
        ("%b", 1.0, "4503599627370496p-52"),
        ("%d", 1_000_000.0, "%!d(float64=1e+06)"),
        ("%s", 1.0, "%!s(float64=1)"),
        ("%T", 1.0, "float64"),
    ] {
        check(format, &[f(number)], expected);
    }
}

#[test]
fn wrong_formats_are_told_in_the_text() {
    check("%", &[], "%!(NOVERB)");
    check("%z %d", &[i(1)], "%!z(int=1) %!d(MISSING)");
    check(
        "%d %%",
        &[i(1), s("x"), Value::Nil],
        "1 %%!(EXTRA string=x, <nil>)",
    );
    check("%*d", &[i(4), i(42)], "  42");
    check("%-*d|", &[i(4), i(42)], "42  |");
    check("%*d|", &[i(-4), i(42)], "42  |");
    check("%.*f", &[i(2), f(1.0)], "1.00");
    check("%*d", &[s("x"), i(42)], "%!(BADWIDTH)42");
    check("%.*d", &[i(-1), i(42)], "%!(BADPREC)42");
    check("%[2]d %[1]d", &[i(1), i(2)], "2 1");
    check("%[2]*[1]d", &[i(1), i(2)], " 1");
    check("%[3]*.[2]*[1]f", &[f(12.0), i(2), i(6)], " 12.00");
    check("%[x]d", &[i(1)], "%!d(BADINDEX)");
    check("%[5]d", &[i(1)], "%!d(BADINDEX)");
    check("%[1]d %d", &[i(1), i(2)], "1 2");
    check("%[]d", &[i(1)], "%!d(BADINDEX)");
    check("%[3]2d", &[i(1), i(2), i(3)], "%!d(BADINDEX)");
    check("%w", &[s("x")], "%!w(string=x)");
    check(
        "%v %d %s",
        &[Value::Nil, Value::Nil, Value::Nil],
        "<nil> %!d(<nil>) %!s(<nil>)",
    );
    check("%t %t", &[Value::Bool(true), s("x")], "true %!t(string=x)");
    check("%2147483648d", &[i(1)], "%!(NOVERB)%!(EXTRA int=1)");
}

#[test]
fn maps_and_lists_print_their_elements() {
    let map = Map::new();
    map.insert("b", Value::list(vec![i(1), Value::Nil, f(1e6)]));
    map.insert("a", s("x"));
    let map = Value::Map(map);
    check(
        "%v",
        std::slice::from_ref(&map),
        "map[a:x b:[1 <nil> 1e+06]]",
    );
    check(
        "%#v",
        std::slice::from_ref(&map),
        "map[string]interface {}{\"a\":\"x\", \"b\":[]interface {}{1, interface {}(nil), 1e+06}}",
    );
    check(
        "%d",
        &[Value::list(vec![i(1), s("x")])],
        "[1 %!d(string=x)]",
    );
    check(
        "%q",
        &[Value::strings(vec![s("a"), s("b")])],
        "[\"a\" \"b\"]",
    );
    check(
        "%T %T",
        &[map, Value::strings(vec![])],
        "map[string]interface {} []string",
    );
    check("%03d", &[Value::list(vec![i(1), i(2)])], "[001 002]");
}

#[test]
fn print_puts_spaces_between_what_is_no_string() {
    let print = |args: &[Value]| String::from_utf8_lossy(&sprint_all(args)).into_owned();
    assert_eq!(print(&[i(1), i(2), s("x"), i(3), s("y")]), "1 2x3y");
    assert_eq!(print(&[Value::Nil, Value::Nil]), "<nil> <nil>");
    assert_eq!(sprintln(&[i(1), s("x")]), "1 x\n");
}

#[test]
fn literals_are_read_as_go_reads_them() {
    let read = |literal: &str| unquote(literal.as_bytes()).ok();
    assert_eq!(read(r#""a\tb\x41\101é\u00e9""#), Some("a\tbAAéé".into()));
    assert_eq!(read("`a\\n\r\nb`"), Some(b"a\\n\nb".to_vec()));
    assert_eq!(read(r#""\xff""#), Some(vec![0xff]));
    for wrong in [
        r#""\q""#,
        r#""\'""#,
        "\"a\nb\"",
        r#""\400""#,
        r#""\ud800""#,
        "\"",
        r#""\x4""#,
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
