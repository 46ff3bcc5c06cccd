//! Tables for people: columns as wide as their widest cell. Knows nothing about
//! what the cells mean.

/// Spaces between two columns.
const GAP: usize = 2;
/// A cell is not cut to less than this.
const NARROWEST: usize = 8;

/// A table with a line of headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new<const COLUMNS: usize>(headings: [&str; COLUMNS]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| printable(&cell)).to_vec());
    }

    /// Makes lines fit into `limit` columns: cuts the cells under the headings
    /// `cut`, the first of them first, and where that is not enough leaves out
    /// the columns `left_out`, one after the other.
    pub(crate) fn fit(&mut self, limit: usize, cut: &[&str], left_out: &[&str]) {
        let mut left_out = left_out.iter();
        loop {
            let widths = self.widths();
            let needed = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let columns: Vec<_> = cut.iter().filter_map(|heading| self.column(heading)).collect();
            let spare = |&column: &usize| widths[column].saturating_sub(NARROWEST);
            let mut excess = needed.saturating_sub(limit);
            if excess > columns.iter().map(spare).sum()
                && let Some(heading) = left_out.next()
            {
                self.leave_out(heading);
                continue;
            }
            for column in columns {
                let less = spare(&column).min(excess);
                excess -= less;
                if less > 0 {
                    self.cut(column, widths[column] - less);
                }
            }
            return;
        }
    }

    fn column(&self, heading: &str) -> Option<usize> {
        self.rows.first()?.iter().position(|cell| cell == heading)
    }

    fn leave_out(&mut self, heading: &str) {
        if let Some(column) = self.column(heading) {
            for row in &mut self.rows {
                row.remove(column);
            }
        }
    }

    fn cut(&mut self, column: usize, width: usize) {
        for row in &mut self.rows {
            row[column] = shorten(&row[column], width);
        }
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    /// The table as lines. `paint` may add escape sequences around a cell; it
    /// gets the column and the cell.
    pub(crate) fn render(&self, paint: impl Fn(usize, &str) -> Option<&'static str>) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let colour = if number == 0 { None } else { paint(column, cell) };
                match colour {
                    Some(colour) => text.push_str(&format!("{colour}{cell}\x1b[0m")),
                    None => text.push_str(cell),
                }
                if column + 1 < row.len() {
                    let gap = widths[column] - cell.chars().count() + GAP;
                    text.push_str(&" ".repeat(gap));
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

/// `text` without anything that could move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` cut to `limit` characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ID", "STATE"]);
        table.row(["long-id".to_owned(), "ok".to_owned()]);
        assert_eq!(table.render(|_, _| None), "ID       STATE\nlong-id  ok\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_first_and_leaves_out_last() {
        let fitted = |limit| {
            let mut table = Table::new(["ID", "NAME", "PROJECT"]);
            table.row(["1".to_owned(), "n".repeat(20), "default".to_owned()]);
            table.fit(limit, &["NAME"], &["PROJECT"]);
            table.render(|_, _| None).lines().last().unwrap().to_owned()
        };
        let name = "n".repeat(20);
        assert_eq!(fitted(33), format!("1   {name}  default"));
        assert_eq!(fitted(32), format!("1   {}…  default", "n".repeat(18)));
        assert_eq!(fitted(21), "1   nnnnnnn…  default");
        assert_eq!(fitted(20), format!("1   {}…", "n".repeat(15)));
        assert_eq!(fitted(5), "1   nnnnnnn…");
    }

    #[test]
    fn colour_changes_no_width_and_headings_stay_plain() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x".to_owned(), "y".to_owned()]);
        let text = table.render(|column, _| (column == 0).then_some("\x1b[31m"));
        assert_eq!(text, "A  B\n\x1b[31mx\x1b[0m  y\n");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::new(["A"]);
        table.row(["a\x1b[2Jb\n".to_owned()]);
        assert!(!table.render(|_, _| None).contains('\x1b'));
    }

    #[test]
    fn long_names_are_cut_visibly() {
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
