//! A job whose every field has been checked, from the message that anybody may have sent.

use lull_abi::Stage;
use lull_proto::v1;

use crate::limits::{
    COPIES_DEFAULT, COPIES_MAX, ERROR_MAX, ERROR_MIN, GRID_AXES_MAX, GRID_VALUES_MAX,
    GUEST_MEMORY_BYTES_DEFAULT, GUEST_MEMORY_BYTES_MAX, GUEST_MEMORY_BYTES_MIN, INPUT_BYTES_MAX, INPUTS_MAX,
    ITEMS_MAX, MERGE_FAN_IN_DEFAULT, MERGE_FAN_IN_MAX, MODULE_BYTES_MAX, NAME_BYTES_MAX, PILOT_UNITS_MAX,
    RESULT_BYTES_DEFAULT, RESULT_BYTES_MAX, SPLIT_FILES_MAX, UNIT_SECS_DEFAULT, UNIT_SECS_MAX, UNITS_DEFAULT,
};
use crate::{Digest, Plan, Share};

/// A named blob of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Name by which the guest finds it.
    pub name: String,
    /// What is in it.
    pub digest: Digest,
    /// How long it is.
    pub size_bytes: u64,
}

/// How a job falls into items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// The integers `start <= i < end`.
    Range {
        /// First integer.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// The lines of a file.
    Lines(InputFile),
    /// One item a file.
    Files(Vec<InputFile>),
    /// Every combination of (axis, its values); the last axis varies fastest.
    Grid(Vec<(String, Vec<String>)>),
    /// The module's own split, run as a unit.
    Module,
}

/// What becomes of unit results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// A tree of merges, then finish.
    Tree,
    /// They are the answer.
    None,
}

/// A job whose every field has been checked, except its prices: those are money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Shown to people.
    pub display_name: String,
    /// The module.
    pub module: InputFile,
    /// Inputs that every unit sees.
    pub inputs: Vec<InputFile>,
    /// How it falls into items.
    pub split: Split,
    /// Items in one unit; `None` leaves it to [`Spec::plan`].
    pub items_per_unit: Option<u64>,
    /// Evenly spaced units to run; 0 for all.
    pub pilot_units: u64,
    /// What becomes of unit results.
    pub reduce: Reduce,
    /// Results in one merge unit.
    pub merge_fan_in: u32,
    /// Owners that must agree.
    pub copies: u32,
    /// Share of accepted work units that may be wrong; when it or the next is named, `copies` is not used.
    pub max_error: Share,
    /// Chance that the answer may be wrong.
    pub max_answer_error: Share,
    /// Whether the answer may be made without failed units.
    pub allow_missing: bool,
    /// Order among the submitter's own jobs, higher first.
    pub priority: i32,
    /// What a guest may use.
    pub limits: v1::Limits,
}

/// A field of a job that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// Path of the field, as in the job message.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub problem: String,
}

fn wrong<T>(field: &'static str, problem: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError { field, problem: problem.into() })
}

/// A chance or a share that somebody buys; 0 is none.
fn probability(field: &'static str, value: f64) -> Result<Share, SpecError> {
    if value == 0.0 {
        return Ok(Share::default());
    }
    if !(ERROR_MIN..=ERROR_MAX).contains(&value) {
        return wrong(field, format!("{value} is out of range: {ERROR_MIN} to {ERROR_MAX}"));
    }
    Ok(Share::of(value))
}

impl InputFile {
    fn check(field: &'static str, input: Option<&v1::Input>, size_max: u64) -> Result<Self, SpecError> {
        let Some(input) = input else { return wrong(field, "is missing") };
        let Ok(digest) = Digest::try_from(input.digest.as_slice()) else {
            return wrong(field, format!("`{}` has no BLAKE3 digest of 32 bytes", input.name));
        };
        if input.size_bytes > size_max {
            return wrong(
                field,
                format!("`{}` has {} bytes, more than the {size_max} allowed", input.name, input.size_bytes),
            );
        }
        Ok(Self { name: input.name.clone(), digest, size_bytes: input.size_bytes })
    }

    /// As a message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Input {
        v1::Input {
            name: self.name.clone(),
            digest: self.digest.as_bytes().to_vec(),
            size_bytes: self.size_bytes,
        }
    }
}

impl Split {
    /// Checks a split.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(split: Option<&v1::Split>) -> Result<Self, SpecError> {
        use v1::split::Kind;
        match split.and_then(|split| split.kind.as_ref()) {
            None => wrong(
                "split",
                "is missing: say how the job falls into items (range, lines, files, grid or module)",
            ),
            Some(Kind::Range(range)) if range.start >= range.end => wrong(
                "split.range",
                format!("{}..{} is empty: the end must be greater than the start", range.start, range.end),
            ),
            Some(Kind::Range(range)) if range.end > ITEMS_MAX => {
                wrong("split.range", format!("ends past the {ITEMS_MAX} items that a job may have"))
            }
            Some(Kind::Range(range)) => Ok(Self::Range { start: range.start, end: range.end }),
            Some(Kind::Lines(lines)) => {
                Ok(Self::Lines(InputFile::check("split.lines", lines.file.as_ref(), INPUT_BYTES_MAX)?))
            }
            Some(Kind::Files(files)) if files.files.len() > SPLIT_FILES_MAX => wrong(
                "split.files",
                format!(
                    "{} files, more than the {SPLIT_FILES_MAX} allowed: pack them, or use lines",
                    files.files.len()
                ),
            ),
            Some(Kind::Files(files)) => {
                let files = files
                    .files
                    .iter()
                    .map(|file| InputFile::check("split.files", Some(file), INPUT_BYTES_MAX));
                Ok(Self::Files(files.collect::<Result<_, _>>()?))
            }
            Some(Kind::Grid(grid)) => Self::check_grid(grid),
            Some(Kind::Module(_)) => Ok(Self::Module),
        }
    }

    fn check_grid(grid: &v1::Grid) -> Result<Self, SpecError> {
        if grid.axes.is_empty() || grid.axes.len() > GRID_AXES_MAX {
            return wrong(
                "split.grid",
                format!("has {} axes: 1 to {GRID_AXES_MAX} are allowed", grid.axes.len()),
            );
        }
        let mut items: u64 = 1;
        let mut values = 0;
        for (at, axis) in grid.axes.iter().enumerate() {
            if axis.values.is_empty() {
                return wrong("split.grid", format!("axis `{}` has no values", axis.name));
            }
            if grid.axes[..at].iter().any(|other| other.name == axis.name) {
                return wrong("split.grid", format!("axis `{}` stands twice", axis.name));
            }
            values += axis.values.len();
            items = match items.checked_mul(axis.values.len() as u64) {
                Some(items) if items <= ITEMS_MAX => items,
                _ => {
                    return wrong(
                        "split.grid",
                        format!("has more than the {ITEMS_MAX} points that a job may have"),
                    );
                }
            };
        }
        if values > GRID_VALUES_MAX {
            return wrong(
                "split.grid",
                format!("has {values} values, more than the {GRID_VALUES_MAX} allowed"),
            );
        }
        Ok(Self::Grid(grid.axes.iter().map(|axis| (axis.name.clone(), axis.values.clone())).collect()))
    }

    /// Items of the whole job, where they follow from the job alone: not for lines and module.
    #[must_use]
    pub fn items(&self) -> Option<u64> {
        match self {
            Self::Range { start, end } => Some(end - start),
            Self::Files(files) => Some(files.len() as u64),
            Self::Grid(axes) => Some(axes.iter().map(|(_, values)| values.len() as u64).product()),
            Self::Lines(_) | Self::Module => None,
        }
    }

    /// As a message; the list of files is left out, as agents get them unit by unit.
    #[must_use]
    pub fn to_proto_without_files(&self) -> v1::Split {
        use v1::split::Kind;
        let kind = match self {
            Self::Range { start, end } => Kind::Range(v1::IntegerRange { start: *start, end: *end }),
            Self::Lines(file) => Kind::Lines(v1::Lines { file: Some(file.to_proto()) }),
            Self::Files(_) => Kind::Files(v1::Files { files: Vec::new() }),
            Self::Grid(axes) => Kind::Grid(v1::Grid {
                axes: axes
                    .iter()
                    .map(|(name, values)| v1::Axis { name: name.clone(), values: values.clone() })
                    .collect(),
            }),
            Self::Module => Kind::Module(v1::ModuleSplit {}),
        };
        v1::Split { kind: Some(kind) }
    }
}

impl Spec {
    /// Checks a job message. Prices and the content of blobs are not looked at.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(spec: &v1::JobSpec) -> Result<Self, SpecError> {
        if spec.display_name.len() > NAME_BYTES_MAX {
            return wrong("display_name", format!("is longer than {NAME_BYTES_MAX} bytes"));
        }
        if spec.inputs.len() > INPUTS_MAX {
            return wrong(
                "inputs",
                format!("{} inputs, more than the {INPUTS_MAX} allowed", spec.inputs.len()),
            );
        }
        let inputs: Vec<InputFile> = spec
            .inputs
            .iter()
            .map(|input| InputFile::check("inputs", Some(input), INPUT_BYTES_MAX))
            .collect::<Result<_, _>>()?;
        for (at, input) in inputs.iter().enumerate() {
            if inputs[..at].iter().any(|other| other.name == input.name) {
                return wrong("inputs", format!("`{}` stands twice", input.name));
            }
        }
        let split = Split::check(spec.split.as_ref())?;
        if split.items() == Some(0) {
            return wrong("split", "has no items: there is nothing to do");
        }
        if spec.pilot_units > PILOT_UNITS_MAX {
            return wrong(
                "pilot_units",
                format!("{} is more than the {PILOT_UNITS_MAX} allowed", spec.pilot_units),
            );
        }
        let reduce = match spec.reduce() {
            v1::Reduce::Unspecified | v1::Reduce::Tree => Reduce::Tree,
            v1::Reduce::None => Reduce::None,
        };
        let merge_fan_in =
            default_or("merge_fan_in", spec.merge_fan_in, MERGE_FAN_IN_DEFAULT, 2, MERGE_FAN_IN_MAX)?;
        if spec.copies > 0 && (spec.max_error > 0.0 || spec.max_answer_error > 0.0) {
            return wrong(
                "copies",
                "cannot be combined with max_error or max_answer_error: name one of them",
            );
        }
        let copies = default_or("copies", spec.copies, COPIES_DEFAULT, 1, COPIES_MAX)?;
        let limits = spec.limits.unwrap_or_default();
        let limits = v1::Limits {
            memory_bytes: default_or(
                "limits.memory_bytes",
                limits.memory_bytes,
                GUEST_MEMORY_BYTES_DEFAULT,
                GUEST_MEMORY_BYTES_MIN,
                GUEST_MEMORY_BYTES_MAX,
            )?,
            unit_secs: default_or("limits.unit_secs", limits.unit_secs, UNIT_SECS_DEFAULT, 1, UNIT_SECS_MAX)?,
            result_bytes: default_or(
                "limits.result_bytes",
                limits.result_bytes,
                RESULT_BYTES_DEFAULT,
                1,
                RESULT_BYTES_MAX,
            )?,
        };
        Ok(Self {
            display_name: spec.display_name.clone(),
            module: InputFile::check("module", spec.module.as_ref(), MODULE_BYTES_MAX)?,
            inputs,
            split,
            items_per_unit: (spec.items_per_unit > 0).then_some(spec.items_per_unit),
            pilot_units: spec.pilot_units,
            reduce,
            merge_fan_in,
            copies,
            max_error: probability("max_error", spec.max_error)?,
            max_answer_error: probability("max_answer_error", spec.max_answer_error)?,
            allow_missing: spec.allow_missing,
            priority: spec.priority,
            limits,
        })
    }

    /// The plan of this job once its items are counted; 0 items while its split has not run.
    #[must_use]
    pub fn plan(&self, items: u64) -> Plan {
        let items_per_unit = self.items_per_unit.unwrap_or_else(|| items.div_ceil(UNITS_DEFAULT).max(1));
        Plan {
            has_split: self.split == Split::Module,
            items,
            items_per_unit,
            pilot_units: self.pilot_units,
            reduce: self.reduce,
            merge_fan_in: u64::from(self.merge_fan_in),
        }
    }
}

fn default_or<T>(field: &'static str, value: T, default: T, min: T, max: T) -> Result<T, SpecError>
where
    T: Copy + Default + PartialOrd + std::fmt::Display,
{
    if value == T::default() {
        Ok(default)
    } else if value < min || value > max {
        wrong(field, format!("{value} is out of range: {min} to {max} are allowed"))
    } else {
        Ok(value)
    }
}

/// A stage as a message.
#[must_use]
pub fn stage_to_proto(stage: Stage) -> v1::Stage {
    let (kind, level) = match stage {
        Stage::Split => (v1::StageKind::Split, 0),
        Stage::Work => (v1::StageKind::Work, 0),
        Stage::Merge(level) => (v1::StageKind::Merge, u32::from(level)),
        Stage::Finish => (v1::StageKind::Finish, 0),
    };
    v1::Stage { kind: kind.into(), level }
}

/// The stage of a message, if it names one.
#[must_use]
pub fn stage_from_proto(stage: Option<&v1::Stage>) -> Option<Stage> {
    let stage = stage?;
    match stage.kind() {
        v1::StageKind::Unspecified => None,
        v1::StageKind::Split => Some(Stage::Split),
        v1::StageKind::Work => Some(Stage::Work),
        v1::StageKind::Merge => {
            u8::try_from(stage.level).ok().filter(|level| (1..=64).contains(level)).map(Stage::Merge)
        }
        v1::StageKind::Finish => Some(Stage::Finish),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> v1::JobSpec {
        let input = |name: &str| v1::Input { name: name.to_owned(), digest: vec![1; 32], size_bytes: 10 };
        v1::JobSpec {
            module: Some(input("m.wasm")),
            inputs: vec![input("a"), input("b")],
            split: Some(v1::Split {
                kind: Some(v1::split::Kind::Range(v1::IntegerRange { start: 3, end: 10_000 })),
            }),
            ..Default::default()
        }
    }

    fn check(change: impl FnOnce(&mut v1::JobSpec), expected: &str) {
        let mut spec = valid();
        change(&mut spec);
        let error = Spec::check(&spec).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }

    fn range(start: u64, end: u64) -> Option<v1::Split> {
        Some(v1::Split { kind: Some(v1::split::Kind::Range(v1::IntegerRange { start, end })) })
    }

    #[test]
    fn defaults_are_filled_in() {
        let spec = Spec::check(&valid()).expect("valid");
        assert_eq!((spec.copies, spec.merge_fan_in, spec.reduce), (2, 32, Reduce::Tree));
        assert_eq!(spec.limits.unit_secs, UNIT_SECS_DEFAULT);
        assert_eq!(spec.plan(9_997).items_per_unit, 3);
    }

    #[test]
    fn each_wrong_field_is_named() {
        check(|s| s.split = range(5, 5), "split.range: 5..5 is empty");
        check(|s| s.split = range(0, u64::MAX), "ends past");
        check(|s| s.split = None, "split: is missing");
        check(|s| s.module = None, "module: is missing");
        check(
            |s| s.module.as_mut().unwrap().size_bytes = MODULE_BYTES_MAX + 1,
            "more than the 16777216 allowed",
        );
        check(|s| s.inputs[1].name = "a".to_owned(), "`a` stands twice");
        check(|s| s.inputs[1].digest.truncate(31), "`b` has no BLAKE3 digest");
        check(|s| s.copies = COPIES_MAX + 1, "copies: 9 is out of range: 1 to 8");
        check(|s| s.merge_fan_in = 1, "merge_fan_in: 1 is out of range");
        check(|s| s.pilot_units = PILOT_UNITS_MAX + 1, "pilot_units");
        check(|s| s.display_name = "x".repeat(201), "display_name");
        check(
            |s| s.limits = Some(v1::Limits { memory_bytes: 1, ..Default::default() }),
            "limits.memory_bytes: 1 is out of range",
        );
        let no_files = v1::split::Kind::Files(v1::Files { files: Vec::new() });
        check(|s| s.split = Some(v1::Split { kind: Some(no_files) }), "split: has no items");
        let axis = |values: usize| v1::Axis { name: "x".to_owned(), values: vec!["1".to_owned(); values] };
        let grid = |axes| Some(v1::Split { kind: Some(v1::split::Kind::Grid(v1::Grid { axes })) });
        check(|s| s.split = grid(vec![axis(0)]), "axis `x` has no values");
        check(|s| s.split = grid(vec![axis(1), axis(1)]), "axis `x` stands twice");
        check(|s| s.split = grid(vec![axis(GRID_VALUES_MAX + 1)]), "more than the 100000 allowed");
    }

    #[test]
    fn limits_allow_their_own_value() {
        let mut spec = valid();
        spec.copies = COPIES_MAX;
        spec.pilot_units = PILOT_UNITS_MAX;
        spec.merge_fan_in = MERGE_FAN_IN_MAX;
        spec.module.as_mut().unwrap().size_bytes = MODULE_BYTES_MAX;
        spec.display_name = "x".repeat(NAME_BYTES_MAX);
        Spec::check(&spec).expect("at the limits");
    }
}
