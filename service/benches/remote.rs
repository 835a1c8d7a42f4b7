//! What a push and a pull of many small files cost, to an S3 server on loopback and to a directory:
//! `cargo bench -p vrift-service`; with `VRIFT_BENCH_FILES=N` other than 20,000 files.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/s3.rs"]
mod s3;

use std::time::Instant;

use common::{Place, write};
use s3::{Server, with_s3};

fn main() {
    let files = std::env::var("VRIFT_BENCH_FILES").ok().and_then(|n| n.parse().ok());
    let files: usize = files.unwrap_or(20_000);
    let (server, here) = (Server::start(), Place::new());
    let dir = here.dir("tree");
    for i in 0..files {
        write(&dir.join(format!("d{}/f{i}", i % 100)), format!("file number {i}\n").repeat(15));
    }
    here.ingest(&dir, "t");
    let directory = here.path("remote").to_str().expect("UTF-8").to_owned();
    for url in [server.url(), directory] {
        let (there, lazy) = (Place::new(), Place::new());
        let steps: [(&str, &Place, &[&str]); 5] = [
            ("push", &here, &["push", "t", &url]),
            ("push again", &here, &["push", "t", &url]),
            ("pull", &there, &["pull", &url, "t"]),
            ("pull again", &there, &["pull", &url, "t"]),
            ("pull --lazy", &lazy, &["pull", "--lazy", &url, "t"]),
        ];
        for (what, place, args) in steps {
            let start = Instant::now();
            // Without the tests' limit: a busy machine may take its time.
            let done = with_s3(&mut place.command(args), server.addr).output().expect("vrift");
            assert!(done.status.success(), "{done:?}");
            println!("{url}: {what} of {files} files: {:.2} s", start.elapsed().as_secs_f64());
        }
    }
}
