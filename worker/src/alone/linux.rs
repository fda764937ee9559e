//! Linux: the lock is an abstract Unix socket. It needs no folder that several users may write, is gone with its process
//! however that ends, and tells whose it is. A container with a network of its own is a machine of its own. Any
//! local user can hold the name and so keep an agent from starting; it says who does, and does no other harm.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::{Error, Holder};

/// The name of the lock.
pub const MACHINE: &str = "lull-worker.presence";

/// While it lives, no other agent watches this machine.
#[derive(Debug)]
pub struct Alone {
    _listener: UnixListener,
}

impl Alone {
    /// Takes hold of the machine, under that name.
    ///
    /// # Errors
    /// When another agent has it.
    pub fn take(name: &str) -> Result<Self, Error> {
        let address = SocketAddr::from_abstract_name(name)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Error::Taken { holder: holder(name).unwrap_or(Holder::Unknown) })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The process that listens. It accepts nobody: the system tells who it is all the same, until its queue is full.
fn holder(name: &str) -> io::Result<Holder> {
    let socket: OwnedFd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    let peer = sockopt::socket_peercred(&socket)?;
    Ok(Holder::Known { pid: peer.pid.as_raw_nonzero().get(), user: user_name(peer.uid.as_raw()) })
}

/// The name of a local user, or its number.
pub(crate) fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&number)).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let name = format!("lull-worker.test.{}", std::process::id());
        let first = Alone::take(&name).unwrap();
        // Those that ask are never accepted, and leave nothing behind that keeps the next from asking.
        for _ in 0..3 {
            let error = Alone::take(&name).expect_err("the first has it");
            let own = rustix::process::getuid().as_raw();
            let Error::Taken { holder: Holder::Known { pid, user } } = &error else { panic!("{error}") };
            assert_eq!((*pid, user), (std::process::id().cast_signed(), &user_name(own)));
            assert!(error.to_string().contains("--beside-others"), "{error}");
        }
        drop(first);
        Alone::take(&name).unwrap();
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "4000000001");
    }
}
