//! The `job.toml` that a researcher writes. Paths in it are relative to the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use lull_proto::v1;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::limits::JOB_FILE_BYTES_MAX;

/// A job file. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// Shown to people.
    #[serde(default)]
    pub name: String,
    /// The wasm file.
    pub module: PathBuf,
    /// Inputs that every unit sees, by the name that the guest asks for; of a WASI program only `args`, its
    /// arguments, one a line.
    #[serde(default)]
    pub inputs: BTreeMap<String, PathBuf>,
    /// How the job falls into items.
    pub split: SplitFile,
    /// Items in one unit.
    #[serde(default)]
    pub items_per_unit: u64,
    /// Evenly spaced units to run; 0 for all.
    #[serde(default)]
    pub pilot_units: u64,
    /// What becomes of unit results.
    #[serde(default)]
    pub reduce: ReduceFile,
    /// Results in one merge unit.
    #[serde(default)]
    pub merge_fan_in: u32,
    /// Owners that must agree.
    #[serde(default)]
    pub copies: u32,
    /// Instead of copies: share of accepted work units that may be wrong.
    #[serde(default)]
    pub max_error: f64,
    /// Instead of copies: chance that the answer may be wrong.
    #[serde(default)]
    pub max_answer_error: f64,
    /// Whether the answer may be made without failed units.
    #[serde(default)]
    pub allow_missing: bool,
    /// Order among the submitter's own jobs, higher first.
    #[serde(default)]
    pub priority: i32,
    /// What the job pays.
    pub pay: PayFile,
    /// What a guest may use.
    #[serde(default)]
    pub limits: LimitsFile,
}

/// How a job falls into items: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitFile {
    /// `range = { start = 0, end = 1000 }`: the integers `start <= i < end`.
    Range {
        /// First integer.
        #[serde(default)]
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// `lines = "names.txt"`.
    Lines(PathBuf),
    /// `files = ["a.pdb", "b.pdb"]`.
    Files(Vec<PathBuf>),
    /// `grid = [{ name = "x", values = ["1", "2"] }]`; the last axis varies fastest.
    Grid(Vec<AxisFile>),
    /// `module = {}`: the module's own split.
    Module {},
}

/// One axis of a grid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisFile {
    /// Its name.
    pub name: String,
    /// Its values, as text.
    pub values: Vec<String>,
}

/// What becomes of unit results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceFile {
    /// Merged in a tree, then finished.
    #[default]
    Tree,
    /// They are the answer.
    None,
}

/// What a job pays: exact decimals, written as strings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayFile {
    /// For one item in one accepted attempt.
    #[serde(deserialize_with = "amount")]
    pub item_price: String,
    /// For one accepted attempt of a split, merge or finish unit.
    #[serde(default, deserialize_with = "amount")]
    pub service_price: String,
    /// The most that the job may cost.
    #[serde(default, deserialize_with = "amount")]
    pub budget: String,
    /// What all of these are in; the grid's default where it is empty.
    #[serde(default)]
    pub currency: String,
}

/// An amount is a text, as the numbers of a file are rounded to binary fractions.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct Amount;
    impl Visitor<'_> for Amount {
        type Value = String;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an amount in quotes, like \"0.01\"")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    from.deserialize_str(Amount)
}

/// What a guest may use; 0 is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Linear memory.
    pub memory_mib: u64,
    /// Time of one unit.
    pub unit_secs: u64,
    /// Size of one result.
    pub result_mib: u64,
}

/// Why a job file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It, or a file that it names, cannot be read.
    #[error("{what} {path}: {source}")]
    Read {
        /// What the file is for.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Far too large for a job file.
    #[error("job file {path} is larger than {JOB_FILE_BYTES_MAX} bytes: is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not a job file.
    #[error("job file {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
}

impl JobFile {
    /// Reads a job file; its paths become relative to the current directory.
    ///
    /// # Errors
    /// When it cannot be read, or has unknown, missing or wrong keys.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let read_error =
            |source| FileError::Read { what: "job file".to_owned(), path: path.to_owned(), source };
        let size_bytes = std::fs::metadata(path).map_err(read_error)?.len();
        if size_bytes > JOB_FILE_BYTES_MAX {
            return Err(FileError::TooLarge { path: path.to_owned() });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|error| FileError::Parse { path: path.to_owned(), message: error.to_string() })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        file.each_path(|path| *path = folder.join(&*path));
        Ok(file)
    }

    fn each_path(&mut self, mut change: impl FnMut(&mut PathBuf)) {
        change(&mut self.module);
        self.inputs.values_mut().for_each(&mut change);
        match &mut self.split {
            SplitFile::Lines(path) => change(path),
            SplitFile::Files(paths) => paths.iter_mut().for_each(change),
            SplitFile::Range { .. } | SplitFile::Grid(_) | SplitFile::Module {} => {}
        }
    }

    /// Every file of the job: (what it is for, where it is), the module first.
    #[must_use]
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let mut files = vec![("module".to_owned(), self.module.clone())];
        files.extend(self.inputs.iter().map(|(name, path)| (format!("input `{name}`"), path.clone())));
        match &self.split {
            SplitFile::Lines(path) => files.push(("file of lines".to_owned(), path.clone())),
            SplitFile::Files(paths) => {
                files.extend(paths.iter().map(|path| ("file to split into".to_owned(), path.clone())));
            }
            SplitFile::Range { .. } | SplitFile::Grid(_) | SplitFile::Module {} => {}
        }
        files
    }

    /// The job as a message. `describe` gives digest and size of a file of [`JobFile::files`]; the names
    /// of the inputs it returns are replaced.
    ///
    /// # Errors
    /// Those of `describe`.
    pub fn to_proto<E>(
        &self,
        mut describe: impl FnMut(&Path) -> Result<v1::Input, E>,
    ) -> Result<v1::JobSpec, E> {
        use v1::split::Kind;
        const MIB: u64 = 1024 * 1024;
        let mut input = |name: &str, path: &Path| Ok(v1::Input { name: name.to_owned(), ..describe(path)? });
        let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let split = match &self.split {
            SplitFile::Range { start, end } => Kind::Range(v1::IntegerRange { start: *start, end: *end }),
            SplitFile::Lines(path) => Kind::Lines(v1::Lines { file: Some(input(&file_name(path), path)?) }),
            SplitFile::Files(paths) => {
                let files =
                    paths.iter().map(|path| input(&file_name(path), path)).collect::<Result<_, E>>()?;
                Kind::Files(v1::Files { files })
            }
            SplitFile::Grid(axes) => Kind::Grid(v1::Grid {
                axes: axes
                    .iter()
                    .map(|axis| v1::Axis { name: axis.name.clone(), values: axis.values.clone() })
                    .collect(),
            }),
            SplitFile::Module {} => Kind::Module(v1::ModuleSplit {}),
        };
        let reduce = match self.reduce {
            ReduceFile::Tree => v1::Reduce::Tree,
            ReduceFile::None => v1::Reduce::None,
        };
        Ok(v1::JobSpec {
            display_name: self.name.clone(),
            module: Some(input(&file_name(&self.module), &self.module)?),
            inputs: self.inputs.iter().map(|(name, path)| input(name, path)).collect::<Result<_, E>>()?,
            split: Some(v1::Split { kind: Some(split) }),
            items_per_unit: self.items_per_unit,
            pilot_units: self.pilot_units,
            reduce: reduce.into(),
            merge_fan_in: self.merge_fan_in,
            copies: self.copies,
            max_error: self.max_error,
            max_answer_error: self.max_answer_error,
            allow_missing: self.allow_missing,
            item_price: self.pay.item_price.clone(),
            service_price: self.pay.service_price.clone(),
            budget: self.pay.budget.clone(),
            currency: self.pay.currency.clone(),
            priority: self.priority,
            limits: Some(v1::Limits {
                memory_bytes: self.limits.memory_mib.saturating_mul(MIB),
                unit_secs: self.limits.unit_secs,
                result_bytes: self.limits.result_mib.saturating_mul(MIB),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = r#"
        module = "m.wasm"
        inputs = { expression = "data/golub.csv" }
        split.range = { end = 1_203_322_288 }
        items_per_unit = 500_000
        pay = { item_price = "0.000001" }
    "#;

    #[test]
    fn a_job_file_becomes_a_job() {
        let file: JobFile = toml::from_str(STUDY).expect("a job file");
        let spec = file
            .to_proto(|path| {
                Ok::<_, ()>(v1::Input {
                    name: path.display().to_string(),
                    digest: vec![0; 32],
                    size_bytes: 1,
                })
            })
            .expect("a job");
        assert_eq!(spec.inputs[0].name, "expression");
        let checked = crate::Spec::check(&spec).expect("a valid job");
        assert_eq!(checked.split, crate::Split::Range { start: 0, end: 1_203_322_288 });
    }

    #[test]
    fn wrong_keys_are_named() {
        let check = |change: (&str, &str), expected: &str| {
            let error = toml::from_str::<JobFile>(&STUDY.replace(change.0, change.1))
                .expect_err(expected)
                .to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(("items_per_unit", "item_per_unit"), "unknown field `item_per_unit`, expected one of");
        check(("item_price", "price"), "unknown field `price`");
        check(("split.range", "split.rang"), "unknown variant `rang`");
        check(("\"0.000001\"", "0.000001"), "expected an amount in quotes, like \"0.01\"");
        check(("module = \"m.wasm\"", ""), "missing field `module`");
        check(("end = 1_203_322_288", "end = -1"), "invalid value");
    }
}
