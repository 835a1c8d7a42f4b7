//! The trees that whole jobs run over: a repository of small files, and modules for Python and for
//! Node. The same every time.

use std::fs;
use std::io;
use std::path::Path;

use crate::Failure;
use crate::run::fixture::make_small;
use crate::run::process::Job;

use super::LIMIT;

/// Modules of a package, Python's and Node's.
const PACKAGE: usize = 20;

/// A git repository of `files` small files, all committed and packed, at `root`.
///
/// # Errors
/// Those of making files, and git's.
pub fn repository(root: &Path, files: usize) -> Result<(), Failure> {
    make_small(root, files)?;
    let run = |args: &[&str]| git(root).args(args).run().map(drop);
    run(&["init", "--quiet", "--template="])?;
    run(&["-c", "core.autocrlf=false", "add", "--all"])?;
    run(&["commit", "--quiet", "--message=all of it"])?;
    run(&["repack", "-a", "-d", "--quiet"])
}

/// `git` at `root` as nobody has configured it.
pub fn git(root: &Path) -> Job {
    let job = Job::new("git").arg("-C").arg(root).limit(LIMIT);
    // A copy that another user made is as good.
    let job =
        job.args(["-c", "safe.directory=*", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
    let job = job.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let who = |job: Job, whose: &str| {
        job.env(format!("GIT_{whose}_NAME"), "bench")
            .env(format!("GIT_{whose}_EMAIL"), "bench@invalid")
    };
    who(who(job, "AUTHOR"), "COMMITTER")
}

/// Writes an index at `to` that knows the names and contents of the repository at `root` but of no file
/// that it is unchanged: as after a checkout by somebody else. The repository's own is left alone.
///
/// # Errors
/// git's.
pub fn unrefreshed_index(root: &Path, to: &Path) -> Result<(), Failure> {
    git(root).args(["read-tree", "HEAD"]).env("GIT_INDEX_FILE", to).run().map(drop)
}

/// `count` Python modules in packages at `root`, compiled.
///
/// # Errors
/// Those of making files, and Python's.
pub fn python(program: &str, root: &Path, count: usize) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        for number in 0..count {
            let package = root.join(format!("package_{:04}", number / PACKAGE));
            if number % PACKAGE == 0 {
                fs::create_dir_all(&package)?;
                fs::write(package.join("__init__.py"), "")?;
            }
            let text = format!(
                "\"\"\"Module {number}.\"\"\"\n\nVALUE = {number}\n\n\n\
                 class Thing:\n    \"\"\"A thing.\"\"\"\n\n    def __init__(self, size=VALUE):\n        \
                 self.size = size\n\n    def twice(self):\n        return 2 * self.size\n"
            );
            fs::write(package.join(format!("module_{number:05}.py")), text)?;
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make modules in {}", root.display())))?;
    // As an installed package has it. In a read-only tree Python could keep nothing.
    Job::new(program).args(["-I", "-m", "compileall", "-q"]).arg(root).limit(LIMIT).run().map(drop)
}

/// `count` modules for Node at `root`, in packages, and `main.js`, which requires all of them and prints
/// the sum of their numbers.
///
/// # Errors
/// Those of making files.
pub fn node(root: &Path, count: usize) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        for number in 0..count {
            let name = format!("package-{:04}", number / PACKAGE);
            let package = root.join("node_modules").join(&name);
            if number % PACKAGE == 0 {
                fs::create_dir_all(package.join("lib"))?;
                let text = format!(
                    "{{\"name\": \"{name}\", \"version\": \"1.0.0\", \"main\": \"index.js\"}}\n"
                );
                fs::write(package.join("package.json"), text)?;
                let lib: Vec<String> = (number..count.min(number + PACKAGE))
                    .map(|number| format!("  require('./lib/module-{number}'),\n"))
                    .collect();
                fs::write(
                    package.join("index.js"),
                    format!("'use strict';\nmodule.exports = [\n{}];\n", lib.concat()),
                )?;
            }
            let text = format!(
                "'use strict';\nexports.value = {number};\nexports.twice = function twice(size) {{\n  \
                 return 2 * (size || exports.value);\n}};\n"
            );
            fs::write(package.join(format!("lib/module-{number}.js")), text)?;
        }
        let packages = count.div_ceil(PACKAGE);
        let main = format!(
            "'use strict';\nlet sum = 0;\nfor (let i = 0; i < {packages}; i++) {{\n  \
             for (const module of require('package-' + String(i).padStart(4, '0'))) sum += module.value;\n\
             }}\nconsole.log(sum);\n"
        );
        fs::write(root.join("main.js"), main)
    };
    make().map_err(Failure::io(format!("cannot make modules in {}", root.display())))
}
