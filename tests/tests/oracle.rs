//! The kernel as the oracle of `read-only`: the same calls on a read-only bind mount and on a
//! projection, and every answer equal.
//!
//! - `VRIFT_ORACLE_OPS`: how many random operations (default 200,000).
//! - `VRIFT_ORACLE_SEED`: another sequence than the one every run of the tests asks; `new` makes
//!   the seed of the time, and prints it.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use vrift_tests::need;
    use vrift_tests::oracle::compare::{Mismatch, compare};
    use vrift_tests::oracle::generate::{Random, sequence};
    use vrift_tests::oracle::place::{Place, Who};
    use vrift_tests::oracle::script::Sequence;
    use vrift_tests::oracle::{self, rows, shrink::shrink};

    /// Sequences of one process run.
    const BATCH: usize = 60;
    /// Operations of a random sequence.
    const LENGTH: usize = 40;
    /// What is asked when nothing else is wanted.
    const SEED: u64 = 20_261_123;
    /// How many failures are shown.
    const SHOWN: usize = 8;

    /// What a whole test found.
    #[derive(Default)]
    struct Tally {
        compared: usize,
        reasons: BTreeMap<&'static str, usize>,
        failures: Vec<String>,
        /// How often each call and its answers were met, and the first of them: one cause shows in
        /// many sequences.
        seen: BTreeMap<String, (usize, String)>,
        /// Where the kernel itself answered now this, now that.
        unsure: Vec<String>,
    }

    impl Tally {
        fn batch(
            &mut self,
            place: &Place,
            guest: (&Path, Who),
            all: &[Sequence],
        ) -> Result<(), String> {
            let answers = place.ask(guest, all)?;
            let result = compare(all, &answers);
            self.compared += result.compared;
            for (reason, count) in result.reasons {
                *self.reasons.entry(reason).or_default() += count;
            }
            let mut wrong = result.wrong;
            if !wrong.is_empty() {
                wrong = self.repeated(place, guest, all, wrong)?;
            }
            for mismatch in wrong {
                let known = self.seen.entry(kind(all, &mismatch)).or_default();
                known.0 += 1;
                if known.0 == 1 {
                    known.1 = example(all, &mismatch);
                }
                if known.0 == 1 && self.failures.len() < SHOWN {
                    self.failures.push(shrink(place, guest, all, &mismatch).to_string());
                }
            }
            Ok(())
        }

        /// Asks again, and keeps what differs but where the kernel answers otherwise than before:
        /// under renames elsewhere it counts links twice, and says ELOOP to a chain of 21.
        fn repeated(
            &mut self,
            place: &Place,
            guest: (&Path, Who),
            all: &[Sequence],
            wrong: Vec<Mismatch>,
        ) -> Result<Vec<Mismatch>, String> {
            let [kernel, _] = place.ask(guest, all)?;
            let (kept, unsure): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|m: &Mismatch| {
                kernel.0[m.sequence].get(m.operation).is_none_or(|again| *again == m.kernel)
            });
            self.unsure.extend(unsure.iter().map(|m: &Mismatch| example(all, m)));
            Ok(kept)
        }

        fn report(&self, what: &str) {
            let mut text = format!("oracle: {what}: {} answers compared\n", self.compared);
            for (reason, count) in &self.reasons {
                text.push_str(&format!("  {count:6} meant: {reason}\n"));
            }
            for m in &self.unsure {
                text.push_str(&format!("  the kernel is not sure:{m}\n"));
            }
            print!("{text}");
            assert!(self.unsure.len() <= 1 + self.compared / 10_000, "{text}");
            if self.seen.is_empty() {
                return;
            }
            let kinds: Vec<String> = self
                .seen
                .iter()
                .map(|(kind, (n, first))| format!("  {n:5} x {kind}{first}"))
                .collect();
            panic!(
                "{text}{what}: the kernel and the projection disagree in {} ways:\n{}\n\n\
                 the shortest sequences of {}:\n{}",
                kinds.len(),
                kinds.join("\n"),
                self.failures.len(),
                self.failures.join("\n\n")
            );
        }
    }

    /// Call and results, without operands: what counts as the same failure.
    fn kind(all: &[Sequence], mismatch: &Mismatch) -> String {
        let call = all[mismatch.sequence].get(mismatch.operation).map_or("(end)", String::as_str);
        let call = call.split(' ').find(|w| !w.starts_with('>')).unwrap_or_default();
        let short = |answer: &str| answer.split(' ').next().unwrap_or_default().to_owned();
        format!(
            "{call}: kernel {} projected {}",
            short(&mismatch.kernel),
            short(&mismatch.projected)
        )
    }

    /// The call and both answers as they are, but no longer than a few lines.
    fn example(all: &[Sequence], mismatch: &Mismatch) -> String {
        let call = all[mismatch.sequence].get(mismatch.operation).map_or("(end)", String::as_str);
        let short = |text: &str| text.chars().take(160).collect::<String>();
        let (kernel, projected) = (short(&mismatch.kernel), short(&mismatch.projected));
        format!("\n            {}\n            {kernel}\n            {projected}", short(call))
    }

    fn table(name: &str, who: Who, linked_statically: bool) {
        let guest = need!(name, oracle::guest(linked_statically));
        let place = Place::new();
        let mut tally = Tally::default();
        for batch in rows::sequences().chunks(600) {
            need!(name, tally.batch(&place, (&guest, who), batch));
        }
        tally.report(name);
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

    /// What docs/SYSCALLS.md says of this test.
    #[test]
    fn the_table_asks_every_call_that_is_said_to_be_asked() {
        let out = std::process::Command::new(vrift_tests::binaries::vrift_trace())
            .args(["syscalls", "--json"])
            .output()
            .expect("vrift-trace runs");
        let rows: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let asked: std::collections::BTreeSet<String> = rows::sequences()
            .iter()
            .flatten()
            .filter_map(|line| line.split(' ').find(|word| !word.starts_with('>')))
            // ioctl's requests are asked by a name of the guest's own.
            .map(|name| if name == "setflags" { "ioctl".into() } else { name.to_owned() })
            .collect();
        let missing: Vec<&str> = rows
            .as_array()
            .expect("a list")
            .iter()
            .filter(|row| row["tested_by"].as_array().expect("a list").contains(&"oracle".into()))
            .filter_map(|row| row["name"].as_str())
            .filter(|name| !asked.contains(*name))
            .collect();
        assert!(missing.is_empty(), "not asked: {missing:?}");
    }

    #[test]
    fn random_sequences() {
        let name = "random_sequences";
        let programs = [need!(name, oracle::guest(false)), need!(name, oracle::guest(true))];
        let seed = match std::env::var("VRIFT_ORACLE_SEED").as_deref() {
            // What fails for one fails for everybody, until somebody asks for more.
            Err(_) => SEED,
            Ok("new") => std::time::UNIX_EPOCH
                .elapsed()
                .map_or(SEED, |t| u64::try_from(t.as_millis()).unwrap_or(SEED)),
            Ok(text) => text.parse().unwrap_or_else(|e| panic!("VRIFT_ORACLE_SEED={text}: {e}")),
        };
        let wanted = std::env::var("VRIFT_ORACLE_OPS").map_or(200_000, |text| {
            text.parse().unwrap_or_else(|e| panic!("VRIFT_ORACLE_OPS={text}: {e}"))
        });
        let what = format!("random_sequences, VRIFT_ORACLE_SEED={seed}");
        println!("oracle: {what}");
        let place = Place::new();
        let mut random = Random::new(seed);
        let mut tally = Tally::default();
        for run in 0.. {
            if tally.compared >= wanted || tally.failures.len() >= SHOWN {
                break;
            }
            let batch: Vec<Sequence> = (0..BATCH).map(|_| sequence(&mut random, LENGTH)).collect();
            let who = if run % 4 == 3 && rustix::process::getuid().is_root() {
                Who::Another
            } else {
                Who::Me
            };
            need!(name, tally.batch(&place, (&programs[run % 2], who), &batch));
        }
        tally.report(&what);
    }
}
