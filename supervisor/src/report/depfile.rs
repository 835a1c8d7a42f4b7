//! `--format depfile`: one rule for make and ninja, as `cc -MD` writes it.
//!
//! The outputs, or the targets that are named, depend on every input. Paths below the job's
//! working directory are relative to it, as build files name them. Left out is what no build file
//! can depend on: `/proc`, `/sys`, `/dev`, and the job's own programs' temporary files, which are
//! no inputs.

use super::Model;

/// The rule, and how many paths were left out: those that the format can't tell, with a line break.
pub fn depfile(model: &Model, targets: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let mut left_out = 0;
    let mut names = |paths: Vec<&[u8]>| {
        let all = paths.len();
        let told: Vec<_> = paths.into_iter().filter(|p| !p.contains(&b'\n')).map(escaped).collect();
        left_out += all - told.len();
        told
    };
    let outputs = || model.sets.outputs().into_iter().map(|(path, _)| model.local(path));
    let targets: Vec<&[u8]> = match targets.is_empty() {
        true => outputs().filter(|path| !is_kernels(path)).collect(),
        false => targets.iter().map(Vec::as_slice).collect(),
    };
    let inputs = model.sets.inputs().into_iter().map(|(path, _)| path);
    let inputs = inputs.filter(|path| !is_kernels(path)).map(|path| model.local(path)).collect();
    let targets = names(targets);
    let inputs = names(inputs);
    if targets.is_empty() {
        return (Vec::new(), left_out);
    }
    let mut out = targets.join(&b' ');
    out.push(b':');
    for input in inputs {
        out.extend_from_slice(b" \\\n  ");
        out.extend_from_slice(&input);
    }
    out.push(b'\n');
    (out, left_out)
}

fn is_kernels(path: &[u8]) -> bool {
    [b"/proc/".as_slice(), b"/sys/", b"/dev/"].iter().any(|dir| path.starts_with(dir))
}

/// As make wants names, and ninja reads them: `\ `, `\#`, `$$`; a backslash counts only before a
/// blank or `#`, and is doubled there.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (at, &b) in path.iter().enumerate() {
        match b {
            b' ' | b'\t' | b'#' => {
                let slashes = path[..at].iter().rev().take_while(|b| **b == b'\\').count();
                out.extend(std::iter::repeat_n(b'\\', slashes + 1));
            }
            b'$' => out.push(b'$'),
            b':' => out.push(b'\\'),
            _ => {}
        }
        out.push(b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_escaped_as_the_compiler_does() {
        let said = |path: &str| String::from_utf8(escaped(path.as_bytes())).expect("text");
        assert_eq!(said("a b"), "a\\ b");
        assert_eq!(said("a$b#c"), "a$$b\\#c");
        assert_eq!(said("a\\ b\\c"), "a\\\\\\ b\\c");
    }
}
