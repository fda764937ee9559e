//! Typed numbers.

use lull_job::Stage;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A job.
    JobId
);
id!(
    /// An enrolled PC.
    DeviceId
);
id!(
    /// Whoever a device's earnings belong to.
    OwnerId
);
id!(
    /// Whoever pays for a job.
    SubmitterId
);
id!(
    /// A lease; its number is the fencing token.
    LeaseToken
);

/// The name of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    /// Its job.
    pub job: JobId,
    /// Its stage.
    pub stage: Stage,
    /// Its index within the stage.
    pub index: u64,
}
