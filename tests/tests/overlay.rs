//! A plain directory as the oracle of `overlay`: the same changes to both, by several processes,
//! every answer equal, and at the end the committed tree the same as the plain one. So too for
//! `copy-on-write` and what changes no names; for what does, a read-only bind mount is its oracle.
//!
//! `VRIFT_ORACLE_OPS` and `VRIFT_ORACLE_SEED` as for the other oracle.

#[cfg(test)]
mod tests {
    use vrift_tests::oracle::differences::{COPY_ON_WRITE, MOUNTED_OVERLAY, OVERLAY, READ_ONLY};
    use vrift_tests::oracle::generate::Random;
    use vrift_tests::oracle::mutate::{Changes, sequence};
    use vrift_tests::oracle::place::{Place, Who};
    use vrift_tests::oracle::script::Sequence;
    use vrift_tests::oracle::tally::{Tally, seed, wanted};
    use vrift_tests::oracle::writable::{Mode, Writable};
    use vrift_tests::oracle::{self, rows};
    use vrift_tests::{need, view};

    /// Sequences of one job, which all change the same tree.
    const BATCH: usize = 15;
    /// Operations of a sequence.
    const LENGTH: usize = 40;

    /// What isn't asked in a mounted overlay, where what follows would be about other files (docs/VIEWS.md):
    /// `O_TMPFILE`, which there isn't; copy_file_range, which is EXDEV between two file systems, where both
    /// sides of a bind mount are one; truncate(2) to the length that a file has, which leaves its mtime.
    const NOT_MOUNTED: [&str; 3] = [" 0202", "copy_file_range ", " truncate ="];

    fn ask(name: &str, mode: Mode, changes: Changes, usual: usize) {
        ask_by(name, mode, changes, usual, seed());
    }

    fn ask_by(name: &str, mode: Mode, changes: Changes, usual: usize, seed: u64) {
        let programs = [need!(name, oracle::guest(false)), need!(name, oracle::guest(true))];
        let wanted = wanted("VRIFT_ORACLE_OPS", usual);
        let what = format!("{name}, VRIFT_ORACLE_SEED={seed}");
        println!("oracle: {what}");
        let place = Writable::new(mode);
        let mut random = Random::new(seed);
        let mut tally = Tally::new(match mode {
            Mode::CopyOnWrite => COPY_ON_WRITE,
            Mode::Mounted => MOUNTED_OVERLAY,
            Mode::Plain | Mode::Overlay => OVERLAY,
        });
        let root = rustix::process::getuid().is_root();
        for run in 0.. {
            if tally.compared() >= wanted || tally.has_seen_enough() {
                break;
            }
            let who = if run % 4 == 3 && root { Who::Another } else { Who::Me };
            let mut batch: Vec<Sequence> = (0..BATCH)
                .map(|_| sequence(&mut random, LENGTH, root && who == Who::Me, changes))
                .collect();
            if mode == Mode::Mounted {
                let is = |call: &str, what| format!(" {call}").contains(what);
                let asked = |call: &String| !NOT_MOUNTED.iter().any(|what| is(call, what));
                batch.iter_mut().for_each(|calls| calls.retain(asked));
            }
            batch.push(vec!["end".into()]);
            let guest = (programs[run % 2].as_path(), who);
            need!(name, tally.batch(&|all| place.ask(guest, all), &batch));
        }
        tally.report(&what);
    }

    /// What the oracle says depends on the script alone: two plain directories say the same.
    #[test]
    fn the_oracle_agrees_with_itself() {
        ask("the_oracle_agrees_with_itself", Mode::Plain, Changes::All, 10_000);
    }

    /// Of each of the two halves, which two CPUs run at once. Root's have tasks of several users, too.
    fn half() -> usize {
        if rustix::process::getuid().is_root() { 60_000 } else { 15_000 }
    }

    #[test]
    fn random_changes() {
        ask("random_changes", Mode::Overlay, Changes::All, half());
    }

    #[test]
    fn random_changes_and_others() {
        let seed = seed().wrapping_add(1);
        ask_by("random_changes_and_others", Mode::Overlay, Changes::All, half(), seed);
    }

    #[test]
    fn random_changes_of_a_mounted_tree() {
        let name = "random_changes_of_a_mounted_tree";
        need!(name, view::possible());
        ask(name, Mode::Mounted, Changes::All, 15_000);
    }

    #[test]
    fn random_changes_to_what_is_there() {
        ask("random_changes_to_what_is_there", Mode::CopyOnWrite, Changes::Contents, 20_000);
    }

    /// Every call that would make, move or remove a name, on every kind of path.
    #[test]
    fn copy_on_write_refuses_names_as_read_only_does() {
        let name = "copy_on_write_refuses_names_as_read_only_does";
        let guest = need!(name, oracle::guest(false));
        let place = Place::new("copy-on-write");
        let mut tally = Tally::new(READ_ONLY);
        let rows: Vec<Sequence> = rows::sequences()
            .into_iter()
            .filter(|sequence| {
                sequence.last().is_some_and(|call| {
                    NAMES.iter().any(|name| call.starts_with(name))
                        // It would put a link into the mount where the next rows write to a file.
                        && !(call.starts_with("renameat2 -100 =$R/file") && call.ends_with(" 2"))
                })
            })
            .collect();
        assert!(rows.len() > 500, "only {} rows", rows.len());
        for batch in rows.chunks(600) {
            need!(name, tally.batch(&|all| place.ask((&guest, Who::Me), all), batch));
        }
        tally.report(name);
    }

    /// The calls that change names.
    const NAMES: &[&str] =
        &["mkdir", "mknod", "symlink", "rmdir", "unlink", "c.remove", "link", "rename", "bind"];
}
