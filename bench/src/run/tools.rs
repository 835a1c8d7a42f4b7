//! The programs that are compared: built first, then found beside this one.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Failure;

use super::process::Job;

/// Building from nothing takes minutes, and so may storing a million files.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Where the programs are.
#[derive(Debug)]
pub struct Tools {
    floor: PathBuf,
    /// The guest that times single calls.
    pub calls: PathBuf,
    product: Option<Product>,
}

#[derive(Debug)]
struct Product {
    vrift: PathBuf,
    trace: PathBuf,
    store: PathBuf,
}

impl Tools {
    /// Builds everything when cargo started this program, and finds it. The second value says why
    /// vrift-trace is left out, when it is.
    ///
    /// # Errors
    /// When `floor` or `calls` cannot be had: then there is nothing to compare with.
    pub fn find(store: &Path, build: bool) -> Result<(Self, Option<String>), Failure> {
        let here =
            env::current_exe().map_err(Failure::io("cannot find this program's directory"))?;
        let here = here.parent().unwrap_or(Path::new("/")).to_owned();
        let release = !cfg!(debug_assertions);
        let mut missing = None;
        if build && let Some(cargo) = env::var_os("CARGO") {
            let cargo = || {
                let job = Job::new(&cargo).args(["build", "--quiet"]).limit(LIMIT);
                if release { job.arg("--release") } else { job }
            };
            cargo().args(["-p", "vrift-bench", "--bins"]).run()?;
            let product = ["-p", "vrift-service", "-p", "vrift-supervisor", "--bins"];
            if let Err(error) = cargo().args(product).run() {
                missing = Some(error.to_string());
            }
        }
        let (vrift, trace) = (here.join("vrift"), here.join("vrift-trace"));
        if missing.is_none()
            && let Some(absent) = [&vrift, &trace].into_iter().find(|path| !path.exists())
        {
            missing = Some(format!("there is no {}", absent.display()));
        }
        let store = store.to_owned();
        let product = missing.is_none().then_some(Product { vrift, trace, store });
        Ok((Self { floor: here.join("floor"), calls: here.join("calls"), product }, missing))
    }

    /// Whether there is a vrift-trace to be measured.
    #[must_use]
    pub fn has_product(&self) -> bool {
        self.product.is_some()
    }

    /// The floor, to be given to [`Job::under`].
    #[must_use]
    pub fn floor(&self) -> Job {
        Job::new(&self.floor)
    }

    /// `vrift-trace --summary` over the run's store, to be given to [`Job::under`].
    #[must_use]
    pub fn trace(&self) -> Option<Job> {
        let product = self.product.as_ref()?;
        Some(Job::new(&product.trace).arg("--summary").env("VR_THE_SOURCE", &product.store))
    }

    /// `vrift` over the store at `store`.
    #[must_use]
    pub fn vrift(&self, store: &Path) -> Option<Job> {
        let product = self.product.as_ref()?;
        Some(Job::new(&product.vrift).env("VR_THE_SOURCE", store).limit(LIMIT))
    }

    /// `vrift ingest DIR --name REF`, into the run's store.
    ///
    /// # Errors
    /// Those of the command. Without a vrift nothing is done.
    pub fn ingest(&self, directory: &Path, name: &str) -> Result<(), Failure> {
        let Some(product) = &self.product else { return Ok(()) };
        let Some(vrift) = self.vrift(&product.store) else { return Ok(()) };
        vrift.arg("ingest").arg(directory).args(["--name", name]).run().map(drop)
    }
}
