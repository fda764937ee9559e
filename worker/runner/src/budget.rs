//! How much memory a guest may still take, and whether it was refused any.

use lull_sandbox::Limits;
use wasmtime::ResourceLimiter;

/// Entries of all tables of a guest: they are memory of the process beside the guest's own. Rust programs
/// have one entry for each function whose address is taken.
const TABLE_ENTRIES_MAX: usize = 1_000_000;

/// Memories and tables that a guest may have; programs have one of each.
const PARTS_MAX: usize = 16;

/// Memory that the process may use beside what the guest's limits account for: wasmtime, compiling 16 MiB.
const OVERHEAD_BYTES: u64 = 1024 * 1024 * 1024;

/// Memory that the whole process may take, in bytes: the guest's, a unit's input (which has to fit in it), inputs,
/// results as they are and as they are sent, and the overhead.
#[must_use]
pub const fn process_bytes_max(limits: &Limits, input_bytes: u64) -> u64 {
    limits
        .memory_bytes
        .saturating_mul(2)
        .saturating_add(input_bytes)
        .saturating_add(limits.result_bytes.saturating_mul(3))
        .saturating_add(OVERHEAD_BYTES)
}

/// Why a guest got less memory than it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its job does not allow more: the same on every PC.
    ByJob,
    /// This PC had no more.
    ByPc,
}

/// What a guest may still take.
#[derive(Debug)]
pub(crate) struct Budget {
    memory_bytes_max: usize,
    memory_bytes: usize,
    table_entries: usize,
    /// What the last growth that was allowed has added, in case that it fails after all.
    last_growth_bytes: usize,
    refusal: Option<Refusal>,
}

impl Budget {
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        Self {
            memory_bytes_max: usize::try_from(memory_bytes_max).unwrap_or(usize::MAX),
            memory_bytes: 0,
            table_entries: 0,
            last_growth_bytes: 0,
            refusal: None,
        }
    }

    /// Whether its job refused it memory, and nothing worse.
    pub(crate) fn was_refused_by_job(&self) -> bool {
        self.refusal == Some(Refusal::ByJob)
    }

    /// Whether this PC refused it memory.
    pub(crate) fn was_refused_by_pc(&self) -> bool {
        self.refusal == Some(Refusal::ByPc)
    }

    /// As if its job had just refused it memory.
    pub(crate) fn refused_by_job(&mut self) {
        self.refusal.get_or_insert(Refusal::ByJob);
    }

    /// Whether the guest was refused memory; this PC's refusal outweighs the job's.
    pub(crate) const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.last_growth_bytes = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum: its own business.
            return Ok(false);
        }
        let growth = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(growth);
        if total > self.memory_bytes_max {
            self.refusal.get_or_insert(Refusal::ByJob);
            return Ok(false);
        }
        self.memory_bytes = total;
        self.last_growth_bytes = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        // Also called for what was refused above: that has a growth of zero.
        if self.last_growth_bytes > 0 {
            self.memory_bytes -= self.last_growth_bytes;
            self.last_growth_bytes = 0;
            self.refusal = Some(Refusal::ByPc);
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.table_entries.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ENTRIES_MAX {
            self.refusal.get_or_insert(Refusal::ByJob);
            return Ok(false);
        }
        self.table_entries = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_allowed_up_to_its_limit() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        assert!(budget.memory_growing(60, 100, None).unwrap(), "at the limit");
        assert!(!budget.memory_growing(100, 200, Some(150)).unwrap());
        assert_eq!(budget.refusal(), None, "the module's own maximum");
        assert!(!budget.memory_growing(0, 1, None).unwrap(), "one past it, in another memory");
        assert_eq!(budget.refusal(), Some(Refusal::ByJob));
    }

    #[test]
    fn a_growth_that_fails_is_the_pcs() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).unwrap());
        budget.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(budget.refusal(), Some(Refusal::ByPc));
        assert!(budget.memory_growing(0, 100, None).unwrap(), "it took nothing");
        assert!(!budget.table_growing(0, TABLE_ENTRIES_MAX + 1, None).unwrap());
        assert!(budget.table_growing(0, TABLE_ENTRIES_MAX, None).unwrap());
    }
}
