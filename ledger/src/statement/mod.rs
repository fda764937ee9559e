//! What moved on an owner's or a submitter's accounts in a month, and how it is written down.
//!
//! - [`Statement`]: the values, and whether they add up; [`Row`]: a line with the balance after it;
//! - [`text`](fn@text), [`html`](fn@html): for people, six places; [`csv`](fn@csv), [`json`](fn@json), [`journal`](fn@journal): for programs, exact.
//!
//! Nothing here asks a database or reads a clock.

mod csv;
mod html;
mod journal;
mod json;
mod month;
mod rows;
mod text;
mod values;

pub use self::csv::{cell, csv};
pub use self::html::html;
pub use self::journal::journal;
pub use self::json::json;
pub use self::month::{Month, MonthError};
pub use self::rows::{PLACES_SHOWN, Row, Section, SectionPart, rows, sections};
pub use self::text::text;
pub use self::values::{AccountLines, Holder, Line, Statement, StatementError, UnitOf};

#[cfg(test)]
mod tests;
