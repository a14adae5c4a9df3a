//! The store in a file, with `redb`: transactions with checksums, and one `fdatasync` per commit.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, Error};
use zmqv2_proto::MessageId;

use super::dead_letter_index::DeadLetterIndex;
use super::{Change, Contents, Store, StoreError, tables};

/// The bytes at the start of each file of `redb`.
const DATABASE_START: &[u8] = b"redb";

/// A small cache, because the broker reads the file only at the start.
const CACHE_BYTES: usize = 16 << 20;

type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// A store in one file, which this process locks.
///
/// When [`commit`](Store::commit) returns, data and checksums are written and `fdatasync` has been
/// called. After a crash the file has the state of the last complete commit. A new file is readable by its owner only.
/// It grows and shrinks with its contents. It must be on a local disk, because the locks of network
/// file systems are not reliable.
pub struct FileStore {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failure. The next commit opens the file again; opening checks it.
    open: Option<Open>,
}

struct Open {
    database: Database,
    dead_letters: DeadLetterIndex,
}

impl FileStore {
    /// Opens the file at `path`, or creates it in an existing directory. A file that was not closed
    /// properly is checked first, and brought back to its last commit.
    ///
    /// # Errors
    /// [`StoreError`] names the cause and what to do. A file that is no database is left unchanged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::check(path)?;
        if !path.exists() {
            create(path)?;
        }
        let file = path.to_owned();
        Self::over(path, Box::new(move || open_file(&file)))
    }

    /// Checks whether `path` can be a store, without changing it.
    ///
    /// # Errors
    /// [`StoreError::NoDirectory`], [`StoreError::Damaged`] if `path` is not a file or begins as no
    /// store does, or the error of opening it.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        if !path.parent().is_some_and(Path::is_dir) {
            return Err(StoreError::NoDirectory { path: path.to_owned() });
        }
        if path.exists() && !path.is_file() {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: "it is not a regular file".to_owned() });
        }
        if !path.exists() {
            return Ok(());
        }
        let failed = |error| StoreError::of_file(path, error);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut start = Vec::new();
        file.take(DATABASE_START.len() as u64).read_to_end(&mut start).map_err(failed)?;
        // An empty file becomes a store.
        if start.is_empty() || start == DATABASE_START {
            return Ok(());
        }
        Err(StoreError::Damaged { path: path.to_owned(), detail: "it does not begin as a store does".to_owned() })
    }

    fn over(path: &Path, opener: Opener) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), opener, open: None };
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// Opens the file if necessary, and calls `act` with it. After a failure the file is closed,
    /// because its state is unknown.
    ///
    /// The database panics on damage that no checksum detects. Opening, acting and closing
    /// each turn a panic into an error, so that the file is not closed during unwinding.
    fn with<T>(&mut self, act: impl FnOnce(&mut Open) -> Result<T, Error>) -> Result<T, StoreError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.guarded(|| self.reopen())?,
        };
        let done = self.guarded(|| act(&mut open).map_err(|error| translate(&self.path, error)));
        if done.is_ok() {
            self.open = Some(open);
        } else {
            // The caller gets the first error, not one of the closing.
            let _ = self.guarded(move || {
                drop(open);
                Ok(())
            });
        }
        done
    }

    fn reopen(&self) -> Result<Open, StoreError> {
        let database = (self.opener)()?;
        let failed = |error| translate(&self.path, error);
        match tables::format(&database).map_err(failed)? {
            Some(tables::FORMAT) => {}
            Some(found) => {
                return Err(StoreError::Format { path: self.path.clone(), found, known: tables::FORMAT });
            }
            None => {
                let detail = "it is the database of another program".to_owned();
                return Err(StoreError::Damaged { path: self.path.clone(), detail });
            }
        }
        let dead_letters = tables::dead_letter_index(&database).map_err(failed)?;
        Ok(Open { database, dead_letters })
    }

    fn guarded<T>(&self, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
            let detail = "its contents contradict each other".to_owned();
            Err(StoreError::Damaged { path: self.path.clone(), detail })
        })
    }
}

impl Store for FileStore {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn load(&mut self) -> Result<Contents, StoreError> {
        self.with(|open| tables::load(&open.database))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.with(|open| tables::apply(&open.database, &mut open.dead_letters, changes))
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Creates an empty store under a temporary name, and renames it to `path` when it is complete. So
/// a crash leaves no incomplete store at `path`.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::of_file(path, error);
    let mut unfinished = OsString::from(path);
    unfinished.push(format!(".{}.new", MessageId::random()));
    let unfinished = PathBuf::from(unfinished);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    let complete = || {
        let database = open_backend(path, file)?;
        tables::format(&database).map_err(|error| translate(path, error))?;
        drop(database);
        give_name(&unfinished, path).map_err(failed)
    };
    let done = complete();
    // Removes the temporary name only.
    let _ = fs::remove_file(&unfinished);
    done?;
    // The name is part of the directory, which needs its own sync.
    let directory = path.parent().map(File::open).transpose();
    directory.and_then(|directory| directory.map_or(Ok(()), |directory| directory.sync_all())).map_err(failed)
}

/// If another process has just created `path`, that file is kept: it is a store as well.
fn give_name(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems have no hard links.
        Err(_) => fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    open_backend(path, file.map_err(|error| StoreError::of_file(path, error))?)
}

fn open_backend(path: &Path, file: File) -> Result<Database, StoreError> {
    let backend = FileBackend::new(file).map_err(|error| translate(path, error.into()))?;
    builder().create_with_backend(backend).map_err(|error| translate(path, error.into()))
}

/// Checks all checksums at the start: so that damaged data is never delivered.
fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Translates an error of the database.
fn translate(path: &Path, error: Error) -> StoreError {
    if let Error::Io(source) = error {
        return StoreError::of_file(path, source);
    }
    let path = path.to_owned();
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::InUse { path },
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted
        | Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_) => StoreError::Damaged { path, detail: error.to_string() },
        other => StoreError::Io { path, source: io::Error::other(other) },
    }
}

#[cfg(test)]
mod tests;
