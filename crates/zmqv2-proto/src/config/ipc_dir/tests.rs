use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn facts() -> Facts {
    Facts {
        explicit: Some(PathBuf::from("/srv/sockets")),
        system: true,
        runtime: Some(PathBuf::from("/run/user/7")),
        temporary: PathBuf::from("/tmp"),
        uid: 7,
    }
}

fn explicit(path: impl Into<PathBuf>) -> Config {
    Config { ipc_dir: Some(path.into()), ..Config::default() }
}

#[test]
fn the_rule_takes_the_first_directory_that_can_be_used() {
    let mut facts = facts();
    let chosen = |facts: &Facts| {
        let (path, why) = decide(facts);
        (path.to_str().unwrap().to_owned(), why)
    };
    assert_eq!(chosen(&facts), ("/srv/sockets".to_owned(), Why::Explicit));
    facts.explicit = None;
    assert_eq!(chosen(&facts), ("/var/run/openstack".to_owned(), Why::System));
    facts.system = false;
    assert_eq!(chosen(&facts), ("/run/user/7/zmqv2".to_owned(), Why::Runtime));
    facts.runtime = None;
    assert_eq!(chosen(&facts), ("/tmp/zmqv2-7".to_owned(), Why::Temporary));
}

#[test]
fn an_explicit_directory_is_created_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    assert_eq!(find_ipc_dir(&explicit(&path)).unwrap(), path);
    assert!(!path.exists(), "a process that only connects creates nothing");
    for _ in 0..2 {
        assert_eq!(resolve_ipc_dir(&explicit(&path)).unwrap(), path);
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(find_ipc_dir(&explicit(&path)).unwrap(), path);
}

#[test]
fn a_path_that_cannot_work_is_refused_before_anything_is_created() {
    for bad in [resolve_ipc_dir, find_ipc_dir] {
        let error = bad(&explicit("run")).unwrap_err().to_string();
        assert_eq!(error, "rpc_zmq_ipc_dir \"run\" is not an absolute path");
        let long = format!("/tmp/{}", "x".repeat(70));
        let error = bad(&explicit(&long)).unwrap_err().to_string();
        assert!(error.contains("has 75 bytes, the longest allowed has 74"), "{error}");
        assert!(error.contains(&long) && !Path::new(&long).exists(), "{error}");
    }
    assert!(check_path(Path::new(&format!("/{}", "x".repeat(73)))).is_ok());
    let allowed = super::super::option("rpc_zmq_ipc_dir").unwrap().allowed;
    assert!(allowed.contains(&format!("at most {LONGEST_DIR_BYTES} bytes")));
}

#[test]
fn a_file_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for bad in [resolve_ipc_dir, find_ipc_dir] {
        assert!(matches!(bad(&explicit(&file)), Err(IpcDirError::NotADirectory { .. })));
        let below = bad(&explicit(file.join("below"))).unwrap_err().to_string();
        assert!(below.contains("file/below") && below.contains("Not a directory"), "{below}");
    }
}

#[test]
fn a_private_directory_must_be_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let path = dir.path().join("private");
    DirBuilder::new().mode(0o700).create(&path).unwrap();
    check_private(&path, uid).unwrap();
    assert!(matches!(check_private(&path, uid + 1), Err(IpcDirError::Foreign { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let open = check_private(&path, uid).unwrap_err().to_string();
    assert!(open.contains("(mode 0777)"), "{open}");
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(check_private(&link, uid), Err(IpcDirError::Symlink { .. })));
    let missing = dir.path().join("missing");
    assert!(matches!(check_private(&missing, uid), Err(IpcDirError::Unusable { .. })));
}

#[test]
fn a_directory_without_permission_is_unusable() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere.
    if !writable(dir.path()) {
        let error = resolve_ipc_dir(&explicit(dir.path())).unwrap_err();
        assert!(matches!(error, IpcDirError::Unusable { .. }), "{error}");
        assert!(find_ipc_dir(&explicit(dir.path())).is_ok(), "a process that only connects need not write");
    }
    assert!(probe(&dir.path().join("missing")).is_err());
}

#[test]
fn creatable_means_that_the_parent_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    assert!(usable_or_creatable(dir.path()));
    assert!(usable_or_creatable(&dir.path().join("new")));
    assert!(!usable_or_creatable(&dir.path().join("new/newer")));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(!usable_or_creatable(&file));
}
