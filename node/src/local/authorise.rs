//! Who may ask what of the local API.
//!
//! Property: the caller is who the kernel says (`SO_PEERCRED`), never who the request says; a caller whose
//! groups cannot be learned is nobody. The socket's file mode keeps others out already; this is the second lock.

use rustix::fs::{Gid, Uid};
use std::fmt;
use std::io::Read as _;

/// Larger user and group files are read up to here.
const MAX_ACCOUNT_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// `/proc/<pid>/status` is shorter than this, with 65,536 groups.
const MAX_PROC_STATUS_BYTES: usize = 1024 * 1024;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Shows something.
    Read,
    /// Changes something.
    Change,
}

/// The process at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its effective user when it connected.
    pub(crate) uid: Uid,
    /// Its groups when it connected, as far as known.
    pub(crate) groups: Vec<Gid>,
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// Only root changes anything.
    #[error("only root may do this; use sudo")]
    NotRoot,
    /// Neither root nor in the group.
    #[error("reading status is for root and for the socket's group")]
    NotInGroup,
}

/// Judges one request. `group` is the socket's group; `None` leaves the socket to root.
///
/// # Errors
/// [`Denied`], with the reason.
pub(crate) fn authorise(caller: &Caller, group: Option<Gid>, access: Access) -> Result<(), Denied> {
    if caller.uid.is_root() {
        return Ok(());
    }
    match access {
        Access::Change => Err(Denied::NotRoot),
        Access::Read if group.is_some_and(|group| caller.groups.contains(&group)) => Ok(()),
        Access::Read => Err(Denied::NotInGroup),
    }
}

impl Caller {
    /// The process that connected to `stream`.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn of(stream: impl std::os::fd::AsFd) -> std::io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(stream)?;
        let mut groups = vec![credentials.gid];
        groups.extend(groups_of_process(credentials.pid, credentials.uid));
        groups.extend(groups_of_user(credentials.uid));
        Ok(Self { uid: credentials.uid, groups })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid.as_raw())
    }
}

/// What the local user and group files say: where /proc is hidden from us (systemd's `ProtectProc=`), this is all.
fn groups_of_user(uid: Uid) -> Vec<Gid> {
    let read = |path: &str| {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(MAX_ACCOUNT_FILE_BYTES).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    match (read("/etc/passwd"), read("/etc/group")) {
        (Ok(users), Ok(groups)) => groups_in_files(&users, &groups, uid),
        _ => Vec::new(),
    }
}

fn groups_in_files(users: &str, groups: &str, uid: Uid) -> Vec<Gid> {
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid.as_raw())).then_some(name)
    });
    let Some(user) = user else { return Vec::new() };
    let with_user = groups.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let number = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == user).then(|| Gid::from_raw(number))
    });
    with_user.collect()
}

/// The process's supplementary groups; none when it ended, or is another user's by now.
fn groups_of_process(pid: rustix::process::Pid, uid: Uid) -> Vec<Gid> {
    let mut status = String::new();
    let read = std::fs::File::open(format!("/proc/{}/status", pid.as_raw_nonzero()))
        .and_then(|file| file.take(MAX_PROC_STATUS_BYTES as u64).read_to_string(&mut status));
    match read {
        Ok(_) => groups_in_status(&status, uid),
        Err(_) => Vec::new(),
    }
}

fn groups_in_status(status: &str, uid: Uid) -> Vec<Gid> {
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or("").split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    // Real, effective, saved, file system: the second is what connected.
    if numbers("Uid:").get(1) != Some(&uid.as_raw()) {
        return Vec::new();
    }
    numbers("Groups:").into_iter().map(Gid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Gid {
        Gid::from_raw(77)
    }

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid: Uid::from_raw(uid), groups: groups.iter().copied().map(Gid::from_raw).collect() }
    }

    fn check(caller: &Caller, group: Option<Gid>, read: bool, change: bool) {
        assert_eq!(authorise(caller, group, Access::Read).is_ok(), read, "{caller} reads");
        assert_eq!(authorise(caller, group, Access::Change).is_ok(), change, "{caller} changes");
    }

    #[test]
    fn root_may_do_everything() {
        check(&caller(0, &[]), Some(group()), true, true);
        check(&caller(0, &[0]), None, true, true);
    }

    #[test]
    fn a_member_of_the_group_reads_and_changes_nothing() {
        check(&caller(1000, &[1000, 77]), Some(group()), true, false);
    }

    #[test]
    fn another_local_user_may_do_nothing() {
        check(&caller(1000, &[1000, 0, 27]), Some(group()), false, false);
        check(&caller(1000, &[1000, 77]), None, false, false);
    }

    #[test]
    fn groups_of_another_users_process_do_not_count() {
        let status = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t5\t5\t5\nGroups:\t27 77 \n";
        assert_eq!(groups_in_status(status, Uid::from_raw(1000)), [Gid::from_raw(27), group()]);
        assert_eq!(groups_in_status(status, Uid::from_raw(1001)), []);
        assert_eq!(groups_in_status("", Uid::from_raw(0)), []);
    }

    #[test]
    fn members_are_found_in_the_group_file() {
        let users = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbroken\n";
        let groups = "bulkhead:x:77:bob,ann\nann:x:1000:\nother:x:78:anna,bob\n";
        assert_eq!(groups_in_files(users, groups, Uid::from_raw(1000)), [group()]);
        assert_eq!(groups_in_files(users, groups, Uid::from_raw(1001)), []);
    }

    #[test]
    fn the_kernel_names_the_caller() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let caller = Caller::of(&ours).expect("credentials");
        assert_eq!(caller.uid, rustix::process::geteuid());
    }
}
