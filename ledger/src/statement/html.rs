//! A statement as a page to print: one file, no scripts, nothing loaded from anywhere.

use std::fmt::Write as _;

use quick_xml::escape::escape;

use super::rows::about;
use super::text::state_of;
use super::{PLACES_SHOWN, Section, Statement, sections};
use crate::Amount;

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}\
    table{border-collapse:collapse;width:100%;margin:0 0 2em}th,td{text-align:left;padding:.15em .5em}\
    .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
    tr.c th{border-top:1px solid #999}tr.e th{border-top:2px solid #000}thead{display:table-header-group}\
    tr{break-inside:avoid}@media print{body{margin:0;font-size:10px}}";

/// The statement as HTML: a summary with the exact figures, then each account's lines by category, to six places.
#[must_use]
pub fn html(statement: &Statement) -> String {
    let title = format!("Statement of {} for {}", statement.holder, statement.month);
    let title = escape(title.as_str());
    let sections = sections(statement);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body>\n\
         <h1>{title}</h1>\n<p>Months and times are in UTC. {}</p>\n",
        escape(state_of(statement).as_str())
    );
    summary(&mut page, &sections);
    for section in &sections {
        account(&mut page, section);
    }
    page.push_str("</body></html>\n");
    page
}

fn shown(amount: Amount) -> String {
    amount.fixed(PLACES_SHOWN)
}

fn summary(page: &mut String, sections: &[Section<'_>]) {
    page.push_str(
        "<table><thead><tr><th>account</th><th>currency</th><th class=\"n\">opening</th><th class=\"n\">lines</th>\
         <th class=\"n\">closing</th><th class=\"n\">lines, exact</th><th class=\"n\">closing, exact</th></tr></thead>\n<tbody>\n",
    );
    for Section { account, parts } in sections {
        let lines: Amount = parts.iter().map(|part| part.shown).sum();
        let exact = account.closing - account.opening;
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "<tr><th>{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n exact\">{}</td><td class=\"n exact\">{}</td></tr>",
            account.account.name(),
            account.currency,
            shown(account.opening),
            shown(lines),
            shown(account.closing),
            exact.fixed(Amount::PLACES),
            account.closing.fixed(Amount::PLACES)
        );
    }
    page.push_str("</tbody></table>\n");
}

fn account(page: &mut String, section: &Section<'_>) {
    let Section { account, parts } = section;
    let edge = |page: &mut String, word: &str, amount: Amount| {
        let _ = writeln!(
            page,
            "<tr class=\"e\"><th colspan=\"2\">{word}</th><th class=\"n\">{}</th></tr>",
            shown(amount)
        );
    };
    let _ = writeln!(page, "<h2>{}, in {}</h2>\n<table><tbody>", account.account.name(), account.currency);
    edge(page, "opening", account.opening);
    for part in parts {
        let (code, count) = (part.code.name(), part.rows.len());
        let sum = shown(part.shown);
        let _ = writeln!(
            page,
            "<tr class=\"c\"><th colspan=\"2\">{code}, lines: {count}</th><th class=\"n\">{sum}</th></tr>"
        );
        for row in &part.rows {
            let time = row.line.time.format("%Y-%m-%d %H:%M:%S");
            let about = about(row.line);
            let _ = writeln!(
                page,
                "<tr class=\"l\"><td>{time}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                escape(about.as_str()),
                shown(row.shown)
            );
        }
    }
    edge(page, "closing", account.closing);
    page.push_str("</tbody></table>\n");
}
