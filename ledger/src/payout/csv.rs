//! A batch as CSV (RFC 4180), for banks and people without ISO 20022.

use super::Order;
use crate::statement::cell;

/// The batch as CSV, a row for each payout. Names that a spreadsheet would take for formulas are escaped.
///
/// # Errors
/// When a row cannot be written, which a vector never refuses.
pub fn csv(order: &Order) -> Result<Vec<u8>, ::csv::Error> {
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(["batch", "owner", "name", "iban", "amount", "currency", "end_to_end_id"])?;
    for payment in &order.payments {
        writer.write_record([
            order.batch.to_string(),
            cell(&payment.owner_name),
            cell(payment.payee.name()),
            payment.payee.iban.to_string(),
            payment.amount.fixed(order.currency.decimals()),
            order.currency.to_string(),
            order.end_to_end_id(payment),
        ])?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}
