//! What a whole job would take, from the units of it that ran. Integers only.

use lull_job::{Plan, Stage};

/// CPU time of what ran, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Of the split.
    pub(crate) split_micros: u64,
    /// Of all work units.
    pub(crate) work_micros: u64,
    /// Of all merges.
    pub(crate) merge_micros: u64,
    /// Of finish.
    pub(crate) finish_micros: u64,
}

impl Cpu {
    /// Adds one unit.
    pub(crate) fn add(&mut self, stage: Stage, micros: u64) {
        let sum = match stage {
            Stage::Split => &mut self.split_micros,
            Stage::Work => &mut self.work_micros,
            Stage::Merge(_) => &mut self.merge_micros,
            Stage::Finish => &mut self.finish_micros,
        };
        *sum = sum.saturating_add(micros);
    }

    /// All of it.
    pub(crate) fn total_micros(&self) -> u64 {
        [self.split_micros, self.work_micros, self.merge_micros, self.finish_micros]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// A whole job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Work units.
    pub(crate) units: u64,
    /// Items.
    pub(crate) items: u64,
    /// CPU time of one copy of every unit.
    pub(crate) cpu_micros: u64,
}

/// Scales work by items, merges by their number; split and finish are one unit each however long the job.
pub(crate) fn estimate(plan: &Plan, cpu: &Cpu) -> Estimate {
    let whole = plan.whole();
    let scale = |micros: u64, ran: u64, of: u64| {
        let scaled = u128::from(micros) * u128::from(of) / u128::from(ran.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let work = scale(cpu.work_micros, plan.items_running(), plan.items);
    let merge = scale(cpu.merge_micros, plan.service_units().merge, whole.service_units().merge);
    let scaled = Cpu { work_micros: work, merge_micros: merge, ..*cpu };
    Estimate { units: plan.whole_units(), items: plan.items, cpu_micros: scaled.total_micros() }
}

#[cfg(test)]
mod tests {
    use lull_job::Reduce;

    use super::*;

    #[test]
    fn work_scales_by_items_and_merges_by_their_number() {
        let plan = Plan {
            has_split: false,
            items: 1_203_322_288,
            items_per_unit: 500_000,
            pilot_units: 20,
            reduce: Reduce::Tree,
            merge_fan_in: 32,
        };
        let mut cpu = Cpu::default();
        for _ in 0..20 {
            cpu.add(Stage::Work, 750_000);
        }
        cpu.add(Stage::Merge(1), 1_000);
        cpu.add(Stage::Finish, 2_000);
        let given = estimate(&plan, &cpu);
        assert_eq!((given.units, given.items), (2_407, 1_203_322_288));
        assert_eq!(given.cpu_micros, 15_000_000 * 1_203_322_288 / 10_000_000 + 80 * 1_000 + 2_000);
    }

    #[test]
    fn a_whole_run_is_its_own_estimate() {
        let plan = Plan {
            has_split: true,
            items: 7,
            items_per_unit: 3,
            pilot_units: 0,
            reduce: Reduce::None,
            merge_fan_in: 2,
        };
        let cpu = Cpu { split_micros: 5, work_micros: 70, merge_micros: 0, finish_micros: 0 };
        assert_eq!(estimate(&plan, &cpu).cpu_micros, 75);
    }
}
