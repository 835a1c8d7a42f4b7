//! The nearest valid word for a mistyped one.

/// The candidate that is nearest to `word`, if any is near enough to be what was meant: two
/// edits at most, and fewer than half of the word's letters.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (word.chars().count() / 2).clamp(1, 2);
    candidates
        .into_iter()
        .map(|candidate| (distance(&fold(word), &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `on-exit`, `onExit` and `on_exit` are one word, misspelt in kind.
fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Damerau-Levenshtein distance with adjacent transpositions (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = above[j] + usize::from(x != y);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("mount", "mount", 0),
            ("moutn", "mount", 1),
            ("mont", "mount", 1),
            ("kitten", "sitting", 3),
        ] {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(a), &chars(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_was_probably_meant_is_suggested() {
        let keys = ["version", "job", "mount", "rule", "syscalls", "trace", "macos"];
        assert_eq!(nearest("moutn", keys), Some("mount"));
        assert_eq!(nearest("mounts", keys), Some("mount"));
        assert_eq!(nearest("Syscall", keys), Some("syscalls"));
        assert_eq!(nearest("network", keys), None);
        assert_eq!(nearest("x", keys), None);
        assert_eq!(nearest("on-exit", ["at", "on_exit"]), Some("on_exit"));
    }
}
