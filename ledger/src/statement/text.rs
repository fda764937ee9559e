//! A statement for a terminal or a printer.

use std::fmt::Write as _;

use super::rows::about;
use super::{PLACES_SHOWN, Statement, sections};

/// Columns that amounts take.
const AMOUNT_WIDTH: usize = 20;

/// The statement as text: each account with its opening, its lines by category, and its closing, to six places.
#[must_use]
pub fn text(statement: &Statement) -> String {
    let mut text =
        format!("Statement of {} for {} (UTC)\n{}\n", statement.holder, statement.month, state_of(statement));
    let width = AMOUNT_WIDTH;
    for section in sections(statement) {
        let account = section.account;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{}, in {}", account.account.name(), account.currency);
        let _ = writeln!(text, "{:>width$}  opening", account.opening.fixed(PLACES_SHOWN));
        for part in section.parts {
            let (code, count) = (part.code.name(), part.rows.len());
            let plural = if count == 1 { "" } else { "s" };
            let _ =
                writeln!(text, "{:>width$}  {code}, {count} line{plural}", part.shown.fixed(PLACES_SHOWN));
            for row in part.rows {
                let time = row.line.time.format("%Y-%m-%d %H:%M:%S");
                let shown = row.shown.fixed(PLACES_SHOWN);
                let _ = writeln!(text, "    {shown:>width$}  {time}  {}", about(row.line));
            }
        }
        let _ = writeln!(text, "{:>width$}  closing", account.closing.fixed(PLACES_SHOWN));
    }
    text
}

/// Whether more can come.
pub(super) fn state_of(statement: &Statement) -> String {
    let drawn = statement.as_of.format("%Y-%m-%d %H:%M:%S");
    if statement.is_final {
        format!("Final; drawn up {drawn} UTC.")
    } else {
        format!("Not final: the month is not over. Drawn up {drawn} UTC.")
    }
}
