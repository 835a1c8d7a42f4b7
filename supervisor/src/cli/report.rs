//! `vrift-trace report` and `vrift-trace explain`.

use super::Complaint;
use super::args::{ExplainOptions, Format, ReportOptions};
use crate::report::{self, Model};
use crate::trace::reader;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The exit status when two traces differ, or there is nothing to explain.
const DIFFERENT: u8 = 1;

/// Reads a trace; what is missing at its end is said, and what is there is used.
pub fn load(path: &Path) -> Result<Model, Complaint> {
    let trace = reader::read(path).map_err(|e| e.to_string())?;
    if trace.cut {
        let file = path.display();
        eprintln!("vrift-trace: {file}: the last line is cut off; the job was not seen to its end");
    }
    Ok(Model::new(trace))
}

/// Prints or writes a report.
pub fn report(options: &ReportOptions) -> Result<u8, Complaint> {
    let model = load(&options.trace)?;
    if let Some(other) = &options.against {
        let as_json = match options.format {
            None | Some(Format::Text) => false,
            Some(Format::Json) => true,
            Some(_) => {
                return Err("--against compares as text or json only; leave the format out".into());
            }
        };
        let (text, same) = report::compare(&model, &load(other)?, as_json);
        print(&text)?;
        return Ok(if same { 0 } else { DIFFERENT });
    }
    if let Some(file) = &options.html {
        std::fs::write(file, report::page(&model))
            .map_err(|e| format!("{}: {e}; name a file that can be written", file.display()))?;
        if options.format.is_none() {
            return Ok(0);
        }
    }
    let left_out = |(text, left_out): (Vec<u8>, usize)| {
        if left_out > 0 {
            eprintln!(
                "vrift-trace: {left_out} paths with a line break are left out: this format can't \
                 tell them; --format json can"
            );
        }
        text
    };
    let targets: Vec<Vec<u8>> = options.target.iter().map(|t| t.as_bytes().to_vec()).collect();
    let text = match options.format.unwrap_or(Format::Text) {
        Format::Html => report::page(&model),
        Format::Text => report::text(&model),
        Format::Json => report::json(&model, options.hashes),
        Format::Perfetto => report::perfetto(&model),
        Format::Dot => report::dot(&model),
        Format::Depfile => left_out(report::depfile(&model, &targets)),
        Format::Fsatrace => left_out(report::fsatrace(&model)),
    };
    print(&text)?;
    Ok(0)
}

/// Explains refusals, or a path.
pub fn explain(options: &ExplainOptions) -> Result<u8, Complaint> {
    let model = load(&options.trace)?;
    let path = options.path.as_ref().map(|path| path.as_os_str().as_bytes());
    match report::explain(&model, path) {
        Some(text) => print(&text).map(|()| 0),
        None => {
            match &options.path {
                Some(path) => println!("{}: no call of this job named it", path.display()),
                None => println!("nothing was refused"),
            }
            Ok(if options.path.is_some() { DIFFERENT } else { 0 })
        }
    }
}

fn print(text: &[u8]) -> Result<(), Complaint> {
    let mut out = std::io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(|e| format!("writing the report: {e}"))
}
