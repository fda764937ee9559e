//! Bytes by digest, durable before they are acknowledged. What a blob means, and who may see it, is decided elsewhere.

use std::path::Path;
use std::sync::Arc;

use lull_job::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

/// Why a blob could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed: a full disk, a vanished folder.
    #[error("blob store: {0}")]
    Store(#[from] object_store::Error),
    /// The bytes are not those of the digest.
    #[error("the content has another BLAKE3 digest than {0}: it changed on the way, send it again")]
    WrongDigest(Digest),
    /// More or fewer bytes than announced.
    #[error("the content is not the {0} bytes that were announced: send it again")]
    WrongSize(u64),
}

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// The blobs in a folder of this machine, which is created if need be.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let store = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Begins to keep a blob.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn writer(&self, digest: Digest, size_bytes: u64) -> Result<Writer, Error> {
        let upload = self.store.put_multipart(&key(digest)).await?;
        Ok(Writer { digest, size_bytes, written_bytes: 0, hasher: blake3::Hasher::new(), upload })
    }

    /// The content of a blob.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn read(&self, digest: Digest) -> Result<bytes::Bytes, Error> {
        Ok(self.store.get(&key(digest)).await?.bytes().await?)
    }

    /// The content of a blob, in pieces.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn stream(
        &self,
        digest: Digest,
    ) -> Result<impl tokio_stream::Stream<Item = object_store::Result<bytes::Bytes>> + use<>, Error> {
        Ok(self.store.get(&key(digest)).await?.into_stream())
    }
}

/// A blob on its way into the store. Dropped before it is finished, it leaves nothing that can be read.
pub struct Writer {
    digest: Digest,
    size_bytes: u64,
    written_bytes: u64,
    hasher: blake3::Hasher,
    upload: Box<dyn MultipartUpload>,
}

impl Writer {
    /// Appends a piece.
    ///
    /// # Errors
    /// When there is more than was announced, or the store fails.
    pub async fn write(&mut self, piece: bytes::Bytes) -> Result<(), Error> {
        self.written_bytes += piece.len() as u64;
        if self.written_bytes > self.size_bytes {
            self.upload.abort().await?;
            return Err(Error::WrongSize(self.size_bytes));
        }
        self.hasher.update(&piece);
        self.upload.put_part(PutPayload::from_bytes(piece)).await?;
        Ok(())
    }

    /// Makes the blob durable, once it is what was announced.
    ///
    /// # Errors
    /// When the bytes are not those of the digest, or the store fails.
    pub async fn finish(mut self) -> Result<(), Error> {
        let problem = if self.written_bytes != self.size_bytes {
            Some(Error::WrongSize(self.size_bytes))
        } else if Digest::from(self.hasher.finalize()) != self.digest {
            Some(Error::WrongDigest(self.digest))
        } else {
            None
        };
        if let Some(problem) = problem {
            self.upload.abort().await?;
            return Err(problem);
        }
        self.upload.complete().await?;
        Ok(())
    }
}

/// Two levels, so that no folder holds millions of files.
fn key(digest: Digest) -> Key {
    let hex = digest.to_string();
    Key::from(format!("{}/{}", &hex[..2], &hex[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(blobs: &Blobs, digest: Digest, size: u64, content: &'static [u8]) -> Result<(), Error> {
        let mut writer = blobs.writer(digest, size).await?;
        writer.write(bytes::Bytes::from_static(content)).await?;
        writer.finish().await
    }

    #[tokio::test]
    async fn only_what_was_announced_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"content");
        assert!(matches!(put(&blobs, digest, 7, b"other!!").await, Err(Error::WrongDigest(_))));
        assert!(matches!(put(&blobs, digest, 6, b"content").await, Err(Error::WrongSize(6))));
        assert!(matches!(put(&blobs, digest, 8, b"content").await, Err(Error::WrongSize(8))));
        assert!(blobs.read(digest).await.is_err(), "nothing may be left of these");
        for _ in 0..2 {
            put(&blobs, digest, 7, b"content").await.unwrap();
        }
        assert_eq!(&blobs.read(digest).await.unwrap()[..], b"content");
        let empty = Digest::of(b"");
        put(&blobs, empty, 0, b"").await.unwrap();
        assert_eq!(blobs.read(empty).await.unwrap().len(), 0);
    }
}
