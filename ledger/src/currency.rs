//! Currencies: what an account is in.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use crate::Amount;

/// A currency by its number in one grid: accounts carry it. 0 is the grid's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurrencyId(i16);

impl CurrencyId {
    /// The grid's default.
    pub const DEFAULT: Self = Self(0);

    /// The currency of this number, which is not negative.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        if number < 0 { None } else { Some(Self(number)) }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0
    }
}

/// A currency: its code, and how many decimals can be paid in it.
///
/// A code of three letters is one of ISO 4217, with the decimals that the standard says. A grid's own has four letters
/// or more, so that neither is taken for the other, now or in a later edition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    /// Filled up with zeros.
    code: [u8; Self::CODE_CHARS_MAX],
    decimals: u8,
}

/// No currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// Not capital letters, or too few or too many.
    #[error(
        "`{0}` is not a currency: write a code of ISO 4217 such as EUR, or one of your own in 4 to {max} capital letters such as CREDIT",
        max = Currency::CODE_CHARS_MAX
    )]
    Form(String),
    /// Three letters that ISO 4217 does not have.
    #[error("`{0}` is not in ISO 4217; a code of your own has 4 to {max} capital letters", max = Currency::CODE_CHARS_MAX)]
    Unknown(String),
    /// Of a grid's own, the decimals have to be said.
    #[error("`{0}` is not in ISO 4217: say how many decimals it has, 0 to {max}", max = Currency::DECIMALS_MAX)]
    NoDecimals(String),
    /// More decimals than are shown.
    #[error("a currency has 0 to {max} decimals, not {0}", max = Currency::DECIMALS_MAX)]
    Decimals(u32),
    /// Other decimals than ISO 4217 says.
    #[error("{code} has {decimals} decimals by ISO 4217: leave them out")]
    OtherDecimals {
        /// The currency.
        code: String,
        /// By the standard.
        decimals: u32,
    },
}

impl Currency {
    /// Letters of a code.
    pub const CODE_CHARS_MAX: usize = 12;
    /// Decimals: statements show as many, so that what can be paid is always shown whole.
    pub const DECIMALS_MAX: u32 = crate::statement::PLACES_SHOWN;

    /// The euro.
    pub const EUR: Self = Self { code: *b"EUR\0\0\0\0\0\0\0\0\0", decimals: 2 };

    /// The currency of this code. Decimals are needed where ISO 4217 does not say them.
    ///
    /// # Errors
    /// When the code is none, or has other decimals.
    pub fn new(code: &str, decimals: Option<u32>) -> Result<Self, CurrencyError> {
        let letters = code.bytes().all(|byte| byte.is_ascii_uppercase());
        if !letters || code.len() < ISO_CHARS || code.len() > Self::CODE_CHARS_MAX {
            return Err(CurrencyError::Form(code.to_owned()));
        }
        let decimals = match (iso_decimals(code), decimals) {
            (Some(known), None) => known,
            (Some(known), Some(said)) if known == said => known,
            (Some(decimals), Some(_)) => {
                return Err(CurrencyError::OtherDecimals { code: code.to_owned(), decimals });
            }
            (None, _) if code.len() == ISO_CHARS => return Err(CurrencyError::Unknown(code.to_owned())),
            (None, None) => return Err(CurrencyError::NoDecimals(code.to_owned())),
            (None, Some(said)) if said > Self::DECIMALS_MAX => return Err(CurrencyError::Decimals(said)),
            (None, Some(said)) => said,
        };
        let mut letters = [0; Self::CODE_CHARS_MAX];
        letters[..code.len()].copy_from_slice(code.as_bytes());
        Ok(Self { code: letters, decimals: u8::try_from(decimals).unwrap_or(u8::MAX) })
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        let length = self.code.iter().position(|byte| *byte == 0).unwrap_or(self.code.len());
        std::str::from_utf8(&self.code[..length]).unwrap_or_default()
    }

    /// Decimal places that can be paid in it.
    #[must_use]
    pub const fn decimals(self) -> u32 {
        self.decimals as u32
    }

    /// Whether banks know it.
    #[must_use]
    pub fn is_iso(self) -> bool {
        self.code().len() == ISO_CHARS
    }

    /// The smallest amount that can be paid in it.
    #[must_use]
    pub const fn smallest(self) -> Amount {
        Amount::of_parts(Decimal::from_parts(1, 0, 0, false, self.decimals()))
    }

    /// What of an amount can be paid in it: the one rule of rounding, towards zero. What is cut off stays its owner's.
    #[must_use]
    pub fn payable(self, amount: Amount) -> Amount {
        amount.cut(self.decimals())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.code(), self.decimals)
    }
}

/// `EUR`, or `CREDIT=2` for one of a grid's own.
impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        match text.split_once('=') {
            None => Self::new(text, None),
            Some((code, decimals)) => {
                let decimals = decimals.parse().map_err(|_| CurrencyError::Form(text.to_owned()))?;
                Self::new(code, Some(decimals))
            }
        }
    }
}

/// Letters of a code of ISO 4217.
const ISO_CHARS: usize = 3;

/// Codes of ISO 4217 (list one) in use, by their decimals. Metals, funds and codes for tests are left out: nobody is paid in
/// those.
const ISO: [(u32, &str); 3] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC \
         CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR \
         JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD \
         NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN \
         SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
];

fn iso_decimals(code: &str) -> Option<u32> {
    let (decimals, _) = ISO.into_iter().find(|(_, codes)| codes.split(' ').any(|one| one == code))?;
    Some(decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_of_iso_4217_or_ones_own() {
        let check = |code: &str, decimals: Option<u32>, expected: Option<u32>| {
            let currency = Currency::new(code, decimals);
            assert_eq!(currency.as_ref().ok().map(|one| one.decimals()), expected, "{code}: {currency:?}");
        };
        check("EUR", None, Some(2));
        check("JPY", None, Some(0));
        check("BHD", Some(3), Some(3));
        check("JPY", Some(2), None);
        check("EUX", Some(2), None);
        check("CREDIT", Some(4), Some(4));
        check("CREDIT", None, None);
        check("CREDIT", Some(7), None);
        check("credit", Some(2), None);
        check("EU", Some(2), None);
        check("ABCDEFGHIJKLM", Some(2), None);
        assert_eq!("CREDIT=0".parse(), Currency::new("CREDIT", Some(0)));
        assert_eq!("EUR".parse(), Ok(Currency::EUR));
        assert!("CREDIT=x".parse::<Currency>().is_err());
    }

    #[test]
    fn every_code_stands_in_the_list_once() {
        let mut all: Vec<&str> = ISO.iter().flat_map(|(_, codes)| codes.split(' ')).collect();
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), listed);
        assert!(all.iter().all(|code| code.len() == ISO_CHARS));
    }

    #[test]
    fn what_can_be_paid_has_the_decimals_of_the_currency() {
        let check = |code: &str, amount: &str, paid: &str| {
            let currency = Currency::new(code, None).unwrap();
            assert_eq!(currency.payable(amount.parse().unwrap()).to_string(), paid, "{code} {amount}");
        };
        check("JPY", "1203.999999999999", "1203");
        check("EUR", "12.349999999999", "12.34");
        check("BHD", "0.0009", "0");
        check("EUR", "-0.019", "-0.01");
        assert_eq!(Currency::new("JPY", None).unwrap().smallest().to_string(), "1");
        assert_eq!(Currency::new("BHD", None).unwrap().smallest().to_string(), "0.001");
    }
}
