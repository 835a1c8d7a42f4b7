//! Entries of a directory as Darwin's kernel writes them (`bsd/sys/dirent.h`), both forms.

use vrift_projection::{Entry, Kind};

/// Which structure a reader expects.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `struct dirent` with 64-bit inode numbers: `__getdirentries64`.
    Inode64,
    /// The older one: `getdirentries`.
    Inode32,
}

/// `DT_DIR`, `DT_REG`, `DT_LNK`.
const fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::Directory => 4,
        Kind::Symlink => 10,
        _ => 8,
    }
}

impl Form {
    /// Where the length of an entry stands, which is two bytes.
    const fn length_at(self) -> usize {
        match self {
            Form::Inode64 => 16,
            Form::Inode32 => 4,
        }
    }

    /// Where the name begins.
    const fn name_at(self) -> usize {
        match self {
            Form::Inode64 => 21,
            Form::Inode32 => 8,
        }
    }

    /// Bytes of an entry with a name of this length, its NUL included.
    #[must_use]
    pub const fn size(self, name: usize) -> usize {
        match self {
            // DIRENT64_LEN and DIRENT_LEN of bsd/vfs/vfs_syscalls.c.
            Form::Inode64 => (21 + name + 1 + 7) & !7,
            Form::Inode32 => (8 + name + 1 + 3) & !3,
        }
    }

    /// Writes an entry to the beginning of `out`: how many bytes it took, or None if there is no room.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a name is 255 bytes, and the old form's numbers are cut"
    )]
    pub fn write(self, entry: &Entry<'_>, out: &mut [u8]) -> Option<usize> {
        let (name, length) = (entry.name, self.size(entry.name.len()));
        let out = out.get_mut(..length)?;
        out.fill(0);
        let size = (length as u16).to_le_bytes();
        match self {
            Form::Inode64 => {
                out[..8].copy_from_slice(&entry.ino.to_le_bytes());
                out[8..16].copy_from_slice(&entry.next.to_le_bytes());
                out[16..18].copy_from_slice(&size);
                out[18..20].copy_from_slice(&(name.len() as u16).to_le_bytes());
                out[20] = kind(entry.kind);
            }
            Form::Inode32 => {
                out[..4].copy_from_slice(&(entry.ino as u32).to_le_bytes());
                out[4..6].copy_from_slice(&size);
                out[6] = kind(entry.kind);
                out[7] = name.len() as u8;
            }
        }
        out[self.name_at()..][..name.len()].copy_from_slice(name);
        Some(length)
    }

    /// Takes out of `entries`, as the kernel wrote them, those whose names `hidden` knows: how many
    /// bytes are left. They keep their order.
    pub fn without(self, entries: &mut [u8], hidden: impl Fn(&[u8]) -> bool) -> usize {
        let (mut from, mut to) = (0, 0);
        while let Some(length) = self.length(&entries[from..]) {
            let name = &entries[from + self.name_at()..from + length];
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            if !hidden(name) {
                entries.copy_within(from..from + length, to);
                to += length;
            }
            from += length;
        }
        to
    }

    /// The length of the first entry, if it is a whole one.
    fn length(self, entries: &[u8]) -> Option<usize> {
        let at = self.length_at();
        let length = usize::from(u16::from_le_bytes(entries.get(at..at + 2)?.try_into().ok()?));
        (length > self.name_at() && length <= entries.len()).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::Form;
    use vrift_projection::{Entry, Kind};

    const NAMES: [&[u8]; 5] = [b".", b"..", b"a", b"seven77", &[b'n'; 255]];

    fn written(form: Form) -> Vec<u8> {
        let (mut out, mut at) = (vec![0xaa; 2048], 0);
        for (number, name) in (1..).zip(NAMES) {
            let entry = Entry { name, ino: number, kind: Kind::File, next: number + 1 };
            let length = form.write(&entry, &mut out[at..]).expect("room");
            assert_eq!(length % if form == Form::Inode64 { 8 } else { 4 }, 0);
            assert_eq!(out[at + length - 1], 0, "a name ends");
            at += length;
        }
        out.truncate(at);
        out
    }

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_does() {
        let entry =
            Entry { name: b"ab", ino: 0x0102_0304_0506_0708, kind: Kind::Directory, next: 9 };
        let mut out = [0xaa; 32];
        assert_eq!(Form::Inode64.write(&entry, &mut out), Some(24));
        assert_eq!(out[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(out[8..21], [9, 0, 0, 0, 0, 0, 0, 0, 24, 0, 2, 0, 4]);
        assert_eq!(&out[21..24], b"ab\0");
        assert_eq!(Form::Inode32.write(&entry, &mut out), Some(12));
        assert_eq!(out[..12], [8, 7, 6, 5, 12, 0, 4, 2, b'a', b'b', 0, 0]);
        assert_eq!(Form::Inode64.write(&entry, &mut out[..23]), None);
    }

    #[test]
    fn a_hidden_name_is_taken_out_wherever_it_stands() {
        for form in [Form::Inode64, Form::Inode32] {
            for hidden in NAMES {
                let mut all = written(form);
                let whole = all.len();
                let left = form.without(&mut all, |name| name == hidden);
                assert_eq!(whole - left, form.size(hidden.len()));
                all.truncate(left);
                assert_eq!(form.without(&mut all, |name| name == hidden), left, "none is left");
            }
            let mut all = written(form);
            assert_eq!(form.without(&mut all, |_| true), 0);
        }
    }

    #[test]
    fn what_is_no_entry_ends_the_reading() {
        let mut odd = [0u8; 64];
        assert_eq!(Form::Inode64.without(&mut odd, |_| false), 0);
        odd[16] = 255;
        assert_eq!(Form::Inode64.without(&mut odd, |_| false), 0);
    }
}
