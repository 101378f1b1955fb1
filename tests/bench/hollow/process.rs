//! What the server's process takes, from `/proc`.

/// Clock ticks a second in `/proc`.
const TICKS: f64 = 100.0;

/// A process by its number.
#[derive(Clone, Copy)]
pub(super) struct Process(pub(super) usize);

impl Process {
    /// Resident memory in MiB, and the most it has been.
    pub(super) fn memory(self) -> (f64, f64) {
        let text = self.read("status");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            let kib: f64 = number
                .and_then(|number| number.parse().ok())
                .expect("a number");
            kib / 1024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// CPU seconds that it has used.
    pub(super) fn cpu_seconds(self) -> f64 {
        let text = self.read("stat");
        let (_, rest) = text.rsplit_once(") ").expect("the name is in parentheses");
        let fields = rest.split_whitespace().skip(11).take(2);
        let ticks = fields.map(|field| field.parse::<f64>().expect("user and system time"));
        ticks.sum::<f64>() / TICKS
    }

    fn read(self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("the process runs")
    }
}
