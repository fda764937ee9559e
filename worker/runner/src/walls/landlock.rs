//! Landlock: nothing can be opened, connected to, bound or signalled.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, RestrictionStatus,
    Ruleset, RulesetAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The version whose rules are asked for; a system that knows less enforces what it knows.
const WANTED: ABI = ABI::V7;

/// Restricts this thread and those that it starts. The version of the system's interface comes with it.
pub(super) fn restrict() -> (u32, Result<(), String>) {
    let status = match build() {
        Ok(status) => status,
        Err(error) => return (0, Err(error.to_string())),
    };
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        LandlockStatus::NotEnabled => return (0, Err("not enabled in this kernel".to_owned())),
        LandlockStatus::NotImplemented => return (0, Err("not in this kernel".to_owned())),
    };
    match status.ruleset {
        RulesetStatus::NotEnforced => (abi, Err("the system does not enforce it".to_owned())),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => (abi, Ok(())),
    }
}

/// Handles everything and allows nothing.
fn build() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .restrict_self()
}
