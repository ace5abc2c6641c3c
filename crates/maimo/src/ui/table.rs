//! Columns of text, as wide as they need to be.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// On which side a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table of these columns.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row: one cell a column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Writes headings and rows; nothing without rows.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let headings: Vec<String> = self.columns.iter().map(|c| c.0.to_owned()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().chain([&headings]);
                let widths = cells.filter_map(|row| row.get(column));
                widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in [&headings].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                // Writing to a string cannot fail.
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right)]);
        table.row(["a".to_owned(), "1 B".to_owned()]);
        table.row(["longer".to_owned(), "1000 B".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "name      size\na          1 B\nlonger  1000 B\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
