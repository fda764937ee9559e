//! Names and ids as people type them.

use std::ops::Range;

/// `12` or `jobs/12`, as `jobs/12`.
///
/// # Errors
/// When it is neither.
pub(crate) fn job(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("jobs/").unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("jobs/{number}")).ok_or_else(|| "a job is named jobs/12 or 12".to_owned())
}

/// `alice` or `submitters/alice`, as `submitters/alice`.
///
/// # Errors
/// When it names something else.
pub(crate) fn submitter(text: &str) -> Result<String, String> {
    resource("submitters", text)
}

/// `bob` or `owners/bob`, as `owners/bob`.
///
/// # Errors
/// When it names something else.
pub(crate) fn owner(text: &str) -> Result<String, String> {
    resource("owners", text)
}

/// `alice` or `operators/alice`, as `operators/alice`.
///
/// # Errors
/// When it names something else.
pub(crate) fn operator(text: &str) -> Result<String, String> {
    resource("operators", text)
}

/// `clinic`, `submitters/clinic` or `owners/bob`: a name alone is a submitter's.
///
/// # Errors
/// When it names something else.
pub(crate) fn holder(text: &str) -> Result<String, String> {
    if text.starts_with("owners/") { owner(text) } else { submitter(text) }
}

/// `JPY`: whether the grid has it, it knows itself.
///
/// # Errors
/// When it cannot be a code.
pub(crate) fn currency(text: &str) -> Result<String, String> {
    let fits = (3..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase());
    fits.then(|| text.to_owned()).ok_or_else(|| {
        "a currency is a code of ISO 4217 such as EUR, or one of the grid's own in 4 to 12 capital letters".to_owned()
    })
}

/// The same; empty is the grid's default.
///
/// # Errors
/// When it cannot be a code.
pub(crate) fn optional_currency(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { currency(text) }
}

/// `7` or `devices/7`, as `devices/7`.
///
/// # Errors
/// When it is neither.
pub(crate) fn device(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("devices/").unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| format!("devices/{number}"))
        .ok_or_else(|| "a device is named devices/7 or 7".to_owned())
}

/// `3` or `payouts/3`, as `payouts/3`.
///
/// # Errors
/// When it is neither.
pub(crate) fn batch(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("payouts/").unwrap_or(text);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("payouts/{number}")).ok_or_else(|| "a batch is named payouts/3 or 3".to_owned())
}

fn resource(collection: &str, text: &str) -> Result<String, String> {
    let id = text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text);
    if id.is_empty() || id.contains('/') {
        Err(format!("write NAME or {collection}/NAME"))
    } else {
        Ok(format!("{collection}/{id}"))
    }
}

/// `A..B`: the integers from A, without B. Digits may be grouped by `_`.
///
/// # Errors
/// When it is not a range, or is empty.
pub(crate) fn items(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().ok();
    let range = text.split_once("..").and_then(|(start, end)| Some(number(start)?..number(end)?));
    match range {
        None => Err("write A..B, the integers from A without B, such as 0..10_000".to_owned()),
        Some(range) if range.is_empty() => Err("the range is empty: its end must be greater".to_owned()),
        Some(range) => Ok(range),
    }
}

/// A UUID in its usual form, for a request that may be repeated.
///
/// # Errors
/// When it is not one.
pub(crate) fn request_id(text: &str) -> Result<String, String> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_hex && lengths == [8, 4, 4, 4, 12] {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("write a UUID such as 0b8e6ae2-93a4-4ea4-8a31-7b0a4ef1d2c3".to_owned())
    }
}

/// A fresh random UUID (RFC 9562, version 4).
pub(crate) fn random_request_id() -> String {
    uuid_v4(rand::random())
}

fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_other_resources() {
        let check = |given: Result<String, String>, expected: Option<&str>| {
            assert_eq!(given.ok().as_deref(), expected);
        };
        check(job("12"), Some("jobs/12"));
        check(job("jobs/12"), Some("jobs/12"));
        check(job("jobs/"), None);
        check(job("job 12"), None);
        check(job("-1"), None);
        check(submitter("alice"), Some("submitters/alice"));
        check(submitter("submitters/alice"), Some("submitters/alice"));
        check(submitter("owners/alice"), None);
        check(owner("owners/bob"), Some("owners/bob"));
        check(owner(""), None);
        check(holder("clinic"), Some("submitters/clinic"));
        check(holder("owners/bob"), Some("owners/bob"));
        check(holder("owners/"), None);
        check(batch("3"), Some("payouts/3"));
        check(batch("payouts/3"), Some("payouts/3"));
        check(batch("jobs/3"), None);
    }

    #[test]
    fn ranges() {
        let check =
            |text: &str, expected: Option<Range<u64>>| assert_eq!(items(text).ok(), expected, "{text}");
        check("0..10", Some(0..10));
        check("5_000..10_000", Some(5_000..10_000));
        check(" 1 .. 2 ", Some(1..2));
        check("10", None);
        check("1..", None);
        check("..5", None);
        check("5..5", None);
        check("9..5", None);
        check("-1..5", None);
        check("0..=5", None);
        check("0..18446744073709551616", None);
    }

    #[test]
    fn request_ids() {
        assert_eq!(uuid_v4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_v4([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert!(request_id(&random_request_id()).is_ok());
        assert!(request_id("12").is_err());
        assert!(request_id("ffffffff-ffff-4fff-bfff-fffffffffffg").is_err());
    }
}
