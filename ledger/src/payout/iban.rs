//! IBANs (ISO 13616) of countries in the Single Euro Payments Area.

use std::fmt;
use std::str::FromStr;

/// An IBAN whose country takes part in SEPA, with that country's length and right check digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iban(String);

/// Text that is no such IBAN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IbanError {
    /// Not two letters, two digits, then letters and digits.
    #[error(
        "`{0}` is not an IBAN: it begins with a country such as DE, then two digits, then letters and digits"
    )]
    Form(String),
    /// A country that cannot be paid.
    #[error("`{0}` is not a country that SEPA credit transfers go to")]
    Country(String),
    /// Too short or too long.
    #[error("an IBAN of {country} has {expected} characters, this one {found}")]
    Length {
        /// The country.
        country: String,
        /// As its registry says.
        expected: usize,
        /// As it was given.
        found: usize,
    },
    /// The check digits (ISO 7064, modulo 97) are wrong.
    #[error("the check digits of `{0}` are wrong: a character is mistyped")]
    Check(String),
}

/// Lengths by country: the SWIFT IBAN registry, for the countries and territories in the EPC's list of the SEPA
/// schemes' scope that have codes of their own.
const LENGTHS: [(&str, usize); 42] = [
    ("AD", 24),
    ("AL", 28),
    ("AT", 20),
    ("BE", 16),
    ("BG", 22),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GI", 23),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IS", 26),
    ("IT", 27),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("RS", 22),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("VA", 22),
];

impl Iban {
    /// Without blanks, in capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Iban {
    type Err = IbanError;

    /// Blanks are left out and small letters made large, as people write them.
    fn from_str(text: &str) -> Result<Self, IbanError> {
        let iban: String = text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_uppercase()).collect();
        let bytes = iban.as_bytes();
        let has_form = bytes.len() > 4
            && bytes[..2].iter().all(u8::is_ascii_uppercase)
            && bytes[2..4].iter().all(u8::is_ascii_digit)
            && bytes.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !has_form {
            return Err(IbanError::Form(text.to_owned()));
        }
        let country = &iban[..2];
        let Some((_, expected)) = LENGTHS.into_iter().find(|(code, _)| *code == country) else {
            return Err(IbanError::Country(country.to_owned()));
        };
        if iban.len() != expected {
            return Err(IbanError::Length { country: country.to_owned(), expected, found: iban.len() });
        }
        // ISO 7064 MOD 97-10: the first four characters go last, letters count from 10 to 35.
        let remainder = bytes[4..].iter().chain(&bytes[..4]).fold(0u32, |remainder, byte| match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
        });
        // Check digits are 02 to 98: others could pass for the same number.
        let is_canonical = (b"02"..=b"98").contains(&&[bytes[2], bytes[3]]);
        if remainder == 1 && is_canonical { Ok(Self(iban)) } else { Err(IbanError::Check(text.to_owned())) }
    }
}

impl fmt::Display for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
