//! Printing results: aligned tables, byte counts, JSON.

use serde_json::Value;
use std::io::{self, Write};

/// Which columns of a table are numbers, and so flush right.
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; those that start with `>` head flush-right columns.
    pub fn new(headings: &[&str]) -> Table {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let first = headings.iter().map(|heading| heading.trim_start_matches('>').to_string()).collect();
        Table { right, rows: vec![first] }
    }

    /// Adds a row with as many cells as there are headings.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| line(&cell)).collect());
    }

    /// Prints it, two spaces between columns.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let space = " ".repeat(width - cell.chars().count());
                line += &if right { format!("{space}{cell}  ") } else { format!("{cell}{space}  ") };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text from a file, such as a name, that must stay on its line and must not drive the terminal.
pub fn line(text: &str) -> String {
    escaped(text, char::is_control)
}

/// As [`line`](fn@line), for text that may have several lines.
pub fn plain(text: &str) -> String {
    escaped(text, |c| c.is_control() && c != '\n')
}

fn escaped(text: &str, odd: impl Fn(char) -> bool) -> String {
    text.chars().map(|c| if odd(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Bytes for people: `12.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Seconds for people: `1.23 ms`.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 1e-6 => format!("{:.1} ns", v * 1e9),
        v if v < 1e-3 => format!("{:.2} us", v * 1e6),
        v if v < 1.0 => format!("{:.2} ms", v * 1e3),
        v => format!("{v:.2} s"),
    }
}

/// Prints one JSON value on lines of its own.
pub fn json(out: &mut dyn Write, value: &Value) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_units_are_chosen() {
        let mut table = Table::new(&["name", ">bytes"]);
        table.row(["a".into(), "10".into()]);
        table.row(["lo\x1b\n".into(), "9".into()]);
        let mut text = vec![];
        table.print(&mut text).expect("a vector takes all bytes");
        assert_eq!(
            String::from_utf8(text).expect("the text is UTF-8"),
            "name        bytes\na              10\nlo\\u{1b}\\n      9\n"
        );
        assert_eq!([plain("a\n\tb"), line("a\n")], ["a\n\\tb", "a\\n"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(3 << 30)], ["1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([seconds(2.5e-7), seconds(0.0015)], ["250.0 ns", "1.50 ms"]);
    }
}
