//! The kernel as the oracle of `read-only`: the same calls on a read-only bind mount and on a
//! projection, and every answer equal.
//!
//! - `VRIFT_ORACLE_OPS`: how many random operations (default 200,000).
//! - `VRIFT_ORACLE_SEED`: another sequence than the one every run of the tests asks; `new` makes
//!   the seed of the time, and prints it.
//! - `VRIFT_ORACLE_TABLE`: of that many sequences of the table one is asked, picked by the seed
//!   (default 1: all), for machines that are emulated.

#[cfg(test)]
mod tests {
    use vrift_tests::oracle::differences::{Difference, MOUNTED, READ_ONLY};
    use vrift_tests::oracle::generate::{Random, sequence};
    use vrift_tests::oracle::place::{Place, Who};
    use vrift_tests::oracle::script::Sequence;
    use vrift_tests::oracle::tally::{Tally, seed, wanted};
    use vrift_tests::oracle::{self, rows};
    use vrift_tests::{binaries, need, view};

    /// Sequences of one process run.
    const BATCH: usize = 60;
    /// Operations of a random sequence.
    const LENGTH: usize = 40;

    fn table(name: &str, who: Who, linked_statically: bool) {
        table_of(name, (who, linked_statically, 1), || Place::new("read-only"), READ_ONLY);
    }

    /// One of `usual` sequences that follow each other is asked, unless more or fewer are asked for.
    fn table_of(
        name: &str,
        (who, linked_statically, usual): (Who, bool, usize),
        place: fn() -> Place,
        meant: &'static [Difference],
    ) {
        let guest = need!(name, oracle::guest(linked_statically));
        let mut table = rows::sequences();
        let mut what = name.to_owned();
        let one_of = wanted("VRIFT_ORACLE_TABLE", usual);
        if one_of > 1 {
            // One of each few that follow each other, so that no call is left out.
            let (seed, all) = (seed(), table.len());
            let mut random = Random::new(seed);
            table = table.chunks(one_of).map(|few| few[random.below(few.len())].clone()).collect();
            let some = table.len();
            what += &format!(", {some} of {all} sequences, VRIFT_ORACLE_SEED={seed}");
        }
        let place = place();
        let mut tally = Tally::new(meant);
        for batch in table.chunks(600) {
            need!(name, tally.batch(&|all| place.ask((&guest, who), all), batch));
        }
        tally.report(&what);
    }

    #[test]
    fn every_call_on_every_kind_of_path() {
        table("every_call_on_every_kind_of_path", Who::Me, false);
    }

    #[test]
    fn every_call_by_another_user_in_a_job_of_roots() {
        let name = "every_call_by_another_user_in_a_job_of_roots";
        if !rustix::process::getuid().is_root() {
            // Nothing that a machine could have: only root's processes can become somebody else.
            return;
        }
        table(name, Who::Another, true);
    }

    fn mounted() -> Place {
        Place::seen("read-only", "mount")
    }

    #[test]
    fn every_call_on_a_mounted_tree() {
        let name = "every_call_on_a_mounted_tree";
        need!(name, view::possible());
        table_of(name, (Who::Me, false, 1), mounted, MOUNTED);
    }

    #[test]
    fn every_call_on_a_mounted_tree_by_another_user_in_a_job_of_roots() {
        let name = "every_call_on_a_mounted_tree_by_another_user_in_a_job_of_roots";
        if !rustix::process::getuid().is_root() {
            // Nothing that a machine could have: only root's processes can become somebody else.
            return;
        }
        need!(name, view::possible());
        // All of it takes long, and the kernel's own file system asks us little.
        table_of(name, (Who::Another, true, 10), mounted, MOUNTED);
    }

    /// What docs/SYSCALLS.md says of this test.
    #[test]
    fn the_table_asks_every_call_that_is_said_to_be_asked() {
        let rows = binaries::table();
        let asked: std::collections::BTreeSet<String> = rows::sequences()
            .iter()
            .flatten()
            .filter_map(|line| line.split(' ').find(|word| !word.starts_with('>')))
            // ioctl's requests are asked by a name of the guest's own.
            .map(|name| if name == "setflags" { "ioctl".into() } else { name.to_owned() })
            .collect();
        let missing: Vec<&str> = rows
            .iter()
            .filter(|row| row["tested_by"].as_array().expect("a list").contains(&"oracle".into()))
            .filter_map(|row| row["name"].as_str())
            .filter(|name| !asked.contains(*name))
            .collect();
        assert!(missing.is_empty(), "not asked: {missing:?}");
    }

    #[test]
    fn random_sequences() {
        at_random("random_sequences", || Place::new("read-only"), READ_ONLY, 200_000);
    }

    #[test]
    fn random_sequences_on_a_mounted_tree() {
        let name = "random_sequences_on_a_mounted_tree";
        need!(name, view::possible());
        at_random(name, mounted, MOUNTED, 20_000);
    }

    fn at_random(name: &str, place: fn() -> Place, meant: &'static [Difference], usual: usize) {
        let programs = [need!(name, oracle::guest(false)), need!(name, oracle::guest(true))];
        let seed = seed();
        let wanted = wanted("VRIFT_ORACLE_OPS", usual);
        let what = format!("{name}, VRIFT_ORACLE_SEED={seed}");
        println!("oracle: {what}");
        let place = place();
        let mut random = Random::new(seed);
        let mut tally = Tally::new(meant);
        for run in 0.. {
            if tally.compared() >= wanted || tally.has_seen_enough() {
                break;
            }
            let batch: Vec<Sequence> = (0..BATCH).map(|_| sequence(&mut random, LENGTH)).collect();
            let who = if run % 4 == 3 && rustix::process::getuid().is_root() {
                Who::Another
            } else {
                Who::Me
            };
            let guest = (programs[run % 2].as_path(), who);
            need!(name, tally.batch(&|all| place.ask(guest, all), &batch));
        }
        tally.report(&what);
    }
}
