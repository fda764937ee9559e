//! From a job file and the flags that change it to a checked job and the files that belong to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use lull_job::limits::{INPUT_BYTES_MAX, MODULE_BYTES_MAX};
use lull_job::{Digest, JobFile, ModuleError, ModuleKind, Spec, SplitFile, check_module};
use lull_proto::v1;

use crate::error::{Error, Result};
use crate::text::name;

/// Flags that change how a job is cut.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Cut {
    /// Replace the range of a range split: the integers from A, without B
    #[arg(long, value_name = "A..B", value_parser = name::items)]
    items: Option<Range<u64>>,
    /// Items in one unit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    items_per_unit: Option<u64>,
}

impl Cut {
    /// Changes the job file.
    ///
    /// # Errors
    /// When a range is given to a job that does not split by range.
    pub(crate) fn apply(&self, file: &mut JobFile) -> Result<()> {
        if let Some(items) = &self.items {
            let SplitFile::Range { start, end } = &mut file.split else {
                return Err(Error::usage(
                    "--items replaces the range of a range split, and this job splits otherwise",
                ));
            };
            (*start, *end) = (items.start, items.end);
        }
        if let Some(items_per_unit) = self.items_per_unit {
            file.items_per_unit = items_per_unit;
        }
        Ok(())
    }
}

/// A file of a job, hashed.
#[derive(Debug, Clone)]
pub(crate) struct JobBlob {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) digest: Digest,
    /// How long it is.
    pub(crate) size_bytes: u64,
}

/// A job that passed every check which needs no coordinator.
#[derive(Debug)]
pub(crate) struct JobInput {
    /// As it goes over the wire.
    pub(crate) message: v1::JobSpec,
    /// With its defaults.
    pub(crate) spec: Spec,
    /// What its module is made for.
    pub(crate) kind: ModuleKind,
    /// Its files by path.
    pub(crate) blobs: BTreeMap<PathBuf, JobBlob>,
}

impl JobInput {
    /// What a submitter has to know of the module before many units of it run.
    pub(crate) const fn warning(&self) -> Option<&'static str> {
        match self.kind {
            ModuleKind::Steps => None,
            ModuleKind::Wasi { .. } => Some(
                "The module is a WASI program, which has no checkpoints: a unit that is interrupted starts from its \
                 beginning. Keep units to minutes (items_per_unit).",
            ),
        }
    }
}

/// Reads and checks a job file.
///
/// # Errors
/// When the file is wrong, or `change` says so.
pub(crate) fn read_file(path: &Path, change: impl FnOnce(&mut JobFile) -> Result<()>) -> Result<JobFile> {
    let mut file = JobFile::read(path).map_err(|error| Error::usage(error.to_string().trim_end()))?;
    change(&mut file)?;
    Ok(file)
}

/// Hashes the files of a job and checks the job and its module.
///
/// # Errors
/// The first file that cannot be read or is too large, a module that no runner takes, a wrong field.
pub(crate) fn check(file: &JobFile) -> Result<JobInput> {
    let module = read_module(&file.module)?;
    let kind =
        check_module(&module).map_err(|error| Error::usage(format!("{}: {error}", file.module.display())))?;
    let mut blobs = BTreeMap::new();
    for (what, path) in file.files() {
        if let Entry::Vacant(entry) = blobs.entry(path) {
            let blob = hash(&what, entry.key())?;
            entry.insert(blob);
        }
    }
    let message = file.to_proto(|path| match blobs.get(path) {
        Some(blob) => Ok(v1::Input {
            name: String::new(),
            digest: blob.digest.as_bytes().to_vec(),
            size_bytes: blob.size_bytes,
        }),
        None => Err(Error::usage(format!("{} is not among the job's files", path.display()))),
    })?;
    let spec = Spec::check(&message).map_err(|error| Error::usage(error.to_string()))?;
    kind.check(&spec).map_err(|error| Error::usage(error.to_string()))?;
    Ok(JobInput { message, spec, kind, blobs })
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let size_bytes = size_of("module", path)?;
    if size_bytes > MODULE_BYTES_MAX {
        let error = ModuleError::TooLarge { size_bytes };
        return Err(Error::usage(format!("{}: {error}", path.display())));
    }
    read("module", path)
}

/// The content of a job's file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unreadable(what, path, &error))
}

fn size_of(what: &str, path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(what, path, &error))?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(Error::usage(format!("{what} {} is not a file", path.display())))
    }
}

fn hash(what: &str, path: &Path) -> Result<JobBlob> {
    let size_bytes = size_of(what, path)?;
    if size_bytes > INPUT_BYTES_MAX {
        return Err(Error::usage(format!(
            "{what} {} has {size_bytes} bytes, more than the {INPUT_BYTES_MAX} allowed: split it into several",
            path.display()
        )));
    }
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(|_| ()))
        .map_err(|error| unreadable(what, path, &error))?;
    let size_bytes = hasher.count();
    Ok(JobBlob { path: path.to_owned(), digest: hasher.finalize().into(), size_bytes })
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job_file(split: &str) -> JobFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        let text = format!("module = \"m.wasm\"\n{split}\npay = {{ item_price = \"1\" }}");
        std::fs::write(&path, text).unwrap();
        read_file(&path, |_| Ok(())).unwrap()
    }

    #[test]
    fn a_cut_replaces_the_range() {
        let mut file = job_file("split.range = { end = 10 }");
        let cut = Cut { items: Some(3..7), items_per_unit: Some(2) };
        cut.apply(&mut file).unwrap();
        assert_eq!(file.split, SplitFile::Range { start: 3, end: 7 });
        assert_eq!(file.items_per_unit, 2);
    }

    #[test]
    fn a_range_fits_no_other_split() {
        let mut file = job_file("split.files = [\"a\"]");
        let error = Cut { items: Some(3..7), items_per_unit: None }.apply(&mut file).unwrap_err();
        assert!(error.message.contains("--items"), "{error}");
    }
}
