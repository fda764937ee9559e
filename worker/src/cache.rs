//! Modules and inputs by digest, on disk, up to a size.
//!
//! What is read is verified, so that nothing here has to be durable or trusted. What is in memory is shared:
//! two runners of one job hold one copy of its inputs, and the file of it is not evicted.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use lull_job::Digest;

use crate::files::{TEMPORARY_PREFIX, write_quickly};

/// Bytes that many hold.
pub type Bytes = Arc<Vec<u8>>;

/// Blobs on disk, up to a size; the least recently used go first.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Digest, Entry>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    size_bytes: u64,
    /// Number of the last use; greater is later.
    used: u64,
    in_memory: Weak<Vec<u8>>,
}

impl Cache {
    /// Opens a folder, and removes what does not belong there or is too much.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut found: Vec<(SystemTime, Digest, u64)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if let Ok(digest) = name.parse::<Digest>() {
                found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, metadata.len()));
            } else if name.starts_with(TEMPORARY_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        found.sort_unstable();
        let mut state = State::default();
        for (_, digest, size_bytes) in found {
            state.insert(digest, size_bytes, Weak::new());
        }
        let cache = Self { folder: folder.to_owned(), bytes_max, state: Mutex::new(state) };
        cache.evict(&mut cache.lock());
        Ok(cache)
    }

    /// The blob, if it is here and is what its name says; one that is not is removed.
    #[must_use]
    pub fn get(&self, digest: Digest) -> Option<Bytes> {
        {
            let mut state = self.lock();
            state.uses += 1;
            let used = state.uses;
            let entry = state.entries.get_mut(&digest)?;
            entry.used = used;
            if let Some(bytes) = entry.in_memory.upgrade() {
                return Some(bytes);
            }
        }
        let path = self.path(digest);
        let bytes = fs::read(&path).ok().filter(|bytes| Digest::of(bytes) == digest).map(Arc::new);
        let mut state = self.lock();
        if let Some(bytes) = bytes {
            if let Some(entry) = state.entries.get_mut(&digest) {
                entry.in_memory = Arc::downgrade(&bytes);
            }
            touch(&path);
            Some(bytes)
        } else {
            tracing::warn!(%digest, "a cached blob is damaged or gone; it is fetched again");
            self.remove(&mut state, digest);
            None
        }
    }

    /// Keeps a blob, and gives it back to be used. Too large a one is not kept; one that cannot be written
    /// is used all the same.
    pub fn put(&self, digest: Digest, bytes: Vec<u8>) -> Bytes {
        let bytes = Arc::new(bytes);
        let size_bytes = bytes.len() as u64;
        if size_bytes > self.bytes_max {
            return bytes;
        }
        if let Err(error) = write_quickly(&self.path(digest), &bytes) {
            tracing::warn!(%digest, %error, "a blob cannot be cached; it will have to be fetched again");
            return bytes;
        }
        let mut state = self.lock();
        state.insert(digest, size_bytes, Arc::downgrade(&bytes));
        self.evict(&mut state);
        bytes
    }

    /// Removes the least recently used until the rest fits; what is in use stays.
    fn evict(&self, state: &mut State) {
        while state.bytes > self.bytes_max {
            let unused = state.entries.iter().filter(|(_, entry)| entry.in_memory.strong_count() == 0);
            let Some((digest, _)) = unused.min_by_key(|(_, entry)| entry.used) else { return };
            let digest = *digest;
            self.remove(state, digest);
        }
    }

    fn remove(&self, state: &mut State, digest: Digest) {
        if let Some(entry) = state.entries.remove(&digest) {
            state.bytes -= entry.size_bytes;
        }
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%digest, %error, "a cached blob cannot be removed");
            }
            _ => {}
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }

    /// A thread that panicked while it held the lock left a cache that is at worst a little wrong.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, digest: Digest, size_bytes: u64, in_memory: Weak<Vec<u8>>) {
        self.uses += 1;
        let entry = Entry { size_bytes, used: self.uses, in_memory };
        if let Some(before) = self.entries.insert(digest, entry) {
            self.bytes -= before.size_bytes;
        }
        self.bytes += size_bytes;
    }
}

/// Marks a file as used now, so that the order of uses outlives the process; not worth an error.
pub(crate) fn touch(path: &Path) {
    #[allow(clippy::disallowed_methods, reason = "the time of a file, compared with other files' only")]
    let now = SystemTime::now();
    let _ = File::open(path).and_then(|file| file.set_times(FileTimes::new().set_modified(now)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(fill: u8) -> (Digest, Vec<u8>) {
        let bytes = vec![fill; 100];
        (Digest::of(&bytes), bytes)
    }

    fn open(bytes_max: u64) -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), bytes_max).unwrap();
        (folder, cache)
    }

    #[test]
    fn blobs_outlive_the_process() {
        let (folder, cache) = open(1000);
        let (digest, bytes) = blob(1);
        assert_eq!(cache.get(digest), None);
        assert_eq!(*cache.put(digest, bytes.clone()), bytes);
        let again = Cache::open(folder.path(), 1000).unwrap();
        assert_eq!(again.get(digest).as_deref(), Some(&bytes));
    }

    #[test]
    fn two_users_share_one_copy() {
        let (_folder, cache) = open(1000);
        let (digest, bytes) = blob(1);
        let first = cache.put(digest, bytes);
        let second = cache.get(digest).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn damaged_and_torn_blobs_are_not_used() {
        let (folder, cache) = open(1000);
        for damage in [&b"wrong"[..], &[1; 99], b""] {
            let (digest, bytes) = blob(1);
            drop(cache.put(digest, bytes));
            let path = folder.path().join(digest.to_string());
            fs::write(&path, damage).unwrap();
            assert_eq!(cache.get(digest), None);
            assert!(!path.exists());
            assert_eq!(cache.lock().bytes, 0);
        }
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let (folder, cache) = open(300);
        let blobs: Vec<_> = (0..4).map(blob).collect();
        for (digest, bytes) in &blobs[..3] {
            drop(cache.put(*digest, bytes.clone()));
        }
        assert!(cache.get(blobs[0].0).is_some(), "at the limit nothing goes");
        drop(cache.put(blobs[3].0, blobs[3].1.clone()));
        assert!(cache.get(blobs[1].0).is_none());
        for kept in [0, 2, 3] {
            assert!(cache.get(blobs[kept].0).is_some(), "{kept}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_is_in_use_stays() {
        let (_folder, cache) = open(100);
        let [(a, a_bytes), (b, b_bytes)] = [blob(1), blob(2)];
        let used = cache.put(a, a_bytes);
        drop(cache.put(b, b_bytes.clone()));
        assert!(cache.get(a).is_some());
        drop(used);
        drop(cache.put(b, b_bytes));
        assert!(cache.get(a).is_none());
    }

    #[test]
    fn a_blob_larger_than_the_cache_is_used_and_not_kept() {
        let (folder, cache) = open(99);
        let (digest, bytes) = blob(1);
        assert_eq!(*cache.put(digest, bytes.clone()), bytes);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_smaller_cap_evicts_at_start_and_scraps_go() {
        let (folder, cache) = open(1000);
        for (digest, bytes) in (0..4).map(blob) {
            drop(cache.put(digest, bytes));
        }
        fs::write(folder.path().join(".tmp-x"), "").unwrap();
        drop(Cache::open(folder.path(), 250).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
