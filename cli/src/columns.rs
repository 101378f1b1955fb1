//! Text in columns: cells of a table, and tab-separated text as `describe` writes it. Pure.

/// Pads the cells of rows so that columns line up. Widths only grow, so that rows printed later
/// line up with earlier ones as long as their cells fit.
#[derive(Default, Debug)]
pub(crate) struct Columns {
    widths: Vec<usize>,
}

/// Between two columns.
const GAP: usize = 3;
/// The least width of a column, with its gap.
const LEAST: usize = 6;

impl Columns {
    /// The rows as text, one line each.
    pub(crate) fn format(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            // The last cell of a row is followed by nothing, so its length does not matter.
            for (index, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
                if self.widths.len() <= index {
                    self.widths.push(0);
                }
                let width = (cell.chars().count() + GAP).max(LEAST);
                self.widths[index] = self.widths[index].max(width);
            }
        }
        let mut text = String::new();
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if index + 1 < row.len() {
                    let width = self.widths.get(index).copied().unwrap_or_default();
                    pad(&mut text, width.saturating_sub(cell.chars().count()));
                }
            }
            text.push('\n');
        }
        text
    }
}

fn pad(text: &mut String, spaces: usize) {
    text.extend(std::iter::repeat_n(' ', spaces));
}

/// Lines up the tab-ended cells of neighbouring lines, two spaces apart: a column is as wide as the
/// widest cell of the lines above and below that have one in that place too.
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut out = String::new();
    for (index, cells) in lines.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < cells.len() {
                let width = block_width(&lines, index, column) + 2;
                pad(&mut out, width - cell.chars().count());
            }
        }
        out.push('\n');
    }
    out
}

/// The widest tab-ended cell of `column` in the run of lines around `index` that have one.
fn block_width(lines: &[Vec<&str>], index: usize, column: usize) -> usize {
    let has = |line: &&Vec<&str>| line.len() > column + 1;
    let above = lines[..index].iter().rev().take_while(has);
    let below = lines[index..].iter().take_while(has);
    above
        .chain(below)
        .map(|line| line[column].chars().count())
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(columns: &mut Columns, text: &str, expected: Expect) {
        let rows: Vec<Vec<String>> = text
            .lines()
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .collect();
        expected.assert_eq(&columns.format(&rows));
    }

    #[test]
    fn columns_are_three_spaces_apart_and_later_rows_line_up() {
        let mut columns = Columns::default();
        check(
            &mut columns,
            "NAME READY AGE\nhello-1 1/1 5s",
            expect![[r#"
                NAME      READY   AGE
                hello-1   1/1     5s
            "#]],
        );
        check(
            &mut columns,
            "a 0/1 1s",
            expect![[r#"
                a         0/1     1s
            "#]],
        );
    }

    #[test]
    fn a_column_lines_up_with_its_neighbours_only() {
        expect![[r#"
            Name:       a
            Namespace:  b
            Labels:     c=d
                        e=f
            Containers:
              x:
                Image:  i
        "#]]
        .assert_eq(&align(
            "Name:\ta\nNamespace:\tb\nLabels:\tc=d\n\te=f\nContainers:\n  x:\n    Image:\ti\n",
        ));
    }
}
