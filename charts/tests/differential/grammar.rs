//! Makes templates: actions, pipelines, variables, control structures, and calls of every function that answers the same
//! each time, mostly with arguments of the right types.

use std::{collections::BTreeMap, sync::LazyLock};

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

/// `name parameters : result`. `*` marks what may follow any number of times.
///
/// `s` text, `i` integer, `z` small integer, `f` float, `n` anything like a number, `b` truth, `l` list, `m` map, `M` map of its
/// own, `t` time, `a` anything; of text: `F` format, `R` expression, `W` replacement, `V` version, `C` range of versions, `L`
/// layout, `P` path, `K` kind, `Y` YAML, `J` JSON, `T` TOML, `B` base64, `D` duration, `U` URL, `Z` zone, `E` time as text.
const FUNCTIONS: &str = "
trim s : s
trimAll s s : s
trimSuffix s s : s
trimPrefix s s : s
nospace s : s
contains s s : b
hasPrefix s s : b
hasSuffix s s : b
trunc z s : s
substr z z s : s
repeat z s : s
replace s s s : s
indent z s : s
nindent z s : s
plural s s i : s
quote a* : s
squote a* : s
cat a* : s
toString a : s
toStrings l : l
split s s : m
splitn s z s : m
splitList s s : l
join s l : s
sortAlpha l : l
atoi s : i
upper s : s
lower s : s
title s : s
untitle s : s
swapcase s : s
initials s : s
camelcase s : s
snakecase s : s
kebabcase s : s
wrap z s : s
wrapWith z s s : s
abbrev z s : s
abbrevboth z z s : s
int n : i
int64 n : i
toDecimal n : i
add1 n : i
add n* : i
sub n n : i
mul n n* : i
div n n : i
mod n n : i
max n n* : i
min n n* : i
biggest n n* : i
until z : l
untilStep z z z : l
seq z z : s
seq z z z : s
float64 n : f
add1f n : f
addf n* : f
subf n n* : f
mulf n n* : f
divf n n* : f
maxf n n* : f
minf n n* : f
ceil n : f
floor n : f
round n z : f
round n z f : f
list a* : l
tuple a* : l
append l a : l
push l a : l
prepend l a : l
first l : a
last l : a
rest l : l
initial l : l
reverse l : l
uniq l : l
compact l : l
without l a* : l
has a l : b
slice l z* : a
mustSlice l z z : l
concat l* : l
chunk z l : l
dict s a s a : m
dict a* : m
get m s : a
set M s n : m
unset M s : m
hasKey m s : b
pluck s m* : l
keys m | sortAlpha : l
pick m s* : m
omit m s* : m
dig s s a m : a
dig s a m : a
merge M m* : m
mergeOverwrite M m* : m
mustMergeOverwrite M m : m
default a a : a
empty a : b
coalesce a* : a
all a* : b
any a* : b
ternary a a b : a
deepCopy a : a
mustDeepCopy m : m
kindOf a : s
kindIs K a : b
typeOf a : s
typeIs K a : b
typeIsLike K a : b
deepEqual a a : b
b64enc s : s
b64dec B : s
b32enc s : s
b32dec B : s
base P : s
dir P : s
clean P : s
ext P : s
isAbs P : b
osBase P : s
osDir P : s
osClean P : s
osExt P : s
osIsAbs P : b
date L t : s
dateInZone L t Z : s
htmlDate t : s
htmlDateInZone t Z : s
toDate L E : t
mustToDate L E : t
dateModify D t : t
mustDateModify D t : t
unixEpoch t : s
duration n : s
durationRound D : s
semver V : a
semverCompare C V : b
regexMatch R s : b
regexFind R s : s
regexFindAll R s z : l
regexReplaceAll R s W : s
regexReplaceAllLiteral R s W : s
regexSplit R s z : l
mustRegexFindAll R s z : l
mustRegexReplaceAll R s W : s
mustRegexMatch R s : b
regexQuoteMeta s : s
urlParse U : m
urlJoin m : s
sha1sum s : s
sha256sum s : s
sha512sum s : s
adler32sum s : s
toYaml a : s
mustToYaml a : s
toYamlPretty a : s
fromYaml Y : m
fromYamlArray Y : l
toJson a : s
mustToJson a : s
toPrettyJson a : s
toRawJson a : s
fromJson J : m
fromJsonArray J : l
mustFromJson J : a
toToml m : s
mustToToml a : s
fromToml T : m
and a a* : a
or a a* : a
not a : b
eq a a* : b
eq n n : b
eq s s : b
ne a a : b
lt n n : b
le n n : b
gt s s : b
ge i i : b
index l z : a
index m s : a
index a a a : a
len a : i
print a* : s
println a* : s
printf F a a : s
printf F a : s
html a : s
js a : s
urlquery a* : s
include \"h\" a : s
include \"g\" a : s
tpl s a : s
required s a : a
fail s : a
lookup s s s s : m
call a a : a
";

/// What an argument of each type may be, besides a call.
const OPERANDS: &str = r##"
s "" "a" "a b c" "Hello, World" `raw {{` "é世☺" "\n" "x\ty\n z" "\xff" "-" "," "1" "a.b" "<no value>" "{{ .Values.s }}" "A_b-cD" "  pad " $.Values.s $.Values.empty $.Values.utf $.Values.quote $.Values.lines $.Values.date $.Values.a.b.c $.Values.tpl $.Release.Name $.Chart.Name $s "0x1f" "null" "true" "aXb"
i 0 1 -1 2 7 100 $a 'a' 0x10 9223372036854775807 -9223372036854775808 1000000
z 0 1 -1 2 3 5 10 40
f 0.0 1.5 -2.5 1e6 1e-7 3.14159 1e300 123456789.125 $.Values.f $.Values.big $.Values.huge $.Values.tiny 0.5 -0.0
n 0 1 -3 7 2.5 "12" "1.5" "x" "" "0x10" "010" "1e3" "-4" $.Values.n $.Values.big $.Values.f $.Values.neg $.Values.zero $.Values.t $a nil $.Values.null 9223372036854775807 "9223372036854775808" 1e19 3000000000
b true false $.Values.t $.Values.no
l $.Values.l $.Values.strings $.Values.none $.Values.items $l $.Values.nested.l (list) (list 1 2 3) (list "b" "a" "b") (list nil 0 "" false)
m $.Values.a $.Values.m $.Values.emptymap $.Values.nested $m (dict) (dict "k" "v") (dict "a" 1 "b" (list 1)) $.Values.nested.m $.Values.a.b $.Release
M (dict) (dict "k" "v" "x" 1) (deepCopy $.Values.m) (deepCopy $.Values.a) (deepCopy $m) (dict "a" (dict "b" 1))
t 0 1700000000 -1 (toDate "2006-01-02" "2024-02-29") (toDate "2006-01-02T15:04:05Z07:00" "1999-12-31T23:59:59+02:00") 951827696
a nil true 1 "x" 2.5 $.Values.null $.Values.missing $.Values.a $.Values.l $.Values.n $.Values.s $.Values.a.missing $a $s $m $l $.Values.a.null $.Values.items $.Values.nested $.Values.missing.x $.Chart.Version $.Release.IsInstall
F "%v" "%d" "%s" "%q" "%x" "%5.2f" "%T" "%+v" "%#v" "%t" "%05d" "%-8s|" "%8.3s" "%c" "%U" "%e" "%g" "%G" "%b" "%o" "%O" "%X" "% x" "%%" "%" "%z" "%[2]v" "%[1]d %[1]v" "%*d" "%.*f" "%v %v" "%s-%d" "%!" "%6.2f%%" "%#x" "%#q" "%+q" "%+d" "% d" "%08.3f" "%-+5d|" "%x %X" "%.2s" "%[3]v" "%[x]v" "%.3v" "%10v|" "%w"
R "a" "^a.*z$" "[a-z]+" "(a)(b)?" "\\d+" "\\s" "(?i)HELLO" "x*" "" "(" "[" "a{2,3}" "a{,5}" "(?P<n>l+)" "\\bW" "." "[^,]*" "é|世" "\\pL+" "(a|b)*c" "^$" "\\Qa.b\\E" "\\x41" "(?s).+" "[[:alpha:]]+" "(?m)^." "a++" "(?=a)" "\\1" "o, " "l{2}" "[a-" "*" "(?U)l+" "\\z" "\\C"
W "$1" "${1}x" "$n" "[$0]" "" "$$" "-" "${n}" "$1x" "\\1" "$" "$2"
V "1.2.3" "v1.2" "1" "1.2.3-beta.1+b5" "1.20.0" "v1.31.0-eks-1" "" "x" "01.2.3" "1.2.3.4" "0.0.0" "10.0.0-rc.1" "1.2.3-01" " 1.2.3" "99999999999999999999.0.0"
C ">=1.2" "^1.2.3" "~1.2" "1.x" ">=1.0.0-0" "<2 || >3" "1.2 - 2.3" "*" "!=1.2.3" ">1.2, <3" "=1" "" "x" ">>1" "~>1.2" "^0.0" "1.2.3-beta" "=>1.2" "<1.20-0" "^0" "1.*" ">= 1.2 < 2"
L "2006-01-02" "2006-01-02T15:04:05Z07:00" "Mon Jan _2 15:04:05 2006" "3:04PM" "02 Jan 06 15:04 MST" "15:04:05.000" "15:04:05.999999999" "002 __2" "-0700 -07 Z0700" "January 1, 2006" "06-1-2" "x" "" "20060102150405" "Monday"
E "2024-02-29" "2023-02-29" "2024-02-29T12:34:56Z" "1999-12-31T23:59:59+02:00" "12:30" "x" "" "Mon Jan  2 15:04:05 2006" "3:04PM" "20240229123456" "06-1-2" "02 Jan 06 15:04 UTC" "12:00:00.123"
Z "UTC" "" "Local" "America/New_York" "Europe/Berlin" "x" "Asia/Kolkata" "EST"
P "" "/" "." ".." "a" "a/b.c" "/a//b/" "a/../b" "./a" "a.tar.gz" "/.x" "../../a" "a/." "//" "a/b/.." ".a" "a." "/a/b.c/d"
K "string" "int" "float64" "map" "slice" "bool" "invalid" "ptr" "interface" "*string" "[]interface {}" "map[string]interface {}" "int64" "common.Values" "x" ""
Y "" "a: 1" "a: [1, x]\nb: yes" "- 1\n- x" "a: b: c" "x" "a: 012\nc: 1e3" "{}" "[]" "a: |\n  x\n" "null" "a: &x 1\nb: *x" "<<: {a: 1}" "a: !!str 1" "---\na: 1\n---\nb: 2" "a:\n\t- b" $.Values.lines
J "" "{}" "[]" "{\"a\": 1}" "[1, \"x\", null]" "{\"a\": {\"b\": [1e3, true]}}" "x" "null" "1" "\"s\"" "{\"a\": 1,}" "{\"a\": 1} x" "[1" "{\"a\": 1, \"a\": 2}" "\"\\ud83d\\ude00\"" "\"\\ud83d\"" "01" "1.0" "-0" "1e400" " {} " "{\"A\": 12345678901234567890}"
T "" "a = 1" "a = \"x\"\n[b]\nc = [1, 2]" "a = " "a = 1.5\nd = 2020-01-01" "[[x]]\ny = 1\n[[x]]\ny = 2" "a.b = true" "a = 1\na = 2" "a = 0x10" "a = 'x'" "[a]\n[a]" "a = inf" "a = 1979-05-27T07:32:00Z" "a = {b = 1}" "a = [1, 'x']"
B "" "YQ==" "YWI=" "YQ" "x" "====" "aGVsbG8gd29ybGQ=" "-_8=" "ME======" "GE" "ab\ncd" "/+8="
D "1h" "90m" "1h30m5.5s" "-5s" "" "x" "5" "1d" "100ms" "2h45m" "36h" "8760h" "1us" "0" "1.5h" "+3m" ".5s" "1w" "9223372036854775807ns"
U "" "http://u:p@h.example:80/a/b?q=1#f" "h.example/a" "//h/a" "mailto:x@y" "http://[::1]:80/" "a b" ":" "http://h/%zz" "https://h" "?q" "#f" "http://h/%2f%20a" "http://é/世" "x:y:z" "http://h:port/" "/a//b" "../x"
"##;

/// Text between actions.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\n",
    "a: ",
    "\n  - ",
    "x",
    "é",
    "}} ",
    "{ {",
    "\r\n",
    "\t",
    " -}} ",
    "<no value>",
    "end\n",
];

struct Function {
    name: &'static str,
    parameters: Vec<(Type, bool)>,
    /// What follows the call itself.
    after: &'static str,
}

type Type = &'static str;

static CALLS: LazyLock<BTreeMap<Type, Vec<Function>>> = LazyLock::new(|| {
    let mut calls: BTreeMap<Type, Vec<Function>> = BTreeMap::new();
    for line in FUNCTIONS.lines().filter(|line| !line.is_empty()) {
        let (call, result) = line.rsplit_once(" : ").unwrap();
        let (call, after) = call.split_once(" | ").unwrap_or((call, ""));
        let mut words = call.split(' ');
        let name = words.next().unwrap();
        let parameters = words.map(|word| match word.strip_suffix('*') {
            Some(word) => (word, true),
            None => (word, false),
        });
        let function = || Function {
            name,
            parameters: parameters.clone().collect(),
            after,
        };
        calls.entry(result).or_default().push(function());
        calls.entry("a").or_default().push(function());
    }
    calls
});

/// Words apart, quoted ones and those in parentheses whole.
fn words(line: &'static str) -> Vec<&'static str> {
    let (mut words, mut start, mut parens, mut quote) = (Vec::new(), 0, 0, None);
    let mut escaped = false;
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`' | '\'') => quote = Some(letter),
            (None, '(') => parens += 1,
            (None, ')') => parens -= 1,
            (None, ' ') if parens == 0 => {
                words.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    words.push(&line[start..]);
    words
}

static ATOMS: LazyLock<BTreeMap<Type, Vec<&'static str>>> = LazyLock::new(|| {
    let lines = OPERANDS.lines().filter(|line| !line.is_empty());
    lines.map(|line| (&line[..1], words(&line[2..]))).collect()
});

/// Types that operands have.
const TYPES: &[Type] = &["s", "i", "f", "n", "b", "l", "m", "a", "t", "z"];

/// Makes one template.
pub(crate) struct Grammar<'a> {
    random: &'a mut StdRng,
    /// Ranges around.
    ranges: usize,
    /// Whether the dot is still all that a template sees: it is not printed, as Go prints addresses in it.
    root: bool,
}

impl Grammar<'_> {
    pub(crate) fn new(random: &mut StdRng) -> Grammar<'_> {
        Grammar {
            random,
            ranges: 0,
            root: true,
        }
    }

    pub(crate) fn template(&mut self) -> String {
        let mut text = String::from(
            "{{ define \"h\" }}[{{ kindOf . }}]{{ end }}{{ define \"g\" }}{{ if . }}yes{{ else }}no{{ end }}{{ end }}\
             {{ $a := 7 }}{{ $s := \"x y\" }}{{ $m := dict \"k\" \"v\" \"n\" 1 }}{{ $l := list 1 \"b\" nil }}",
        );
        text += &self.nodes(3);
        text
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(self.random).unwrap()
    }

    fn chance(&mut self, of: f64) -> bool {
        self.random.random_bool(of)
    }

    fn nodes(&mut self, depth: usize) -> String {
        let count = self.random.random_range(1..4);
        (0..count).map(|_| self.node(depth)).collect()
    }

    fn action(&mut self, inside: &str) -> String {
        let open = self.pick(&["{{ ", "{{", "{{- ", "{{-\n", "{{ "]);
        let close = self.pick(&[" }}", "}}", " -}}", "\n-}}", " }}"]);
        format!("{open}{inside}{close}")
    }

    fn node(&mut self, depth: usize) -> String {
        let kind = match depth {
            0 => self.random.random_range(0..5),
            _ => self.random.random_range(0..12),
        };
        match kind {
            0 => self.pick(TEXTS).to_owned(),
            1..=3 => {
                let inside = self.pipeline("a", 3);
                self.action(&inside)
            }
            4 => {
                let variable = self.pick(&["$a", "$s", "$m", "$l"]);
                let of = match variable {
                    "$a" => "i",
                    "$s" => "s",
                    "$m" => "M",
                    _ => "l",
                };
                let sign = self.pick(&[":=", "="]);
                let inside = format!("{variable} {sign} {}", self.pipeline(of, 2));
                self.action(&inside)
            }
            5 | 6 => {
                let condition = self.pipeline("b", 2);
                let mut text = self.action(&format!("if {condition}")) + &self.nodes(depth - 1);
                if self.chance(0.3) {
                    let condition = self.pipeline("a", 1);
                    text += &self.action(&format!("else if {condition}"));
                    text += &self.nodes(depth - 1);
                }
                self.closed(text, depth)
            }
            7 => {
                let value = self.pipeline("a", 2);
                let variable = self.pick(&["", "", "$w := "]);
                let text = self.action(&format!("with {variable}{value}"));
                let root = std::mem::replace(&mut self.root, false);
                let text = text + &self.nodes(depth - 1);
                self.root = root;
                self.closed(text, depth)
            }
            8..=10 => {
                // Never of a number that may be large.
                let of = self.pick(&["l", "m", "l", "m", "z"]);
                let value = self.call(of, 2);
                let variables = self.pick(&["", "", "$v := ", "$k, $v := ", "$a, $s = "]);
                let text = self.action(&format!("range {variables}{value}"));
                let root = std::mem::replace(&mut self.root, false);
                self.ranges += 1;
                let text = text + &self.nodes(depth - 1);
                self.ranges -= 1;
                self.root = root;
                self.closed(text, depth)
            }
            _ => {
                let odd = [
                    "/* a comment */",
                    "template \"h\" .",
                    "template \"g\" $l",
                    "template \"h\"",
                    "break",
                    "continue",
                    "template \"no\"",
                ];
                let inside = self.pick(&odd[..if self.ranges > 0 { odd.len() } else { 4 }]);
                self.action(inside)
            }
        }
    }

    /// A control structure's end, after what may be otherwise.
    fn closed(&mut self, mut text: String, depth: usize) -> String {
        if self.chance(0.4) {
            text += &self.action("else");
            text += &self.nodes(depth - 1);
        }
        text + &self.action("end")
    }

    fn pipeline(&mut self, of: Type, depth: usize) -> String {
        let mut text = match self.chance(0.8) {
            true => self.call(of, depth),
            false => self.operand(of, depth),
        };
        while self.chance(0.25) {
            let more = self.pick(&[
                "quote",
                "toString",
                "len",
                "toYaml",
                "toJson",
                "print",
                "upper",
                "default 1",
                "kindOf",
                "typeOf",
                "not",
                "first",
                "printf \"%v\"",
                "printf \"%q\"",
                "trunc 5",
                "nindent 2",
                "int",
                "float64",
                "list",
                "join \",\"",
                "b64enc",
                "empty",
                "squote",
                "toToml",
                "trim",
            ]);
            text = format!("{text} | {more}");
        }
        text
    }

    fn call(&mut self, of: Type, depth: usize) -> String {
        let Some(functions) = CALLS.get(of) else {
            return self.operand(of, depth);
        };
        let function = functions.choose(self.random).unwrap();
        let mut args: Vec<String> = Vec::new();
        for (of, repeats) in &function.parameters {
            let times = if *repeats {
                self.random.random_range(0..4)
            } else {
                1
            };
            for _ in 0..times {
                args.push(self.argument(of, depth));
            }
        }
        if self.chance(0.01) {
            args.pop();
        }
        let name = function.name;
        let mut call = match args.pop() {
            Some(last) if self.chance(0.4) => format!("{last} | {name} {}", args.join(" ")),
            Some(last) => {
                args.push(last);
                format!("{name} {}", args.join(" "))
            }
            None => name.to_owned(),
        };
        if !function.after.is_empty() {
            call = format!("{call} | {}", function.after);
        }
        call
    }

    fn argument(&mut self, of: Type, depth: usize) -> String {
        // Sizes stay small, maps that are changed their own; what is no time is now.
        let of = match of {
            "z" | "M" | "t" => of,
            _ if of.starts_with('"') => return of.to_owned(),
            _ if self.chance(0.04) => self.pick(TYPES),
            of => of,
        };
        self.operand(of, depth)
    }

    fn operand(&mut self, of: Type, depth: usize) -> String {
        if of == "a" && self.chance(0.6) {
            let of = self.pick(TYPES);
            return self.operand(if of == "a" { "s" } else { of }, depth);
        }
        if of == "s" && !self.root && self.chance(0.1) {
            return ".".to_owned();
        }
        let calls = CALLS.contains_key(of) && of != "t";
        if depth > 0 && calls && self.chance(0.35) {
            return format!("({})", self.call(of, depth - 1));
        }
        let atoms = &ATOMS[of];
        self.pick(atoms).to_owned()
    }
}
