//! What is made of traces: reports in every form, the page in a real browser, explanations.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::fmt::Write as _;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};
    use vrift_tests::skip::program;
    use vrift_tests::traces::{about, traced};
    use vrift_tests::{Outcome, World, binaries, need};

    /// A trace of a compiler run: the world, the trace.
    fn compiled() -> (World, PathBuf) {
        let world = World::new();
        let trace = world.path("t.trace");
        world.file("w/t.h", "#define N 3\n");
        world.file("w/a b.c", "#include \"t.h\"\nint main(void) { return N; }\n");
        let script =
            "cc -c 'a b.c' -o t.o.tmp && mv t.o.tmp t.o && cc t.o -o t; ./t; cat gone; touch -h t";
        traced(&world, &trace, &["-q"], ["sh", "-c", script]).cwd(world.path("w")).run().ok();
        (world, trace)
    }

    fn report(world: &World, trace: &Path, more: &[&str]) -> Outcome {
        about(world, "report", trace, more).run().ok()
    }

    fn json(world: &World, trace: &Path, more: &[&str]) -> Value {
        let all = [&["--format", "json"], more].concat();
        serde_json::from_slice(&report(world, trace, &all).stdout).expect("JSON")
    }

    fn paths(set: &Value) -> Vec<&str> {
        let all = set.as_array().expect("a set");
        all.iter().filter_map(|e| e["path"].as_str().or(e.as_str())).collect()
    }

    #[test]
    fn the_sets_are_closed() {
        let (world, trace) = compiled();
        let at = |name: &str| world.path("w").join(name).to_str().expect("text").to_owned();
        let plain = json(&world, &trace, &[]);
        let (inputs, outputs) = (paths(&plain["inputs"]), paths(&plain["outputs"]));
        for name in ["a b.c", "t.h"] {
            assert!(inputs.contains(&at(name).as_str()), "{name}: {inputs:#?}");
        }
        assert!(inputs.iter().any(|path| path.contains("/ld-linux")), "the program interpreter");
        assert!(inputs.iter().any(|path| path.ends_with("/cc1")));
        assert_eq!(outputs, [at("t"), at("t.o")]);
        assert!(paths(&plain["temporary"]).contains(&at("t.o.tmp").as_str()));
        assert!(paths(&plain["probes"]).contains(&at("gone").as_str()));
        assert!(!inputs.iter().any(|path| outputs.contains(path)));
        assert!(plain["whole"] == true && plain["refused"] == serde_json::json!([]));
        let hashed = json(&world, &trace, &["--hashes"]);
        let header = hashed["inputs"]
            .as_array()
            .expect("a set")
            .iter()
            .find(|i| i["path"] == at("t.h").as_str());
        assert_eq!(header.expect("t.h")["hash"], blake3::hash(b"#define N 3\n").to_hex().as_str());
    }

    #[test]
    fn every_form_says_the_same() {
        let (world, trace) = compiled();
        let at = |name: &str| world.path("w").join(name).to_str().expect("text").to_owned();
        let lines = report(&world, &trace, &["--format", "fsatrace"]).out();
        let lines: Vec<&str> = lines.lines().collect();
        for line in [
            format!("r|{}", at("t.h")),
            format!("w|{}", at("t.o.tmp")),
            format!("m|{}|{}", at("t.o"), at("t.o.tmp")),
            format!("t|{}", at("t")),
        ] {
            assert!(lines.contains(&line.as_str()), "{line}: {lines:#?}");
        }
        let perfetto: Value =
            serde_json::from_slice(&report(&world, &trace, &["--format", "perfetto"]).stdout)
                .expect("JSON");
        let slices = perfetto["traceEvents"].as_array().expect("events");
        let slice = slices.iter().find(|e| e["ph"] == "X" && e["name"] == "cc1").expect("cc1");
        assert!(slices.iter().any(|e| e["ph"] == "M" && e["pid"] == slice["pid"]));
        expect_trace_events(slices);
        let dot = report(&world, &trace, &["--format", "dot"]).out();
        assert!(dot.contains("label=\"t.h\"") && dot.contains("->"));
        expect_dot(&world, &dot);
        let text = report(&world, &trace, &[]).out();
        for part in ["cc1 ", "outputs (2)\n  t\n  t.o", "looked up in vain", "exit status 0"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let depfile = report(&world, &trace, &["--format", "depfile", "--target", "t.o"]).out();
        assert!(
            depfile.starts_with("t.o: \\\n")
                && depfile.contains("  a\\ b.c")
                && depfile.contains("  t.h"),
            "{depfile}"
        );
        assert!(!depfile.contains("/proc/") && !depfile.contains("/dev/"));
    }

    /// What the Trace Event Format asks of each event: its phase, microseconds, whole numbers for
    /// process and thread, a duration where it is complete, a scope where it is an instant; and that
    /// complete events of one thread are nested or apart. (The order of the events is free.)
    fn expect_trace_events(events: &[Value]) {
        let mut slices: std::collections::BTreeMap<u64, Vec<(f64, f64)>> = Default::default();
        for event in events {
            let track = event["tid"].as_u64().unwrap_or_else(|| panic!("tid: {event}"));
            assert!(event["pid"].is_u64() && event["name"].is_string(), "{event}");
            let ts = event["ts"].as_f64();
            match event["ph"].as_str() {
                Some("M") => {
                    let known = ["process_name", "process_sort_index"];
                    assert!(known.iter().any(|name| event["name"] == *name), "{event}");
                    assert!(
                        event["args"]["name"].is_string() || event["args"]["sort_index"].is_u64()
                    );
                }
                Some("X") => {
                    let (ts, dur) = (ts.expect("ts"), event["dur"].as_f64().expect("dur"));
                    assert!(ts >= 0.0 && dur >= 0.0 && event["cat"].is_string(), "{event}");
                    slices.entry(track).or_default().push((ts, ts + dur));
                }
                Some("i") => {
                    assert!(ts.is_some_and(|ts| ts >= 0.0), "{event}");
                    assert!(event["s"] == "t" && event["cat"].is_string(), "{event}");
                }
                _ => panic!("no phase of ours: {event}"),
            }
        }
        for (track, mut all) in slices {
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            for two in all.windows(2) {
                // Ends are sums of rounded numbers: a nanosecond.
                assert!(two[0].1 <= two[1].0 + 0.001, "track {track}: {two:?}");
            }
        }
    }

    /// A graph that Graphviz reads: asked itself where it is installed, and else by its grammar.
    fn expect_dot(world: &World, text: &str) {
        if let Ok(dot) = program("dot") {
            let said = world.native([dot.as_os_str(), "-Tsvg".as_ref()]).stdin(text).run().ok();
            assert!(said.out().contains("</svg>"), "{said}");
        }
        let inside = text.strip_prefix("digraph job {\n").and_then(|t| t.strip_suffix("}\n"));
        let id = |word: &str| {
            let number = word.strip_prefix(['p', 'f']);
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut nodes = std::collections::BTreeSet::new();
        let mut edges = Vec::new();
        for line in inside.expect("one graph").lines() {
            let statement = line.trim().strip_suffix(';').unwrap_or_else(|| panic!("{line}"));
            // Quoted text may hold anything but a quote that is not escaped.
            let bare = statement.replace("\\\\", "").replace("\\\"", "");
            assert!(bare.matches('"').count() % 2 == 0, "{line}");
            let (subject, attributes) = match statement.split_once(" [") {
                Some((subject, attributes)) => (subject, Some(attributes)),
                None => (statement, None),
            };
            assert!(attributes.is_none_or(|text| text.ends_with(']')), "{line}");
            match subject.split_once(" -> ") {
                Some((from, to)) => edges.push((from, to)),
                None if id(subject) => drop(nodes.insert(subject)),
                None => assert!(subject == "node" || subject == "rankdir=LR", "{line}"),
            }
        }
        for (from, to) in edges {
            assert!(nodes.contains(from) && nodes.contains(to), "{from} -> {to}");
        }
    }

    #[test]
    fn two_traces_compare() {
        let (world, trace) = compiled();
        let other = world.path("u.trace");
        let w = world.path("w");
        let script = "cc -c 'a b.c' -o t.o.tmp && mv t.o.tmp t.o && cc t.o -o t; ./t; cat gone t.h; touch -h t; touch u";
        let again = |trace: &Path, script: &str| {
            for name in ["t", "t.o", "u"] {
                let _ = fs::remove_file(w.join(name));
            }
            traced(&world, trace, &["-q"], ["sh", "-c", script]).cwd(&w).run()
        };
        again(&other, script).ok();
        let same =
            about(&world, "report", &trace, ["--against".as_ref(), trace.as_os_str()]).run().ok();
        assert!(same.out().starts_with("the same"), "{same}");
        let differs = about(&world, "report", &other, ["--against".as_ref(), trace.as_os_str()])
            .run()
            .expect(1)
            .out();
        assert!(differs.contains(&format!("  + {}\n", w.join("u").display())), "{differs}");
        assert!(!differs.contains("outputs: 0"), "{differs}");
        let argv = ["--against".as_ref(), trace.as_os_str(), "--format".as_ref(), "json".as_ref()];
        let value: Value =
            serde_json::from_slice(&about(&world, "report", &other, argv).run().expect(1).stdout)
                .expect("JSON");
        assert_eq!(value["outputs"]["only_here"], serde_json::json!([w.join("u")]));
        assert_eq!(value["same"], false);
    }

    /// A build of ninja's whose dependencies come from traces alone.
    #[test]
    fn a_depfile_makes_ninja_build_what_has_to_be() {
        let name = "reports::a_depfile_makes_ninja_build_what_has_to_be";
        let ninja = need!(name, program("ninja"));
        let world = World::new();
        let w = world.dir("w");
        world.file("w/t h.h", "#define N 3\n");
        world.file("w/other.h", "\n");
        world.file("w/a.c", "#include \"t h.h\"\nint a(void) { return N; }\n");
        world.file("w/b.c", "#include \"other.h\"\nint main(void) { return 0; }\n");
        let program = binaries::vrift_trace();
        let program = program.display();
        world.file("w/build.ninja", format!(
            "rule cc\n  command = {program} -q -o $out.trace -- cc -c $in -o $out && {program} report $out.trace --format depfile --target $out >$out.d\n  depfile = $out.d\n  deps = gcc\n\
             build a.o: cc a.c\nbuild b.o: cc b.c\n"
        ));
        let change = |name: &str| {
            let file = fs::File::options().write(true).open(w.join(name)).expect("a source");
            file.set_modified(SystemTime::now()).expect("a new time");
        };
        let build = || {
            world
                .native([ninja.as_os_str(), "-v".as_ref(), "-j1".as_ref()])
                .cwd(&w)
                .run()
                .ok()
                .out()
        };
        let steps = |said: &str| (said.contains("cc -c a.c"), said.contains("cc -c b.c"));
        assert_eq!(steps(&build()), (true, true));
        let said = build();
        assert!(said.contains("no work to do"), "{said}");
        change("t h.h");
        assert_eq!(steps(&build()), (true, false));
        change("other.h");
        assert_eq!(steps(&build()), (false, true));
    }

    #[test]
    fn a_depfile_is_read_by_make() {
        let (world, trace) = compiled();
        let rule = report(&world, &trace, &["--format", "depfile", "--target", "t.o"]).stdout;
        world.file("w/t.d", rule);
        world.file("w/Makefile", "t.o:\n\t@echo built again\ninclude t.d\n");
        let w = world.path("w");
        let make = || world.native(["make", "t.o"]).cwd(&w).run().ok().out();
        assert!(make().contains("up to date"), "{}", make());
        let later = SystemTime::now() + Duration::from_secs(60);
        let header = fs::File::options().write(true).open(w.join("t.h")).expect("t.h");
        header.set_modified(later).expect("a new time");
        assert!(make().contains("built again"));
    }

    #[test]
    fn what_is_no_trace_gets_one_line() {
        let (world, trace) = compiled();
        let refused = |name: &str, content: &str, said: &str| {
            let file = world.file(name, content);
            for subcommand in ["report", "explain"] {
                let ran = about(&world, subcommand, &file, [""; 0]).run().expect(125);
                assert!(ran.err().lines().count() == 1 && ran.stdout.is_empty(), "{ran}");
                assert!(ran.err().contains(&format!("{name}{said}")), "{ran}");
            }
        };
        refused("bad1", "hello\n", ":1: no trace begins like this");
        refused("bad2", "", ":1: it is empty");
        refused("bad3", "{\"event\":\"job\",\"version\":9}\n", ":1: version 9");
        let whole = fs::read_to_string(&trace).expect("the trace");
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[4] = "{\"event\":\"op\"}";
        refused("bad4", &lines.join("\n"), ":5: no event of a trace");
        let ran = about(&world, "report", Path::new("nowhere"), [""; 0]).run().expect(125);
        assert!(ran.err().contains("nowhere: No such file"), "{ran}");
        // A last line that is cut off is told, and the rest is used.
        let cut = world.file("cut", &whole[..whole.len() - 20]);
        let ran = about(&world, "report", &cut, [""; 0]).run().ok();
        assert!(ran.err().contains("cut off") && ran.out().contains("no end"), "{ran}");
    }

    #[test]
    fn an_explanation_says_who_and_how() {
        let (world, trace) = compiled();
        let said = about(&world, "explain", &trace, ["t.h"]).run().ok().out();
        assert!(said.contains("read   cc1 ") && said.contains("a look just before"), "{said}");
        let none = about(&world, "explain", &trace, ["/no/such/file"]).run().expect(1).out();
        assert!(none.contains("no call of this job named it"), "{none}");
        let nothing = about(&world, "explain", &trace, [""; 0]).run().ok().out();
        assert_eq!(nothing, "nothing was refused\n");
    }

    #[test]
    fn the_summary_names_hints_and_the_slowest() {
        let world = World::new();
        world.file("src/f", "x");
        world.ingest(world.path("src"), "src");
        let mount = format!("{}=src", world.path("m").display());
        let trace = world.path("t");
        let script = "cat m/f >out; echo >m/g; rm m/f; mv m/f m/h; mkdir m/d; rmdir m/q; sleep 0.2";
        let ran =
            traced(&world, &trace, &["--summary", "-m", &mount], ["sh", "-c", script]).run().ok();
        let said: Vec<String> = ran
            .err()
            .lines()
            .filter(|l| l.starts_with("vrift-trace: ") || l.starts_with("  "))
            .map(str::to_owned)
            .collect();
        assert!(said.len() <= 10, "{ran}");
        let all = said.join("\n");
        for part in [
            "in all ",
            "paths in vain",
            "slowest:",
            "sleep 0.2",
            &format!("run it with -m {mount},mode=overlay"),
        ] {
            assert!(all.contains(part), "{part}: {ran}");
        }
        let ran = traced(&world, &trace, &["--summary=json", "-m", &mount], ["sh", "-c", script])
            .run()
            .ok();
        let object: Value =
            serde_json::from_str(ran.err().lines().last().expect("a line")).expect("JSON");
        assert_eq!(object["trace"]["files_written"], 1, "{object}");
        assert!(
            object["refusals"][0]["allow"].as_str().is_some_and(|hint| hint.contains("overlay"))
        );
        assert!(object["supervision_seconds"].as_f64().is_some_and(|s| s > 0.0));
    }

    /// What the browser makes of a page: its document after the scripts have run.
    fn browse(world: &World, chromium: &Path, page: &Path, hash: &str) -> String {
        let profile = world.dir("browser");
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--dump-dom",
            "--virtual-time-budget=10000",
            "--window-size=1200,800",
        ];
        let user = format!("--user-data-dir={}", profile.display());
        let address = format!("file://{}#{hash}", page.display());
        let job = world.native([chromium.as_os_str()]).args(flags).arg(user).arg(address);
        job.timeout(120).run().ok().out()
    }

    #[test]
    fn the_page_works_in_a_browser() {
        let name = "reports::the_page_works_in_a_browser";
        let chromium = need!(name, program("chromium"));
        let (world, trace) = compiled();
        let page = world.path("page.html");
        about(&world, "report", &trace, [Path::new("--html"), &page]).run().ok();
        let source = fs::read_to_string(&page).expect("the page");
        assert!(
            !source.contains("src=") && !source.contains("http:") && !source.contains("https:"),
            "it loads nothing"
        );
        let at = |name: &str| world.path("w").join(name).display().to_string();
        let tree = browse(&world, &chromium, &page, "");
        assert!(tree.contains("class=\"row process\"") && tree.contains("class=\"bar"), "{tree}");
        // Who wrote a file, and what did it read: two clicks, here as addresses.
        let file = browse(
            &world,
            &chromium,
            &page,
            &format!("tab=files&at=f{}", at("t.o.tmp").replace('/', "%2F")),
        );
        assert!(
            file.contains("Made by (1)") && file.contains("temporary file"),
            "{}",
            details(&file)
        );
        // What a temporary file was made from is followed back, through the assembler's input too.
        let from = details(&file).split("Comes from").nth(1).expect("its sources");
        for name in ["a b.c", "t.h"] {
            assert!(from.contains(&at(name)), "{name}: {}", details(&file));
        }
        let number = details(&file).split("[").nth(1).is_some();
        assert!(number, "a process with its pid: {}", details(&file));
        let found = browse(&world, &chromium, &page, "q=t.h");
        assert!(details(&found).is_empty() || found.contains("cc1"), "{found}");
        let vain = browse(&world, &chromium, &page, "tab=vain&q=gone");
        assert!(vain.contains(&at("gone")), "{vain}");
        let sets = browse(&world, &chromium, &page, "tab=sets");
        assert!(sets.contains("Outputs (2)") && sets.contains(&at("t.o")), "{sets}");
        let refused = browse(&world, &chromium, &page, "tab=refused");
        assert!(refused.contains("Nothing was refused."));
    }

    /// The part of the document that tells of what was chosen.
    fn details(document: &str) -> &str {
        let from = document.find("<aside").map_or("", |at| &document[at..]);
        from.split("</aside>").next().unwrap_or_default()
    }

    #[test]
    fn a_page_of_a_large_job_stays_quick() {
        let name = "reports::a_page_of_a_large_job_stays_quick";
        let chromium = need!(name, program("chromium"));
        let world = World::new();
        let trace = world.file("large", large());
        let page = world.path("page.html");
        let made = about(&world, "report", &trace, [Path::new("--html"), &page]).run().ok();
        assert!(made.wall < Duration::from_secs(20), "{:?}", made.wall);
        let before = std::time::Instant::now();
        let document = browse(&world, &chromium, &page, "tab=files");
        assert!(before.elapsed() < Duration::from_secs(40), "{:?}", before.elapsed());
        assert!(document.contains("40001 paths"), "{}", &document[..2000]);
        let body = document.split("</script>").last().unwrap_or_default();
        let rows = document.matches("class=\"row file\"").count();
        assert!((10..200).contains(&rows), "{rows} rows are made: {body}");
        let chosen = browse(&world, &chromium, &page, "at=p1500");
        assert!(details(&chosen).contains("tool 1500"), "{}", details(&chosen));
        assert!(chosen.contains("row process"));
    }

    /// A trace of 2,000 processes and 100,000 operations. Its names would break a careless page.
    fn large() -> String {
        let mut text = String::from(
            "{\"event\":\"job\",\"version\":1,\"program\":\"vrift-trace 0\",\"began\":1,\"command\":[\"</script><b>{{data}}\"],\
             \"cwd\":\"/w\",\"kernel\":\"6\",\"machine\":\"m\",\"mounts\":[],\"reads\":true,\"probes\":true}\n",
        );
        let mut n = 0;
        for process in 1..=2000u64 {
            let parent =
                if process > 1 { format!(",\"parent\":{}", process / 2) } else { String::new() };
            let t = process * 1_000_000;
            let _ = writeln!(
                text,
                "{{\"event\":\"start\",\"t\":{t},\"process\":{process},\"pid\":{process}{parent}}}"
            );
            let env = "0".repeat(64);
            n += 1;
            let _ = writeln!(
                text,
                "{{\"event\":\"op\",\"t\":{t},\"n\":{n},\"process\":{process},\"call\":\"execve\",\"access\":\"exec\",\"path\":\"/bin/tool\",\"exec\":{{\"argv\":[\"tool\",\"{process}\"],\"env\":\"{env}\"}}}}"
            );
            for i in 0..49u64 {
                n += 1;
                let file = (process * 49 + i) % 40_000;
                let (access, err) =
                    if i % 7 == 0 { ("probe", ",\"err\":\"ENOENT\"") } else { ("read", "") };
                let _ = writeln!(
                    text,
                    "{{\"event\":\"op\",\"t\":{t},\"n\":{n},\"process\":{process},\"call\":\"openat\",\"access\":\"{access}\",\"path\":\"/src/</script>{file}\"{err}}}"
                );
            }
            let _ = writeln!(
                text,
                "{{\"event\":\"exit\",\"t\":{},\"process\":{process},\"status\":0}}",
                t + 5_000_000
            );
        }
        text
    }
}
