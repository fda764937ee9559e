//! Names and banks as SEPA takes them.

use std::fmt;
use std::str::FromStr;

use super::Iban;

/// Characters that a name may have (`Nm` of a SEPA credit transfer: 70).
pub const NAME_CHARS_MAX: usize = 70;

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    name: String,
    /// The account.
    pub iban: Iban,
}

/// Text that no bank would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartyError {
    /// An empty or long name.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters")]
    NameLength,
    /// A character outside the set that every bank in SEPA takes.
    #[error(
        "`{0}` is not in what every bank takes: write Latin letters without accents, digits, blanks and / - ? : ( ) . , ' +"
    )]
    NameCharacter(char),
    /// Not a BIC.
    #[error("`{0}` is not a BIC: it has 8 or 11 letters and digits, such as COBADEFFXXX")]
    Bic(String),
}

impl Party {
    /// Somebody of this name.
    ///
    /// # Errors
    /// When the name is empty, too long, or outside the character set of SEPA (EPC217-08).
    pub fn new(name: &str, iban: Iban) -> Result<Self, PartyError> {
        let name = name.trim();
        if name.is_empty() || name.len() > NAME_CHARS_MAX {
            return Err(PartyError::NameLength);
        }
        let fits = |c: &char| c.is_ascii_alphanumeric() || " /-?:().,'+".contains(*c);
        match name.chars().find(|c| !fits(c)) {
            Some(c) => Err(PartyError::NameCharacter(c)),
            None => Ok(Self { name: name.to_owned(), iban }),
        }
    }

    /// The name, as the bank has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A bank's code (ISO 9362).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bic(String);

impl Bic {
    /// In capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Bic {
    type Err = PartyError;

    fn from_str(text: &str) -> Result<Self, PartyError> {
        let bic = text.trim().to_ascii_uppercase();
        let fits = (bic.len() == 8 || bic.len() == 11)
            && bic.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            && bic.as_bytes()[4..6].iter().all(u8::is_ascii_uppercase);
        if fits { Ok(Self(bic)) } else { Err(PartyError::Bic(text.to_owned())) }
    }
}

impl fmt::Display for Bic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
