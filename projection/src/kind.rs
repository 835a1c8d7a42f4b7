//! What an entry of a projected tree is. A manifest has three kinds; a writable mount has all that
//! a job can make.

use vrift_store::NodeKind;

/// The kinds of stat(2), `S_IFMT` of inode(7).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo.
    Fifo,
    /// The name of a Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl From<NodeKind> for Kind {
    fn from(kind: NodeKind) -> Kind {
        match kind {
            NodeKind::File => Kind::File,
            NodeKind::Directory => Kind::Directory,
            NodeKind::Symlink => Kind::Symlink,
        }
    }
}

impl Kind {
    /// Every kind; a journal knows them by their place here.
    pub(crate) const ALL: [Kind; 7] = [
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Socket,
        Kind::CharDevice,
        Kind::BlockDevice,
    ];

    /// The bits of `S_IFMT`.
    #[must_use]
    pub const fn file_type(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
            Kind::CharDevice => 0o020_000,
            Kind::BlockDevice => 0o060_000,
        }
    }

    /// The kind that `st_mode` tells; `None` for bits that mean none.
    #[must_use]
    pub fn of_mode(mode: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.file_type() == mode & 0o170_000)
    }

    /// `d_type` of getdents64(2): `DT_REG` and its like (`IFTODT` of `<dirent.h>`).
    #[must_use]
    pub fn d_type(self) -> u8 {
        u8::try_from(self.file_type() >> 12).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn kinds_are_told_back_from_their_bits() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_mode(kind.file_type() | 0o644), Some(kind));
        }
        assert_eq!(Kind::of_mode(0o644), None);
        assert_eq!(Kind::File.d_type(), 8);
        assert_eq!(Kind::Directory.d_type(), 4);
        assert_eq!(Kind::Symlink.d_type(), 10);
    }
}
