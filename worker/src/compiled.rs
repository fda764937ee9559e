//! Compiled modules on disk, so that a lease does not begin with compiling what this PC has compiled before.
//!
//! A compile-only runner (`lull_sandbox::compile`) makes them, this process writes them, and guests have no file system.
//! A file is named by what it was made from (the module's digest, the flavour and which runner binary) and begins with a BLAKE3
//! of name and content keyed with a secret of the state directory: one that is torn, damaged, foreign or of another
//! module is not used. That it fits the engine's version, its settings and the CPU is checked by the engine itself.
//!
//! A compiler that a module has taken over can return any code. It gains nothing: that code is run only as that
//! module, behind the walls that hold when a guest of that module breaks out.
//!
//! Nothing here has to be there: what cannot be read or written is compiled again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use lull_job::Digest;
use lull_sandbox::Flavour;

use crate::cache::touch;
use crate::files::{TEMPORARY_PREFIX, write_durably, write_quickly};

/// Bytes of disk for compiled modules: many, as one takes a few times its module.
pub const COMPILED_BYTES_MAX: u64 = 1 << 30;

/// File of the secret.
const SECRET: &str = "secret";

/// Bytes of a hash, and of the secret.
const HASH_BYTES: usize = blake3::OUT_LEN;

/// Compiled modules on disk, up to a size; the least recently used go first.
#[derive(Debug)]
pub struct Compiled {
    folder: PathBuf,
    /// Which runner binary they are for.
    runner: blake3::Hash,
    secret: Secret,
    bytes_max: u64,
    /// Held while something is written or removed.
    writing: Mutex<()>,
}

/// Not for logs.
struct Secret([u8; HASH_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Compiled {
    /// Opens a folder for what this runner binary compiles.
    ///
    /// # Errors
    /// When it cannot be read, or its secret cannot be written.
    pub fn open(folder: &Path, runner: &Path, bytes_max: u64) -> io::Result<Self> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        let metadata = fs::metadata(runner)?;
        let made = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let runner = format!("{} {} {}", runner.display(), metadata.len(), made.as_nanos());
        let compiled = Self {
            folder: folder.to_owned(),
            runner: blake3::hash(runner.as_bytes()),
            secret: Secret(secret(&folder.join(SECRET))?),
            bytes_max,
            writing: Mutex::new(()),
        };
        compiled.evict();
        Ok(compiled)
    }

    /// What was compiled from a module in this flavour, if it is here and whole; what is not is removed.
    #[must_use]
    pub fn get(&self, module: Digest, flavour: Flavour) -> Option<Vec<u8>> {
        let path = self.path(module, flavour);
        let mut bytes = fs::read(&path).ok()?;
        let (seal, artefact) = bytes.split_first_chunk::<HASH_BYTES>().unwrap_or((&[0; HASH_BYTES], &[]));
        if self.seal(module, flavour, artefact) != blake3::Hash::from_bytes(*seal) {
            tracing::warn!(%module, "a compiled module is damaged; it is compiled again");
            self.remove(module, flavour);
            return None;
        }
        touch(&path);
        bytes.drain(..HASH_BYTES);
        Some(bytes)
    }

    /// Keeps what was compiled from a module, if it can be kept.
    pub fn put(&self, module: Digest, flavour: Flavour, artefact: &[u8]) {
        let mut bytes = self.seal(module, flavour, artefact).as_bytes().to_vec();
        bytes.extend_from_slice(artefact);
        if bytes.len() as u64 > self.bytes_max {
            return;
        }
        if let Err(error) = write_quickly(&self.path(module, flavour), &bytes) {
            tracing::warn!(%module, %error, "a compiled module cannot be kept; it will have to be compiled again");
        }
        self.evict();
    }

    /// Forgets what was compiled from a module.
    pub fn remove(&self, module: Digest, flavour: Flavour) {
        let _ = fs::remove_file(self.path(module, flavour));
    }

    /// Removes the least recently used until the rest fits. What cannot be listed or removed is tried again later.
    fn evict(&self) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_entry = entry.file_name().to_string_lossy().parse::<Digest>().is_ok();
            if let (true, Ok(metadata)) = (is_entry, entry.metadata()) {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((used, metadata.len(), entry.path()));
            }
        }
        found.sort_unstable();
        let mut bytes: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, size_bytes, path) in found {
            if bytes <= self.bytes_max {
                return;
            }
            let _ = fs::remove_file(path);
            bytes -= size_bytes;
        }
    }

    fn key(&self, module: Digest, flavour: Flavour) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let kind: &[u8] = match flavour {
            Flavour::Normal => b"lull.v1 compiled\n",
            Flavour::Strict => b"lull.v1 compiled strict\n",
        };
        hasher.update(kind).update(module.as_bytes()).update(self.runner.as_bytes());
        hasher.finalize()
    }

    fn seal(&self, module: Digest, flavour: Flavour, artefact: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret.0);
        hasher.update(self.key(module, flavour).as_bytes()).update(artefact);
        hasher.finalize()
    }

    fn path(&self, module: Digest, flavour: Flavour) -> PathBuf {
        self.folder.join(self.key(module, flavour).to_hex().as_str())
    }
}

/// Reads the secret, or makes one: with a new one nothing that is there is used any more.
fn secret(path: &Path) -> io::Result<[u8; HASH_BYTES]> {
    if let Some(secret) = fs::read(path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(secret);
    }
    let secret: [u8; HASH_BYTES] = rand::random();
    write_durably(path, &secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, bytes_max: u64) -> Compiled {
        Compiled::open(folder, &std::env::current_exe().unwrap(), bytes_max).unwrap()
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| !path.ends_with(SECRET)).collect()
    }

    #[test]
    fn what_was_compiled_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let module = Digest::of(b"module");
        assert_eq!(open(folder.path(), 1000).get(module, Flavour::Normal), None);
        open(folder.path(), 1000).put(module, Flavour::Normal, b"code");
        assert_eq!(open(folder.path(), 1000).get(module, Flavour::Normal).as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn what_is_damaged_foreign_or_of_another_module_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = open(folder.path(), 1000);
        let (module, other) = (Digest::of(b"module"), Digest::of(b"other"));
        compiled.put(other, Flavour::Normal, b"other code");
        let foreign = fs::read(compiled.path(other, Flavour::Normal)).unwrap();
        for (byte, cut) in [(0, 36), (35, 36), (36, 35), (36, 31), (36, 0)] {
            compiled.put(module, Flavour::Normal, b"code");
            let mut bytes = fs::read(compiled.path(module, Flavour::Normal)).unwrap();
            bytes.iter_mut().skip(byte).take(1).for_each(|byte| *byte ^= 1);
            fs::write(compiled.path(module, Flavour::Normal), &bytes[..cut]).unwrap();
            assert_eq!(compiled.get(module, Flavour::Normal), None, "byte {byte}, cut at {cut}");
            assert!(!compiled.path(module, Flavour::Normal).exists());
        }
        fs::write(compiled.path(module, Flavour::Normal), foreign).unwrap();
        assert_eq!(compiled.get(module, Flavour::Normal), None, "another module's");
        compiled.put(module, Flavour::Normal, b"code");
        fs::write(folder.path().join(SECRET), [7; HASH_BYTES]).unwrap();
        assert_eq!(open(folder.path(), 1000).get(module, Flavour::Normal), None, "another PC's");
    }

    #[test]
    fn each_flavour_is_kept_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = open(folder.path(), 1000);
        let module = Digest::of(b"module");
        compiled.put(module, Flavour::Normal, b"code");
        assert_eq!(compiled.get(module, Flavour::Strict), None);
        compiled.put(module, Flavour::Strict, b"strict code");
        assert_eq!(compiled.get(module, Flavour::Normal).as_deref(), Some(&b"code"[..]));
        fs::copy(compiled.path(module, Flavour::Normal), compiled.path(module, Flavour::Strict)).unwrap();
        assert_eq!(compiled.get(module, Flavour::Strict), None, "it is sealed for the other");
    }

    #[test]
    fn another_runner_binary_compiles_anew() {
        let folder = tempfile::tempdir().unwrap();
        let module = Digest::of(b"module");
        open(folder.path(), 1000).put(module, Flavour::Normal, b"code");
        let other = folder.path().join("lull-runner");
        fs::write(&other, "another").unwrap();
        assert_eq!(Compiled::open(folder.path(), &other, 1000).unwrap().get(module, Flavour::Normal), None);
    }

    #[test]
    fn the_size_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = open(folder.path(), 300);
        for number in 0..4_u8 {
            compiled.put(Digest::of(&[number]), Flavour::Normal, &[number; 68]);
        }
        assert_eq!(entries(folder.path()).len(), 3, "at the limit nothing goes");
        compiled.put(Digest::of(b"large"), Flavour::Normal, &[0; 269]);
        assert_eq!(
            compiled.get(Digest::of(b"large"), Flavour::Normal),
            None,
            "one past the limit is not kept"
        );
    }

    #[test]
    fn what_cannot_be_written_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compiled");
        fs::create_dir(&path).unwrap();
        let compiled = open(&path, 1000);
        fs::remove_dir_all(&path).unwrap();
        compiled.put(Digest::of(b"module"), Flavour::Normal, b"code");
        assert_eq!(compiled.get(Digest::of(b"module"), Flavour::Normal), None);
    }
}
