//! The store in a file, over `redb`: transactions with checksums, one `fdatasync` per commit.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, Error};
use zmqv2_proto::MessageId;

use super::dead_letter_index::DeadLetterIndex;
use super::{Change, Contents, Store, StoreError, tables};

/// The broker holds what is live in its own memory, so the file's pages are read once, at the start.
const CACHE_BYTES: usize = 16 << 20;

type Opener = Box<dyn Fn() -> Result<Database, StoreError> + Send>;

/// A store in one file, which this process has for itself.
///
/// A commit is on the disk when [`commit`](Store::commit) returns: data and checksums are written, then `fdatasync` is
/// called. After a crash the last complete commit counts. The file is readable by its owner alone when it is made here, and grows
/// and shrinks with what it holds. It belongs on a local disk: locks of network file systems are not to be relied on.
pub struct FileStore {
    path: PathBuf,
    opener: Opener,
    /// `None` after a failure: the file is opened again, and thereby checked, for the next commit.
    open: Option<Open>,
}

struct Open {
    database: Database,
    dead_letters: DeadLetterIndex,
}

impl FileStore {
    /// Opens the file at `path`, or makes it in a directory that exists. A file that was not closed properly is checked and
    /// brought back to its last commit first.
    ///
    /// # Errors
    /// [`StoreError`], which says what is in the way and what to do. A file that is no database is left as it is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::check(path)?;
        if !path.exists() {
            create(path)?;
        }
        let file = path.to_owned();
        Self::over(path, Box::new(move || open_file(&file)))
    }

    /// Whether `path` can be that of a store, without touching it or its holder.
    ///
    /// # Errors
    /// [`StoreError::NoDirectory`], or [`StoreError::Damaged`] if something else than a file is there.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        if !path.parent().is_some_and(Path::is_dir) {
            return Err(StoreError::NoDirectory { path: path.to_owned() });
        }
        if path.exists() && !path.is_file() {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: "it is not a regular file".to_owned() });
        }
        Ok(())
    }

    fn over(path: &Path, opener: Opener) -> Result<Self, StoreError> {
        let mut store = Self { path: path.to_owned(), opener, open: None };
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// Opens the file unless it is open, and does something with it. After a failure it is closed: its state is not known.
    ///
    /// Panics of the database (its authors mean them for damage that no checksum shows) become errors, each step on its own: no
    /// unwinding passes through the closing of a file.
    fn with<T>(&mut self, act: impl FnOnce(&mut Open) -> Result<T, Error>) -> Result<T, StoreError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.guarded(|| self.reopen())?,
        };
        let done = self.guarded(|| act(&mut open).map_err(|error| meaning(&self.path, error)));
        if done.is_ok() {
            self.open = Some(open);
        } else {
            // What went wrong is known already.
            let _ = self.guarded(move || {
                drop(open);
                Ok(())
            });
        }
        done
    }

    fn reopen(&self) -> Result<Open, StoreError> {
        let database = (self.opener)()?;
        let failed = |error| meaning(&self.path, error);
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

/// Makes an empty store beside `path` and gives it its name when it is complete: a crash leaves no half of one there.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::of_file(path, error);
    let mut unfinished = OsString::from(path);
    unfinished.push(format!(".{}.new", MessageId::random()));
    let unfinished = PathBuf::from(unfinished);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    let complete = || {
        let database = open_backend(path, file)?;
        tables::format(&database).map_err(|error| meaning(path, error))?;
        drop(database);
        give_name(&unfinished, path).map_err(failed)
    };
    let done = complete();
    // Its other name stays.
    let _ = fs::remove_file(&unfinished);
    done?;
    // The name is in the directory, which is synced on its own.
    let directory = path.parent().map(File::open).transpose();
    directory.and_then(|directory| directory.map_or(Ok(()), |directory| directory.sync_all())).map_err(failed)
}

/// Never over a file that somebody else has just put there: that one will do.
fn give_name(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has links.
        Err(_) => fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    open_backend(path, file.map_err(|error| StoreError::of_file(path, error))?)
}

fn open_backend(path: &Path, file: File) -> Result<Database, StoreError> {
    let backend = FileBackend::new(file).map_err(|error| meaning(path, error.into()))?;
    builder().create_with_backend(backend).map_err(|error| meaning(path, error.into()))
}

/// Every checksum is looked at when a file is opened: damage is an error then, not a wrong body later.
fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// What the database's error means to an operator.
fn meaning(path: &Path, error: Error) -> StoreError {
    let path_owned = path.to_owned();
    match error {
        Error::Io(source) => StoreError::of_file(path, source),
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::InUse { path: path_owned },
        Error::Corrupted(_)
        | Error::UpgradeRequired(_)
        | Error::RepairAborted
        | Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_) => StoreError::Damaged { path: path_owned, detail: error.to_string() },
        other => StoreError::Io { path: path_owned, source: io::Error::other(other) },
    }
}

#[cfg(test)]
mod tests;
