//! Who this device is: a key made at enrolment, and the proof of it in every call.

use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use lull_job::Digest;
use serde::{Deserialize, Serialize};

use crate::core::UnitName;
use crate::files::write_durably;
use crate::state_dir::{self, StateDir};

/// How long an assertion is good for; the coordinator allows five minutes, clocks differ a little.
pub const ASSERTION_SECS: u64 = 290;
/// A new assertion is made when the last one is this old.
pub const ASSERTION_RENEW_SECS: u64 = 240;

/// What a device remembers of its enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Number of the device.
    pub device_id: u64,
    /// Names the grid.
    pub grid_id: String,
    /// Whose its earnings are.
    pub owner: String,
    /// Where the coordinator was.
    pub coordinator: String,
}

/// Why the identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is damaged ({problem}): move the state directory away and enrol again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The device's key, and who it is with it.
#[derive(Debug, Clone)]
pub struct Identity {
    key: SigningKey,
    /// Its enrolment.
    pub enrolment: Enrolment,
}

impl Identity {
    /// Who a device is with that key.
    #[must_use]
    pub const fn with_key(key: SigningKey, enrolment: Enrolment) -> Self {
        Self { key, enrolment }
    }

    /// This device's signature over a checkpoint that it made.
    #[must_use]
    pub fn sign_checkpoint(
        &self,
        unit: &UnitName,
        steps: u64,
        state_digest: Digest,
        blob_digest: Digest,
    ) -> Vec<u8> {
        let grid_id = &self.enrolment.grid_id;
        let UnitName { job_id, stage, index, .. } = unit;
        let stage = stage.code();
        let text = format!(
            "lull.v1 checkpoint\n{grid_id}\n{job_id}\n{stage}\n{index}\n{steps}\n{state_digest}\n{blob_digest}"
        );
        self.key.sign(text.as_bytes()).to_bytes().to_vec()
    }

    /// The identity of a device that has enrolled; `None` if it has not.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read(state: &StateDir) -> Result<Option<Self>, Error> {
        Self::read_in(state.path())
    }

    /// The same, of a state directory that this process does not hold.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged.
    pub fn read_in(state_dir: &Path) -> Result<Option<Self>, Error> {
        let path = state_dir::identity(state_dir);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        let enrolment = serde_json::from_slice(&text)
            .map_err(|error| Error::Damaged { path, problem: error.to_string() })?;
        let path = state_dir::key(state_dir);
        let Some(key) = read_key(&path)? else {
            return Err(Error::Damaged { path, problem: "it is missing".to_owned() });
        };
        Ok(Some(Self { key, enrolment }))
    }

    /// Keeps a new enrolment.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(state: &StateDir, key: SigningKey, enrolment: Enrolment) -> Result<Self, Error> {
        let path = state.identity();
        let text = serde_json::to_vec_pretty(&enrolment)
            .map_err(|error| Error::Damaged { path: path.clone(), problem: error.to_string() })?;
        write_durably(&path, &text).map_err(|source| Error::File { path, source })?;
        Ok(Self { key, enrolment })
    }

    /// The `authorization` header of a call, good until `expiry`.
    #[must_use]
    pub fn assertion(&self, expiry_unix_secs: u64) -> String {
        let Enrolment { device_id, grid_id, .. } = &self.enrolment;
        let text = format!("lull.v1 device assertion\n{device_id}\n{expiry_unix_secs}\n{grid_id}");
        let signature = self.key.sign(text.as_bytes());
        format!("Lull-Device {device_id}.{expiry_unix_secs}.{}", hex::encode(signature.to_bytes()))
    }
}

/// The device's key; made, and on disk, before it is used for the first time.
///
/// # Errors
/// When it cannot be read, made or written.
pub fn key_for_enrolment(state: &StateDir) -> Result<SigningKey, Error> {
    if let Some(key) = read_key(&state.key())? {
        return Ok(key);
    }
    let key = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    let path = state.key();
    write_durably(&path, key.as_bytes()).map_err(|source| Error::File { path, source })?;
    Ok(key)
}

/// Shows that the caller of an enrolment has the key: a signature over its token.
#[must_use]
pub fn enrolment_proof(key: &SigningKey, enrolment_token: &str) -> Vec<u8> {
    key.sign(format!("lull.v1 enrolment\n{enrolment_token}").as_bytes()).to_bytes().to_vec()
}

fn read_key(path: &Path) -> Result<Option<SigningKey>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) => Ok(Some(SigningKey::from_bytes(&bytes))),
            Err(bytes) => {
                let problem = format!("{} bytes instead of 32", bytes.len());
                Err(Error::Damaged { path: path.to_owned(), problem })
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Verifier as _};

    use super::*;

    fn enrolment() -> Enrolment {
        Enrolment {
            device_id: 7,
            grid_id: "grid-1".to_owned(),
            owner: "owners/ada".to_owned(),
            coordinator: "http://127.0.0.1:1".to_owned(),
        }
    }

    #[test]
    fn an_identity_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert!(Identity::read(&state).unwrap().is_none());
        let key = key_for_enrolment(&state).unwrap();
        assert_eq!(key_for_enrolment(&state).unwrap(), key, "an enrolment that was cut off keeps its key");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(state.key()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let identity = Identity::create(&state, key, enrolment()).unwrap();
        let again = Identity::read(&state).unwrap().unwrap();
        assert_eq!(again.enrolment, enrolment());
        assert_eq!(again.assertion(5), identity.assertion(5));
    }

    #[test]
    fn assertions_and_proofs_can_be_verified() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let identity = Identity { key: key.clone(), enrolment: enrolment() };
        let assertion = identity.assertion(1_700_000_000);
        let rest = assertion.strip_prefix("Lull-Device 7.1700000000.").unwrap();
        let verify = |text: &str, bytes: &[u8]| {
            let signature = Signature::from_slice(bytes).unwrap();
            key.verifying_key().verify(text.as_bytes(), &signature).unwrap();
        };
        verify("lull.v1 device assertion\n7\n1700000000\ngrid-1", &hex::decode(rest).unwrap());
        verify("lull.v1 enrolment\nsecret", &enrolment_proof(&key, "secret"));
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        std::fs::write(state.identity(), "{").unwrap();
        let error = Identity::read(&state).expect_err("not JSON").to_string();
        assert!(error.contains("identity.json is damaged") && error.contains("enrol again"), "{error}");
        Identity::create(&state, SigningKey::from_bytes(&[1; 32]), enrolment()).unwrap();
        assert!(Identity::read(&state).expect_err("no key").to_string().contains("it is missing"));
        std::fs::write(state.key(), "short").unwrap();
        assert!(Identity::read(&state).expect_err("short").to_string().contains("5 bytes instead of 32"));
    }
}
