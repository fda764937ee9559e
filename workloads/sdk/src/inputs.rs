//! The named inputs of a job.

use std::collections::BTreeMap;

use crate::Error;

/// The named inputs of a job, the same for all of its units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    by_name: BTreeMap<String, Box<[u8]>>,
}

impl Inputs {
    /// No inputs.
    #[must_use]
    pub const fn new() -> Self {
        Self { by_name: BTreeMap::new() }
    }

    /// Adds an input; one of the same name is replaced.
    pub fn insert(&mut self, name: impl Into<String>, content: impl Into<Box<[u8]>>) {
        self.by_name.insert(name.into(), content.into());
    }

    /// Every input, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.by_name.iter().map(|(name, content)| (name.as_str(), &**content))
    }

    /// The input of that name, if the job has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.by_name.get(name).map(|content| &**content)
    }

    /// The input of that name.
    ///
    /// # Errors
    /// When the job has no such input; the message lists the names it has.
    pub fn require(&self, name: &str) -> Result<&[u8], Error> {
        self.get(name).ok_or_else(|| {
            let names: Vec<_> = self.by_name.keys().map(|name| format!("`{name}`")).collect();
            let given = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::new(format!(
                "this program needs an input named `{name}` (given: {given}): name it in the job file"
            ))
        })
    }

    /// The input of that name as text, if the job has it.
    ///
    /// # Errors
    /// When its bytes are not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(content) = self.get(name) else { return Ok(None) };
        let text = std::str::from_utf8(content).map_err(|error| {
            Error::new(format!("input `{name}` is not UTF-8 text ({error}): save it as UTF-8"))
        })?;
        Ok(Some(text))
    }
}

impl<N: Into<String>, C: Into<Box<[u8]>>> FromIterator<(N, C)> for Inputs {
    fn from_iter<I: IntoIterator<Item = (N, C)>>(pairs: I) -> Self {
        let mut inputs = Self::new();
        for (name, content) in pairs {
            inputs.insert(name, content);
        }
        inputs
    }
}
