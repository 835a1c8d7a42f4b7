//! `--format fsatrace`: the lines of fsatrace(1), which build systems read: `r|`, `w|`, `m|TO|FROM`,
//! `d|`, `q|` and `t|`, each with absolute paths. What failed is not told there.

use super::Model;
use crate::trace::event::{Access, Kind, Op};

/// The lines in the order of the calls, and how many paths were left out: those with a line break,
/// which this format can't tell.
pub fn fsatrace(model: &Model) -> (Vec<u8>, usize) {
    let (mut out, mut left_out) = (Vec::new(), 0);
    let mut last: Vec<u8> = Vec::new();
    let mut ops =
        model.ops.iter().filter(|op| op.err.is_none() && !op.place().is_empty()).peekable();
    while let Some(op) = ops.next() {
        let line = match (op.access, ops.peek()) {
            (Access::Delete, Some(to)) if to.n == op.n => {
                let line = [b"m|", to.place(), b"|", op.place()].concat();
                ops.next();
                line
            }
            _ => match letter(op) {
                Some(letter) => [letter, b"|", op.place()].concat(),
                None => continue,
            },
        };
        if line.contains(&b'\n') {
            left_out += 1;
        } else if line != last {
            out.extend_from_slice(&line);
            out.push(b'\n');
            last = line;
        }
    }
    (out, left_out)
}

fn letter(op: &Op) -> Option<&'static [u8]> {
    let directory = op.kind == Some(Kind::Dir);
    Some(match op.access {
        Access::Read | Access::Exec => b"r",
        Access::Write if op.call.starts_with("utime") || op.call.starts_with("futimes") => b"t",
        Access::Write | Access::Create if !directory => b"w",
        Access::Delete => b"d",
        Access::Stat => b"q",
        _ => return None,
    })
}
