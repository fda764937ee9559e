//! A batch as ISO 20022 `pain.001.001.09` (CustomerCreditTransferInitiationV09), as the EPC's guidelines for SEPA
//! credit transfers between customers and banks (EPC132-08) narrow it down. Orders in other currencies than the euro are the
//! same without the service level of SEPA.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::{Order, Payment};
use crate::{Amount, Currency};

const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09";

type Xml = Writer<Vec<u8>>;

/// A batch that cannot be such a message.
#[derive(Debug, thiserror::Error)]
pub enum PainError {
    /// Banks know the currencies of ISO 4217 alone.
    #[error("{0} is no currency that a bank knows: export the batch as csv")]
    Currency(Currency),
    /// The text cannot be written, which a vector never refuses.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// The batch as one message with one payment information block. The same batch gives the same bytes.
///
/// # Errors
/// When it is in a currency of the grid's own.
pub fn pain(order: &Order) -> Result<Vec<u8>, PainError> {
    if !order.currency.is_iso() {
        return Err(PainError::Currency(order.currency));
    }
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    xml.create_element("Document").with_attribute(("xmlns", NAMESPACE)).write_inner_content(|xml| {
        within(xml, "CstmrCdtTrfInitn", |xml| {
            within(xml, "GrpHdr", |xml| group_header(xml, order))?;
            within(xml, "PmtInf", |xml| payment_information(xml, order))
        })
    })?;
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn group_header(xml: &mut Xml, order: &Order) -> io::Result<()> {
    leaf(xml, "MsgId", &order.message_id())?;
    leaf(xml, "CreDtTm", &order.exported_at.format("%Y-%m-%dT%H:%M:%SZ").to_string())?;
    totals(xml, order)?;
    within(xml, "InitgPty", |xml| leaf(xml, "Nm", order.payer.name()))
}

fn totals(xml: &mut Xml, order: &Order) -> io::Result<()> {
    leaf(xml, "NbOfTxs", &order.payments.len().to_string())?;
    leaf(xml, "CtrlSum", &money(order, order.sum()))
}

fn payment_information(xml: &mut Xml, order: &Order) -> io::Result<()> {
    leaf(xml, "PmtInfId", &order.message_id())?;
    leaf(xml, "PmtMtd", "TRF")?;
    totals(xml, order)?;
    let is_sepa = order.currency == Currency::EUR;
    if is_sepa {
        within(xml, "PmtTpInf", |xml| within(xml, "SvcLvl", |xml| leaf(xml, "Cd", "SEPA")))?;
    }
    let day = order.exported_at.format("%Y-%m-%d").to_string();
    within(xml, "ReqdExctnDt", |xml| leaf(xml, "Dt", &day))?;
    within(xml, "Dbtr", |xml| leaf(xml, "Nm", order.payer.name()))?;
    account(xml, "DbtrAcct", order.payer.iban.as_str())?;
    within(xml, "DbtrAgt", |xml| {
        within(xml, "FinInstnId", |xml| match &order.payer_bic {
            Some(bic) => leaf(xml, "BICFI", bic.as_str()),
            // The bank is known by the IBAN; the element is not optional.
            None => within(xml, "Othr", |xml| leaf(xml, "Id", "NOTPROVIDED")),
        })
    })?;
    leaf(xml, "ChrgBr", if is_sepa { "SLEV" } else { "SHAR" })?;
    for payment in &order.payments {
        within(xml, "CdtTrfTxInf", |xml| transaction(xml, order, payment))?;
    }
    Ok(())
}

fn transaction(xml: &mut Xml, order: &Order, payment: &Payment) -> io::Result<()> {
    within(xml, "PmtId", |xml| leaf(xml, "EndToEndId", &order.end_to_end_id(payment)))?;
    within(xml, "Amt", |xml| {
        let amount = money(order, payment.amount);
        let element = xml.create_element("InstdAmt").with_attribute(("Ccy", order.currency.code()));
        element.write_text_content(BytesText::new(&amount)).map(drop)
    })?;
    within(xml, "Cdtr", |xml| leaf(xml, "Nm", payment.payee.name()))?;
    account(xml, "CdtrAcct", payment.payee.iban.as_str())?;
    // The owner's name is 63 characters at most: together fewer than the 140 allowed.
    let about = format!("Lull payout {} to {}", order.batch, payment.owner_name);
    within(xml, "RmtInf", |xml| leaf(xml, "Ustrd", &about))
}

fn account(xml: &mut Xml, name: &str, iban: &str) -> io::Result<()> {
    within(xml, name, |xml| within(xml, "Id", |xml| leaf(xml, "IBAN", iban)))
}

fn money(order: &Order, amount: Amount) -> String {
    amount.fixed(order.currency.decimals())
}

fn leaf(xml: &mut Xml, name: &str, text: &str) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(text)).map(drop)
}

fn within(xml: &mut Xml, name: &str, inner: impl FnOnce(&mut Xml) -> io::Result<()>) -> io::Result<()> {
    xml.create_element(name).write_inner_content(inner).map(drop)
}
