//! The folder of checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lull_job::Digest;
use lull_sandbox::checkpoint::{Image, StateDigest};

use super::Saved;
use crate::core::UnitName;
use crate::files::{TEMPORARY_PREFIX, write_durably};
use crate::identity::Identity;

/// A checkpoint that nothing was added to for so long is of no use: leases of its unit have long gone elsewhere, or its job
/// is over. Two weeks.
const UNUSED_MAX: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Bytes of all checkpoints on disk; the oldest go first.
pub const CHECKPOINTS_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What a checkpoint is kept with.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Of the state, by the runner.
    pub state_digest: StateDigest,
    /// The checkpoint of somebody that this run went on from; `None`: it ran from the start.
    pub base: Option<Digest>,
    /// CPU time that the unit has taken on this device.
    pub cpu_micros: u64,
    /// Time that it has run on this device, freezes not counted.
    pub ran: Duration,
    /// States that were asked for, up to here.
    pub witnessed: Vec<(u64, Digest)>,
}

/// The folder of checkpoints, one file for each unit.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    bytes_max: u64,
    identity: Identity,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Size, and number of the last write; greater is later.
    by_name: BTreeMap<String, (u64, u64)>,
    writes: u64,
}

impl Store {
    /// Opens a folder, and removes what a crash left half written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path, bytes_max: u64, identity: Identity) -> io::Result<Self> {
        let mut found: Vec<(SystemTime, String, u64)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if name.starts_with(TEMPORARY_PREFIX) {
                fs::remove_file(entry.path())?;
            } else if metadata.is_file() {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, metadata.len()));
            }
        }
        found.sort_unstable();
        let mut files = Files::default();
        for (_, name, size_bytes) in found {
            files.note(name, size_bytes);
        }
        Ok(Self { folder: folder.to_owned(), bytes_max, identity, files: Mutex::new(files) })
    }

    /// Removes what was written last more than two weeks before `now`.
    pub fn forget_unused(&self, now: SystemTime) {
        let mut files = self.lock();
        let is_unused = |name: &&String| {
            let written = fs::metadata(self.folder.join(name)).and_then(|metadata| metadata.modified());
            written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > UNUSED_MAX))
        };
        for name in files.by_name.keys().filter(is_unused).cloned().collect::<Vec<_>>() {
            self.remove_file(&name, &mut files);
        }
    }

    /// Keeps a checkpoint instead of the unit's last one. After a crash there is the one or the other.
    ///
    /// # Errors
    /// When it does not fit, or the disk does not take it: the last one stays.
    pub fn put(&self, unit: UnitName, image: &Image, facts: Facts) -> io::Result<Saved> {
        let mut file = image.encode()?;
        let (state_digest, blob_digest) = (Digest::from_bytes(facts.state_digest), Digest::of(&file));
        let steps = image.head().steps;
        let saved = Saved {
            unit,
            steps,
            state_digest,
            blob_digest,
            size_bytes: file.len() as u64,
            signature: self.identity.sign_checkpoint(&unit, steps, state_digest, blob_digest),
            base: facts.base,
            cpu_micros: facts.cpu_micros,
            ran: facts.ran,
            witnessed: facts.witnessed,
        };
        saved.seal(&mut file)?;
        let (name, size_bytes) = (name_of(&unit), file.len() as u64);
        self.make_room(&name, size_bytes)?;
        write_durably(&self.folder.join(&name), &file)?;
        self.lock().note(name, size_bytes);
        Ok(saved)
    }

    /// The unit's checkpoint and its state; one that is damaged is removed.
    #[must_use]
    pub fn get(&self, unit: &UnitName) -> Option<(Saved, Vec<u8>)> {
        let file = fs::read(self.folder.join(name_of(unit))).ok()?;
        match Saved::open(file).filter(|(saved, _)| saved.unit == *unit) {
            Some(found) => Some(found),
            None => {
                tracing::warn!(?unit, "a checkpoint is damaged; it is not used");
                self.remove(unit);
                None
            }
        }
    }

    /// Whether there is a checkpoint of that unit, sound or not.
    #[must_use]
    pub fn has(&self, unit: &UnitName) -> bool {
        self.lock().by_name.contains_key(&name_of(unit))
    }

    /// Removes the unit's checkpoint, if there is one.
    pub fn remove(&self, unit: &UnitName) {
        self.remove_file(&name_of(unit), &mut self.lock());
    }

    /// Removes the oldest of other units until there is room.
    fn make_room(&self, name: &str, size_bytes: u64) -> io::Result<()> {
        let mut files = self.lock();
        if size_bytes > self.bytes_max {
            let problem = format!("{size_bytes} bytes, more than all checkpoints may take");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        loop {
            let others = files.by_name.iter().filter(|(other, _)| *other != name);
            let bytes: u64 = others.clone().map(|(_, (size_bytes, _))| size_bytes).sum();
            if bytes + size_bytes <= self.bytes_max {
                return Ok(());
            }
            let Some((oldest, _)) = others.min_by_key(|(_, (_, written))| written) else { return Ok(()) };
            let oldest = oldest.clone();
            self.remove_file(&oldest, &mut files);
        }
    }

    fn remove_file(&self, name: &str, files: &mut Files) {
        files.by_name.remove(name);
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(name, %error, "a checkpoint cannot be removed");
            }
            _ => {}
        }
    }

    /// A thread that panicked while it held the lock left sizes that are at worst a little wrong.
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn note(&mut self, name: String, size_bytes: u64) {
        self.writes += 1;
        self.by_name.insert(name, (size_bytes, self.writes));
    }
}

fn name_of(unit: &UnitName) -> String {
    let UnitName { job_id, stage, index, made_of } = unit;
    format!("{job_id}-{}-{index}-{made_of}", stage.code())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, SigningKey, Verifier as _};
    use lull_job::Stage;

    use super::*;
    use crate::identity::Enrolment;

    fn identity() -> Identity {
        let enrolment = Enrolment {
            device_id: 7,
            grid_id: "grid-1".to_owned(),
            owner: "owners/ada".to_owned(),
            coordinator: "http://127.0.0.1:1".to_owned(),
        };
        Identity::with_key(SigningKey::from_bytes(&[7; 32]), enrolment)
    }

    fn unit(index: u64) -> UnitName {
        UnitName { job_id: 3, stage: Stage::Work, index, made_of: Digest::of(b"module") }
    }

    fn facts() -> Facts {
        Facts {
            state_digest: [5; 32],
            base: Some(Digest::of(b"base")),
            cpu_micros: 11,
            ran: Duration::from_millis(12),
            witnessed: vec![(2, Digest::of(b"two"))],
        }
    }

    fn open(bytes_max: u64) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), bytes_max, identity()).unwrap();
        (folder, store)
    }

    #[test]
    fn checkpoints_outlive_the_process_and_are_signed() {
        let (folder, store) = open(10_000);
        let image = Image::default();
        let saved = store.put(unit(1), &image, facts()).unwrap();
        drop(store);
        let store = Store::open(folder.path(), 10_000, identity()).unwrap();
        let (again, state) = store.get(&unit(1)).unwrap();
        assert_eq!(again, saved);
        assert_eq!(Image::decode(&state, 0).unwrap(), image);
        assert_eq!(Digest::of(&state), saved.blob_digest);
        let [a, b] = [saved.state_digest, saved.blob_digest];
        let text = format!("lull.v1 checkpoint\ngrid-1\n3\n{}\n1\n0\n{a}\n{b}", Stage::Work.code());
        let signature = Signature::from_slice(&saved.to_proto().signature).unwrap();
        SigningKey::from_bytes(&[7; 32]).verifying_key().verify(text.as_bytes(), &signature).unwrap();
        store.remove(&unit(1));
        assert!(store.get(&unit(1)).is_none() && !store.has(&unit(1)));
    }

    #[test]
    fn what_nobody_came_back_to_goes_and_the_rest_stays() {
        let (folder, store) = open(10_000);
        store.put(unit(1), &Image::default(), facts()).unwrap();
        store.put(unit(2), &Image::default(), facts()).unwrap();
        let written = fs::metadata(folder.path().join(name_of(&unit(2)))).unwrap().modified().unwrap();
        let long_ago = written - UNUSED_MAX;
        let file = fs::File::options().write(true).open(folder.path().join(name_of(&unit(1)))).unwrap();
        file.set_modified(long_ago).unwrap();
        // Nothing removes a file on Windows that is open.
        drop(file);
        store.forget_unused(written + Duration::from_secs(1));
        assert!(!store.has(&unit(1)) && store.get(&unit(2)).is_some());
        assert!(!folder.path().join(name_of(&unit(1))).exists());
    }

    #[test]
    fn a_state_of_another_line_is_no_good_for_a_lease() {
        let (_folder, store) = open(10_000);
        let saved = store.put(unit(1), &Image::default(), facts()).unwrap();
        let (base, other) = (Digest::of(b"base"), Digest::of(b"other"));
        assert!(saved.is_good_for(Some(base)) && !saved.is_good_for(Some(other)) && !saved.is_good_for(None));
        let from_start = Facts { base: None, ..facts() };
        assert!(store.put(unit(1), &Image::default(), from_start).unwrap().is_good_for(None));
    }

    #[test]
    fn a_damaged_file_is_noticed_wherever_it_is() {
        let (folder, store) = open(10_000);
        store.put(unit(1), &Image::default(), facts()).unwrap();
        let path = folder.path().join(name_of(&unit(1)));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(store.get(&unit(1)).is_none(), "bit flipped in byte {at}");
            assert!(!path.exists());
            fs::write(&path, &whole[..at]).unwrap();
            assert!(store.get(&unit(1)).is_none(), "cut at {at}");
        }
        fs::write(folder.path().join(name_of(&unit(2))), &whole).unwrap();
        assert!(store.get(&unit(2)).is_none(), "another unit's");
    }

    #[test]
    fn the_oldest_of_other_units_make_room() {
        let (folder, store) = open(10_000);
        store.put(unit(0), &Image::default(), facts()).unwrap();
        let size_bytes = fs::metadata(folder.path().join(name_of(&unit(0)))).unwrap().len();
        drop(store);
        fs::write(folder.path().join(".tmp-x"), "half written").unwrap();
        let store = Store::open(folder.path(), 3 * size_bytes, identity()).unwrap();
        assert!(!folder.path().join(".tmp-x").exists());
        for index in [1, 2, 0, 3] {
            store.put(unit(index), &Image::default(), facts()).unwrap();
        }
        let kept: Vec<_> = (0..4).filter(|index| store.get(&unit(*index)).is_some()).collect();
        assert_eq!(kept, [0, 2, 3]);
        let store = Store::open(folder.path(), size_bytes - 1, identity()).unwrap();
        assert!(store.put(unit(9), &Image::default(), facts()).is_err(), "larger than everything");
    }

    #[test]
    fn a_folder_that_cannot_be_written_keeps_the_last_one() {
        let (folder, store) = open(10_000);
        drop(folder);
        assert!(store.put(unit(1), &Image::default(), facts()).is_err());
        assert!(store.get(&unit(1)).is_none());
    }
}
