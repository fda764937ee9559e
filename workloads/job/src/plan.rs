//! The arithmetic of a job: which units it has and what is in each, without storing one.

use std::ops::Range;

use lull_abi::Stage;

use crate::Reduce;

/// How a job's items fall into units, and its units into stages.
///
/// Work units are named by their *index* among those that run; in a pilot an index stands for the
/// unit's *number* in the whole job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Whether the module's own split runs first.
    pub has_split: bool,
    /// Items of the whole job; 0 while its split has not run.
    pub items: u64,
    /// Items in one work unit; the last may have fewer.
    pub items_per_unit: u64,
    /// Work units to run, evenly spaced; 0 for all.
    pub pilot_units: u64,
    /// Whether results are merged.
    pub reduce: Reduce,
    /// Results in one merge unit, at least 2.
    pub merge_fan_in: u64,
}

/// Units of a job that are not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceUnits {
    /// Split units: 0 or 1.
    pub split: u64,
    /// Merge units of all levels.
    pub merge: u64,
    /// Finish units: 0 or 1.
    pub finish: u64,
}

impl ServiceUnits {
    /// All of them.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.split + self.merge + self.finish
    }
}

impl Plan {
    /// Work units of the whole job.
    #[must_use]
    pub const fn whole_units(&self) -> u64 {
        self.items.div_ceil(self.items_per_unit)
    }

    /// Work units that run: all, or the pilot's.
    #[must_use]
    pub const fn work_units(&self) -> u64 {
        let whole = self.whole_units();
        if self.pilot_units == 0 || self.pilot_units > whole { whole } else { self.pilot_units }
    }

    /// Units of a stage; 0 if the job has no such stage.
    #[must_use]
    pub fn units(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Split => u64::from(self.has_split),
            Stage::Work => self.work_units(),
            Stage::Merge(level) if self.reduce == Reduce::Tree => {
                let mut units = self.work_units();
                for _ in 0..level {
                    if units <= 1 {
                        return 0;
                    }
                    units = units.div_ceil(self.merge_fan_in);
                }
                units
            }
            Stage::Finish if self.reduce == Reduce::Tree => 1,
            Stage::Merge(_) | Stage::Finish => 0,
        }
    }

    /// The first stage.
    #[must_use]
    pub const fn first_stage(&self) -> Stage {
        if self.has_split { Stage::Split } else { Stage::Work }
    }

    /// The stage after `stage`, if any.
    #[must_use]
    pub fn next_stage(&self, stage: Stage) -> Option<Stage> {
        let next = match stage {
            // Its units are known only once the split's items are counted.
            Stage::Split => return Some(Stage::Work),
            Stage::Work => Stage::Merge(1),
            Stage::Merge(level) => Stage::Merge(level + 1),
            Stage::Finish => return None,
        };
        if self.units(next) > 0 { Some(next) } else { (self.reduce == Reduce::Tree).then_some(Stage::Finish) }
    }

    /// The stage whose results `stage` takes; none for split and work.
    #[must_use]
    pub fn source_stage(&self, stage: Stage) -> Option<Stage> {
        match stage {
            Stage::Split | Stage::Work => None,
            Stage::Merge(1) => Some(Stage::Work),
            Stage::Merge(level) => Some(Stage::Merge(level - 1)),
            Stage::Finish => {
                let mut source = Stage::Work;
                while let Some(next @ Stage::Merge(_)) = self.next_stage(source) {
                    source = next;
                }
                Some(source)
            }
        }
    }

    /// Indexes, in the source stage, of the results that unit `index` of `stage` takes.
    #[must_use]
    pub fn parts(&self, stage: Stage, index: u64) -> Range<u64> {
        let Some(source) = self.source_stage(stage) else { return 0..0 };
        let available = self.units(source);
        match stage {
            Stage::Merge(_) => {
                let start = index.saturating_mul(self.merge_fan_in).min(available);
                start..start.saturating_add(self.merge_fan_in).min(available)
            }
            _ => 0..available,
        }
    }

    /// Number, in the whole job, of the work unit with this index.
    #[must_use]
    pub fn number(&self, index: u64) -> u64 {
        let running = self.work_units();
        let whole = self.whole_units();
        if running == whole {
            return index;
        }
        let number = u128::from(index) * u128::from(whole) / u128::from(running.max(1));
        u64::try_from(number).unwrap_or(u64::MAX)
    }

    /// Items of the work unit with this index: `start <= item < end`.
    #[must_use]
    pub fn items_of(&self, index: u64) -> Range<u64> {
        let start = self.number(index).saturating_mul(self.items_per_unit).min(self.items);
        start..start.saturating_add(self.items_per_unit).min(self.items)
    }

    /// How many items a unit is paid for: those of a work unit; service units have a price of their own.
    #[must_use]
    pub fn item_count(&self, index: u64) -> u64 {
        let items = self.items_of(index);
        items.end - items.start
    }

    /// Items in all work units that run.
    #[must_use]
    pub fn items_running(&self) -> u64 {
        let units = self.work_units();
        if units == 0 {
            return 0;
        }
        // Only the whole job's last unit can be short, and only the last index can stand for it.
        (units - 1) * self.items_per_unit + self.item_count(units - 1)
    }

    /// The units that are not work.
    #[must_use]
    pub fn service_units(&self) -> ServiceUnits {
        let mut merge = 0;
        let mut level = 1;
        while self.units(Stage::Merge(level)) > 0 {
            merge += self.units(Stage::Merge(level));
            level += 1;
        }
        ServiceUnits { split: self.units(Stage::Split), merge, finish: self.units(Stage::Finish) }
    }

    /// The same job without its pilot.
    #[must_use]
    pub const fn whole(self) -> Self {
        Self { pilot_units: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(items: u64, items_per_unit: u64, pilot_units: u64) -> Plan {
        Plan { has_split: false, items, items_per_unit, pilot_units, reduce: Reduce::Tree, merge_fan_in: 32 }
    }

    #[test]
    fn the_pilot_of_the_leukaemia_study() {
        let pilot = plan(1_203_322_288, 500_000, 20);
        assert_eq!((pilot.whole_units(), pilot.work_units()), (2_407, 20));
        assert_eq!(pilot.number(19), 19 * 2_407 / 20);
        assert_eq!(pilot.items_running(), 10_000_000);
        assert_eq!(pilot.whole().items_running(), 1_203_322_288);
    }

    #[test]
    fn a_tree_of_stages() {
        let plan = plan(2_407, 1, 0);
        assert_eq!(plan.next_stage(Stage::Work), Some(Stage::Merge(1)));
        assert_eq!(plan.units(Stage::Merge(1)), 76);
        assert_eq!(plan.units(Stage::Merge(2)), 3);
        assert_eq!(plan.units(Stage::Merge(3)), 1);
        assert_eq!(plan.next_stage(Stage::Merge(3)), Some(Stage::Finish));
        assert_eq!(plan.source_stage(Stage::Finish), Some(Stage::Merge(3)));
        assert_eq!(plan.parts(Stage::Merge(1), 75), 2_400..2_407);
        assert_eq!(plan.service_units(), ServiceUnits { split: 0, merge: 80, finish: 1 });
        assert_eq!(plan.next_stage(Stage::Finish), None);
    }

    #[test]
    fn one_unit_goes_straight_to_finish() {
        let plan = plan(5, 10, 0);
        assert_eq!(plan.next_stage(Stage::Work), Some(Stage::Finish));
        assert_eq!(plan.parts(Stage::Finish, 0), 0..1);
        assert_eq!(plan.source_stage(Stage::Finish), Some(Stage::Work));
    }

    proptest! {
        #[test]
        fn units_cover_every_item_once(items in 1u64..100_000, per_unit in 1u64..500) {
            let plan = plan(items, per_unit, 0);
            let mut next = 0;
            for index in 0..plan.work_units() {
                let unit = plan.items_of(index);
                prop_assert_eq!(unit.start, next);
                prop_assert!(unit.end > unit.start);
                next = unit.end;
            }
            prop_assert_eq!(next, items);
            prop_assert_eq!(plan.items_running(), items);
        }

        #[test]
        fn every_result_is_merged_once(items in 1u64..5_000, fan_in in 2u64..40) {
            let plan = Plan { merge_fan_in: fan_in, ..plan(items, 1, 0) };
            let mut stage = Stage::Work;
            while let Some(next) = plan.next_stage(stage) {
                let mut covered = 0;
                for index in 0..plan.units(next) {
                    let parts = plan.parts(next, index);
                    prop_assert_eq!(parts.start, covered);
                    covered = parts.end;
                }
                prop_assert_eq!(covered, plan.units(stage));
                stage = next;
            }
            prop_assert_eq!(stage, Stage::Finish);
        }

        #[test]
        fn a_pilot_counts_its_items(items in 1u64..10_000, per_unit in 1u64..50, pilot in 1u64..300) {
            let plan = plan(items, per_unit, pilot);
            let sum: u64 = (0..plan.work_units()).map(|index| plan.item_count(index)).sum();
            prop_assert_eq!(plan.items_running(), sum);
        }
    }
}
