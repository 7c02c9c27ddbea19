//! Reads what `show stat` prints: CSV with a header line, as HAProxy's management manual describes it in its section 9.1.
//!
//! Columns are found by name, because every version adds some. Rows may be shorter than the header, cells may be quoted (`""`
//! is a quote inside one), and what does not look like a table yields no rows; it never fails.

use std::collections::HashMap;

/// A table with named columns.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

/// One row of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    table: &'a Table,
    cells: &'a [String],
}

impl Table {
    /// Reads a table; `None` when `text` does not begin with a header (`# name,…`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = records(text.trim_start());
        let mut header = lines.next()?;
        let first = header.first_mut()?;
        *first = first.strip_prefix("# ")?.to_owned();
        let columns = header.into_iter().enumerate().map(|(i, name)| (name, i)).collect();
        Some(Self { columns, rows: lines.filter(|cells| cells.len() > 1).collect() })
    }

    /// Its rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { table: self, cells })
    }
}

impl<'a> Row<'a> {
    /// The cell in that column; empty when there is none.
    pub(super) fn text(self, column: &str) -> &'a str {
        let index = self.table.columns.get(column);
        index.and_then(|&i| self.cells.get(i)).map_or("", String::as_str)
    }

    /// The cell as a count; 0 when it is empty or not one.
    pub(super) fn count(self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or(0)
    }
}

/// Splits CSV text into records of cells.
fn records(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        chars.peek()?;
        let mut cells = Vec::new();
        let mut cell = String::new();
        let mut inside = false;
        while let Some(c) = chars.next() {
            match c {
                '"' if inside && chars.peek() == Some(&'"') => {
                    chars.next();
                    cell.push('"');
                }
                '"' => inside = !inside,
                ',' if !inside => cells.push(std::mem::take(&mut cell)),
                '\r' if !inside => {}
                '\n' if !inside => break,
                c => cell.push(c),
            }
        }
        cells.push(cell);
        Some(cells)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let table = Table::parse(
            "# pxname,svname,scur,last_chk,\napp,a-1,3,\"said \"\"no\"\",\nthen left\",\napp,b-2\n\nrubbish\n",
        )
        .unwrap();
        let rows: Vec<_> = table.rows().collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].text("svname"), "a-1");
        assert_eq!(rows[0].count("scur"), 3);
        assert_eq!(rows[0].text("last_chk"), "said \"no\",\nthen left");
        // Short rows and unknown columns are empty, not errors.
        assert_eq!((rows[1].count("scur"), rows[1].text("last_chk"), rows[1].text("nonsense")), (0, "", ""));
    }

    #[test]
    fn what_is_no_table_is_none() {
        for bad in ["", "\n", "Unknown command", "a,b\n1,2\n"] {
            assert!(Table::parse(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in "(# a,b,c\n)?[ -~\n\",]{0,200}") {
            if let Some(table) = Table::parse(&text) {
                for row in table.rows() {
                    let _ = (row.text("a"), row.count("b"));
                }
            }
        }
    }
}
