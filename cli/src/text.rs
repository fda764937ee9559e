//! What people read and type: amounts, times, names. Pure functions over text.

pub(crate) mod amount;
pub(crate) mod human;
pub(crate) mod name;
