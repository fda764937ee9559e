//! Amounts of money as people read them. They stay exact decimal strings; nothing here is a float.

/// Digits after the point that tables show.
const PLACES_SHOWN: usize = 6;
/// Digits after the point that an amount may have.
const PLACES_MAX: usize = 12;

/// The amount with six places, the seventh rounded half away from zero. Text that is not a decimal
/// comes back as it is: better odd than hidden.
pub(crate) fn show(amount: &str) -> String {
    let Some(decimal) = Decimal::read(amount) else { return amount.to_owned() };
    let mut digits: Vec<u8> = decimal.whole.bytes().collect();
    let shown = decimal.fraction.bytes().chain(std::iter::repeat(b'0')).take(PLACES_SHOWN);
    digits.extend(shown);
    if decimal.fraction.as_bytes().get(PLACES_SHOWN).is_some_and(|digit| *digit >= b'5') {
        add_one(&mut digits);
    }
    let point = digits.len() - PLACES_SHOWN;
    let sign = if decimal.negative && digits.iter().any(|digit| *digit != b'0') { "-" } else { "" };
    let text = |digits: &[u8]| digits.iter().map(|digit| char::from(*digit)).collect::<String>();
    format!("{sign}{}.{}", text(&digits[..point]), text(&digits[point..]))
}

/// The same with its currency.
pub(crate) fn money(amount: &str, currency: &str) -> String {
    format!("{} {}", show(amount), super::human::plain(currency)).trim_end().to_owned()
}

/// Whether the amount is exactly zero; text that is not a decimal is not.
pub(crate) fn is_zero(amount: &str) -> bool {
    Decimal::read(amount).is_some_and(|decimal| {
        decimal.whole.bytes().chain(decimal.fraction.bytes()).all(|digit| digit == b'0')
    })
}

/// Takes an amount from a command line.
///
/// # Errors
/// When it is not a plain decimal of at most twelve places, with the remedy.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    match Decimal::read(text) {
        Some(decimal) if decimal.negative => Err("an amount cannot be negative".to_owned()),
        Some(decimal) if decimal.fraction.len() > PLACES_MAX => {
            Err(format!("an amount has at most {PLACES_MAX} digits after the point"))
        }
        Some(_) => Ok(text.to_owned()),
        None => Err("write an exact decimal such as 12.50".to_owned()),
    }
}

struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(magnitude) => (true, magnitude),
            None => (false, text),
        };
        let (whole, fraction) = match magnitude.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (magnitude, ""),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (!whole.is_empty() && is_digits(whole) && is_digits(fraction)).then_some(Self {
            negative,
            whole,
            fraction,
        })
    }
}

/// Adds one to the last digit of an ASCII number.
fn add_one(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_places_are_shown() {
        let check = |amount: &str, expected: &str| assert_eq!(show(amount), expected, "{amount}");
        check("0", "0.000000");
        check("12", "12.000000");
        check("12.5", "12.500000");
        check("0.1234565", "0.123457");
        check("0.1234564999", "0.123456");
        check("0.9999995", "1.000000");
        check("99.999999999999", "100.000000");
        check("-0.0000005", "-0.000001");
        check("-0.0000004", "0.000000");
        check("-1203.5", "-1203.500000");
        check("123456789012345678901234567890.1", "123456789012345678901234567890.100000");
        check("", "");
        check("1e3", "1e3");
        check("1.", "1.");
    }

    #[test]
    fn money_says_what_it_is_in() {
        assert_eq!(money("12.5", "EUR"), "12.500000 EUR");
        assert_eq!(money("-0.0000005", "CREDIT"), "-0.000001 CREDIT");
        assert_eq!(money("1", ""), "1.000000");
    }

    #[test]
    fn zero_is_exact() {
        let check = |amount: &str, expected: bool| assert_eq!(is_zero(amount), expected, "{amount}");
        check("0", true);
        check("-0.000000000000", true);
        check("0.000000000001", false);
        check("", false);
        check("nothing", false);
    }

    #[test]
    fn amounts_of_a_command_line() {
        let check = |text: &str, fits: bool| assert_eq!(parse(text).is_ok(), fits, "{text}");
        check("100", true);
        check("0.000000000001", true);
        check("0.0000000000001", false);
        check("-1", false);
        check("1,5", false);
        check(".5", false);
        check("ten", false);
    }
}
