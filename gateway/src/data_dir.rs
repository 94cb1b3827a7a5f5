//! The data folder: for its owner alone, one process at a time, and what lies in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rustix::{fs::Mode, process::umask};

/// Why the data folder can't be used, in one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It can't be made or read.
    #[error("setting `data_dir`: {}: {source}", .path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can get at what is in it.
    #[error("setting `data_dir`: {} is open to others (mode {mode:o}); close it by `chmod {wanted:o} {}`", .path.display(), .path.display())]
    Open {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What its mode has to be.
        wanted: u32,
    },
    /// Another process uses it.
    #[error("setting `data_dir`: {} is in use by another weft", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The key's file holds something else.
    #[error("setting `data_dir`: {} does not hold 32 bytes in base64", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
}

/// The data folder, opened.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Held for as long as no other process may use the folder.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl DataDir {
    /// Opens the folder, made where it is missing. From here on the process makes files for its own user alone.
    ///
    /// # Errors
    /// It can't be made, or it is open to others.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        umask(Mode::from_raw_mode(0o077));
        let failed = |source| FolderError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let meta = fs::metadata(path).map_err(failed)?;
        closed(path, meta.permissions().mode(), 0o700)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps every other process out until the answer is dropped, however this one ends.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock(&self) -> Result<Lock, FolderError> {
        let path = self.file("lock");
        let failed = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The secret key in it; `make` gives the bytes of a new one where there is none.
    ///
    /// # Errors
    /// The file can't be read or written, is open to others, or holds no key.
    pub fn secret_key(&self, make: impl FnOnce() -> [u8; 32]) -> Result<[u8; 32], FolderError> {
        match self.read_key(KEY)? {
            Some(key) => Ok(key),
            None => {
                let key = make();
                self.write_key(KEY, &key)?;
                Ok(key)
            }
        }
    }

    /// The key before `current`, while not all is sealed by `current` yet.
    ///
    /// # Errors
    /// As of [`DataDir::secret_key`].
    pub fn previous_key(&self, current: &[u8; 32]) -> Result<Option<[u8; 32]>, FolderError> {
        let previous = self.read_key(PREVIOUS_KEY)?;
        // The same: it was kept, and no other one made any more.
        Ok(previous.filter(|previous| previous != current))
    }

    /// Puts a new key of `make` in the place of `current`, which stays beside it until [`DataDir::forget_previous_key`]: it is on the
    /// disk before the new one is.
    ///
    /// # Errors
    /// As of [`DataDir::secret_key`].
    pub fn change_key(
        &self,
        current: &[u8; 32],
        make: impl FnOnce() -> [u8; 32],
    ) -> Result<[u8; 32], FolderError> {
        self.write_key(PREVIOUS_KEY, current)?;
        let key = make();
        self.write_key(KEY, &key)?;
        Ok(key)
    }

    /// Deletes the key before the one in use, once nothing is sealed by it.
    ///
    /// # Errors
    /// It can't be deleted.
    pub fn forget_previous_key(&self) -> Result<(), FolderError> {
        let path = self.file(PREVIOUS_KEY);
        let gone = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            gone => gone,
        };
        gone.and_then(|()| self.settle())
            .map_err(|source| FolderError::Io { path, source })
    }

    fn read_key(&self, name: &str) -> Result<Option<[u8; 32]>, FolderError> {
        let path = self.file(name);
        let failed = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        let file = match OpenOptions::new().read(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        closed(
            &path,
            file.metadata().map_err(failed)?.permissions().mode(),
            0o600,
        )?;
        let mut text = String::new();
        // A few bytes more than a key has, to see whether there are.
        file.take(100).read_to_string(&mut text).map_err(failed)?;
        let bytes = BASE64
            .decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Some).ok_or(FolderError::Key { path })
    }

    /// Whole or not at all, and on the disk before anything is sealed by it.
    fn write_key(&self, name: &str, bytes: &[u8; 32]) -> Result<(), FolderError> {
        let (path, new) = (self.file(name), self.file(&format!("{name}.new")));
        let failed = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        writeln!(file, "{}", BASE64.encode(bytes)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)?;
        self.settle().map_err(failed)
    }

    /// Waits until the disk knows which files there are.
    fn settle(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes down where the server listens, for programs that started it with port 0.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_address(&self, address: SocketAddr) -> Result<(), FolderError> {
        let (path, new) = (self.file(ADDRESS), self.file("address.new"));
        let failed = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        fs::write(&new, format!("{address}\n")).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)
    }

    /// Takes that back.
    pub fn remove_address(&self) {
        if let Err(error) = fs::remove_file(self.file(ADDRESS)) {
            tracing::debug!(%error, "the address file was gone already");
        }
    }
}

/// Names of the files of the secret key, and of the one before it while a change is under way.
pub const KEY: &str = "secret_key";
const PREVIOUS_KEY: &str = "secret_key.previous";

/// Name of the file that says where the server listens.
pub const ADDRESS: &str = "address";

fn closed(path: &Path, mode: u32, wanted: u32) -> Result<(), FolderError> {
    let mode = mode & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(FolderError::Open {
            path: path.to_owned(),
            mode,
            wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_for_its_owner_and_refused_if_wider() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("deep/weft-data");
        let folder = DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let key = folder.secret_key(|| [7; 32]).unwrap();
        assert_eq!((key, mode(&folder.file("secret_key"))), ([7; 32], 0o600));
        assert_eq!(folder.secret_key(|| unreachable!()).unwrap(), key);

        fs::set_permissions(folder.file("secret_key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            folder.secret_key(|| unreachable!()),
            Err(FolderError::Open { mode: 0o640, .. })
        ));
        fs::set_permissions(folder.file("secret_key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.file("secret_key"), "short").unwrap();
        assert!(matches!(
            folder.secret_key(|| unreachable!()),
            Err(FolderError::Key { .. })
        ));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("`data_dir`")
                && error.contains("mode 755")
                && error.contains("chmod 700"),
            "{error}"
        );
    }

    /// Wherever a change of the key was broken off, both keys are there, and it is gone on with.
    #[test]
    fn a_change_of_the_key_loses_none_wherever_it_ends() {
        let around = tempfile::tempdir().unwrap();
        let folder = DataDir::open(&around.path().join("weft-data")).unwrap();
        let old = folder.secret_key(|| [1; 32]).unwrap();
        assert_eq!(folder.previous_key(&old).unwrap(), None);
        let keys = || {
            let key = folder.secret_key(|| unreachable!()).unwrap();
            (key, folder.previous_key(&key).unwrap())
        };

        // before the new one was made, and with half a file
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            folder.change_key(&old, || panic!("here"))
        }));
        assert!(broken.is_err());
        fs::write(folder.file("secret_key.new"), "AAE").unwrap();
        assert_eq!(keys(), (old, None), "as if nothing had been");

        let new = folder.change_key(&old, || [2; 32]).unwrap();
        assert_eq!(keys(), (new, Some(old)), "both until all is sealed");
        assert_eq!(mode(&folder.file("secret_key.previous")), 0o600);

        folder.forget_previous_key().unwrap();
        folder.forget_previous_key().unwrap();
        assert_eq!(keys(), (new, None));
        let newer = folder.change_key(&new, || [3; 32]).unwrap();
        assert_eq!(keys(), (newer, Some(new)));
    }

    #[test]
    fn one_process_at_a_time() {
        let around = tempfile::tempdir().unwrap();
        let folder = DataDir::open(around.path()).unwrap();
        let lock = folder.lock().unwrap();
        let refused = folder.lock().unwrap_err().to_string();
        assert!(refused.ends_with("is in use by another weft"), "{refused}");
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn the_address_comes_and_goes() {
        let around = tempfile::tempdir().unwrap();
        let folder = DataDir::open(around.path()).unwrap();
        folder
            .write_address("127.0.0.1:81".parse().unwrap())
            .unwrap();
        assert_eq!(
            fs::read_to_string(folder.file(ADDRESS)).unwrap(),
            "127.0.0.1:81\n"
        );
        folder.remove_address();
        folder.remove_address();
        assert!(!folder.file(ADDRESS).exists());
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(
            DataDir::open(&path),
            Err(FolderError::Io { .. } | FolderError::Open { .. })
        ));
    }
}
