//! Paths as the patterns of a policy: `~`, `${job}`, and names that are other ones in each run.

use super::needs::within;
use std::collections::BTreeMap;

/// What the words of patterns stand for.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// What is written as `${job}`.
    pub job: Vec<u8>,
    /// What is written as `~`: by each of its names.
    pub homes: Vec<Vec<u8>>,
    /// Paths whose last name is another one in each run, and the pattern for that name.
    pub changing: BTreeMap<Vec<u8>, String>,
}

impl Words {
    /// The pattern that matches the absolute, normal path and what is below.
    pub fn pattern(&self, path: &[u8]) -> String {
        let homes = self.homes.iter().map(|home| (home.as_slice(), "~"));
        let known = homes.chain([(self.job.as_slice(), "${job}")]);
        // The longest; of two that are the same place the job's.
        let prefix = known
            .filter(|(dir, _)| dir.len() > 1 && within(path, dir))
            .max_by_key(|(dir, _)| dir.len());
        let (done, mut text) =
            prefix.map_or((0, String::new()), |(dir, word)| (dir.len(), word.to_owned()));
        let mut end = done;
        while let Some(rest) = path.get(end..).filter(|rest| !rest.is_empty()) {
            let name = rest[1..].split(|&b| b == b'/').next().unwrap_or_default();
            end += 1 + name.len();
            text.push('/');
            match self.changing.get(&path[..end]) {
                Some(pattern) => text.push_str(pattern),
                None if is_process(path, name) => text.push_str("[0-9]*"),
                None => escape(name, &mut text),
            }
        }
        text
    }
}

/// Is a name the number of a process, a descriptor or a terminal?
fn is_process(path: &[u8], name: &[u8]) -> bool {
    (path.starts_with(b"/proc/") || path.starts_with(b"/dev/pts/"))
        && name.iter().all(u8::is_ascii_digit)
}

/// A name that stands for itself. A byte that no text can hold becomes `?`, which is any one byte.
fn escape(name: &[u8], out: &mut String) {
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '$') {
                out.push('\\');
            }
            out.push(c);
        }
        out.extend(chunk.invalid().iter().map(|_| '?'));
    }
}

/// How many bytes mkstemp(3) and its like make up, at least.
const MADE_UP: usize = 6;

/// What stands before them: compilers, mkstemp's usual users, ar and strip, sed.
const MAKERS: &[&str] = &["cc", "tmp", "st", "sed"];

/// The pattern for a name that was made up for one run: `cc4fGh2K.o` is `cc??????.o`, `x.12345` is
/// `x.[0-9]*`. None: it does not look like one.
pub fn made_up(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let runs = runs(text);
    // The last one that looks like it: what is in front is the program's own word.
    for (start, end) in runs.into_iter().rev() {
        let run = &text[start..end];
        let before = &text[..start];
        let (kept, pattern) = if let Some(kept) = of_a_maker(before, run) {
            // Six letters may come out as a word: those who make such names are believed.
            (kept, "?".repeat(run.len() - kept))
        } else if run.len() >= 3 && run.bytes().all(|b| b.is_ascii_digit()) {
            (0, "[0-9]*".to_owned())
        } else if let Some(digits) = trailing_number(run) {
            (digits, "[0-9]*".to_owned())
        } else if run.len() >= MADE_UP {
            // The program's own word comes first, unless that stands before a separator already.
            let tail = run.len() - MADE_UP;
            let separated = before.bytes().any(|b| b.is_ascii_alphanumeric());
            let word = !separated && run[..tail].bytes().all(|b| b.is_ascii_lowercase());
            let kept = if word { tail } else { 0 };
            let upper = kept > 0 && run[kept..].bytes().any(|b| b.is_ascii_uppercase());
            if !upper && !looks_random(&run[kept..]) {
                continue;
            }
            (kept, "?".repeat(run.len() - kept))
        } else {
            continue;
        };
        let mut out = String::new();
        escape(&name[..start + kept], &mut out);
        out.push_str(&pattern);
        escape(&name[end..], &mut out);
        return Some(out);
    }
    None
}

/// How much of a run is the word of a program that is known to make names: `cc` of `ccAbCdEf`, nothing
/// of what stands behind `tmp.`. None: it is no such name.
fn of_a_maker(before: &str, run: &str) -> Option<usize> {
    let behind = MAKERS
        .iter()
        .find(|maker| run.strip_prefix(**maker).is_some_and(|rest| rest.len() == MADE_UP));
    let dotted = before.strip_suffix('.').is_some_and(|word| MAKERS.contains(&word));
    behind.map(|maker| maker.len()).or((dotted && run.len() >= MADE_UP).then_some(0))
}

/// Has a name the shape of a pattern that [`made_up`] gave: the same but for letters and digits where
/// that has a `?`?
pub fn has_shape(name: &[u8], pattern: &str) -> bool {
    let fits = |(b, p): (&u8, u8)| *b == p || (p == b'?' && b.is_ascii_alphanumeric());
    name.len() == pattern.len() && name.iter().zip(pattern.bytes()).all(fits)
}

/// Letters and digits that stand together: where they begin and end.
fn runs(text: &str) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    for (at, b) in text.bytes().chain([b'.']).enumerate() {
        match (b.is_ascii_alphanumeric(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                runs.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    runs
}

/// A word with the number of a process behind it: where that begins.
fn trailing_number(run: &str) -> Option<usize> {
    let word = run.trim_end_matches(|c: char| c.is_ascii_digit());
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    (plain && run.len() - word.len() >= 3).then_some(word.len())
}

/// Letters of both cases, or with digits between: no word that somebody chose.
fn looks_random(text: &str) -> bool {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    let lower = has(u8::is_ascii_lowercase);
    let upper = text.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    let digit = has(u8::is_ascii_digit);
    (lower && upper) || (digit && (lower || upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_made_up_are_told_from_chosen_ones() {
        for (name, expected) in [
            ("cc4fGh2K.o", Some("cc??????.o")),
            ("ccAbCdEf.s", Some("cc??????.s")),
            ("tmp.aB3dE5fGhI", Some("tmp.??????????")),
            ("tmp.abcdEfghij", Some("tmp.??????????")),
            ("tmp.abcdefghij", Some("tmp.??????????")),
            ("tmp.aB3dE12345", Some("tmp.??????????")),
            ("tmp.abcdef1234", Some("tmp.??????????")),
            ("ccabc123.o", Some("cc??????.o")),
            ("tmp.o", None),
            ("stX9yZ01", Some("st??????")),
            ("sedbQ2rT7", Some("sed??????")),
            (".tmp1a2B3c", Some(".tmp??????")),
            ("ccBQPWMR.s", Some("cc??????.s")),
            ("ccVbydtm.s", Some("cc??????.s")),
            ("ccabcdef.cdtor.c", Some("cc??????.cdtor.c")),
            ("log.12345", Some("log.[0-9]*")),
            ("conf4711.txt", Some("conf[0-9]*.txt")),
            ("go-build1234567890", Some("go-build[0-9]*")),
            ("output.log", None),
            ("lapi.o", None),
            ("Makefile", None),
            ("README", None),
            ("conftest.c", None),
            ("x86.h", None),
        ] {
            assert_eq!(made_up(name.as_bytes()).as_deref(), expected, "{name}");
        }
        assert!(has_shape(b"xyabcdef.o", "xy??????.o") && !has_shape(b"xyabcde.o", "xy??????.o"));
        assert!(!has_shape(b"xyabc.ef.o", "xy??????.o"));
        assert_eq!(made_up(b"a\xffAb12cd"), None, "what is no text is left as it is");
    }

    #[test]
    fn places_are_written_by_their_words() {
        let words = Words {
            job: b"/home/u/src".to_vec(),
            homes: vec![b"/home/u".to_vec()],
            changing: BTreeMap::from([(b"/tmp/cc4fGh2K".to_vec(), "cc??????".to_owned())]),
        };
        for (path, expected) in [
            (&b"/home/u/src/a.c"[..], "${job}/a.c"),
            (b"/home/u/src", "${job}"),
            (b"/home/u/srcs", "~/srcs"),
            (b"/home/u", "~"),
            (b"/home/user", "/home/user"),
            (b"/tmp/cc4fGh2K/x", "/tmp/cc??????/x"),
            (b"/proc/4711/task/12/comm", "/proc/[0-9]*/task/[0-9]*/comm"),
            (b"/opt/12/[a]*?{b}$c\\d", "/opt/12/\\[a\\]\\*\\?\\{b\\}\\$c\\\\d"),
            (b"/x\xff/y", "/x?/y"),
        ] {
            assert_eq!(words.pattern(path), expected);
        }
        let root = Words { job: b"/".to_vec(), homes: vec![b"/".to_vec()], ..Words::default() };
        assert_eq!(root.pattern(b"/a"), "/a", "the root is nobody's home");
    }
}
