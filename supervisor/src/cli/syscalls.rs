//! `vrift-trace syscalls`: the public table.

use super::args::Table;
use crate::table::{Arch, Handler, LAST_KNOWN, Need, ROWS, Row, origin};
use std::io::Write;

/// Prints the table.
pub fn run(options: &Table) -> Result<u8, String> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = match (options.json, options.markdown) {
        (true, _) => json(&mut out),
        (_, true) => markdown(&mut out),
        _ => text(&mut out),
    };
    written.and_then(|()| out.flush()).map(|()| 0).map_err(|e| format!("writing the table: {e}"))
}

fn text(out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<18} {:>6} {:>7} {:>5}  {:<9} what is done",
        "call", "x86_64", "aarch64", "i386", "asked"
    )?;
    let number = |row: &Row, arch| row.number(arch).map_or("-".to_owned(), |n| n.to_string());
    for row in ROWS {
        writeln!(
            out,
            "{:<18} {:>6} {:>7} {:>5}  {:<9} {}",
            row.name,
            number(row, Arch::X86_64),
            number(row, Arch::Aarch64),
            number(row, Arch::I386),
            asked(row),
            row.note
        )?;
    }
    writeln!(
        out,
        "\nasked: always = when a file is opened, run or changed is recorded or there are mounts;"
    )?;
    writeln!(
        out,
        "  probes = the same, if look-ups are; mounts = only with mounts; filter = decided in the kernel."
    )?;
    writeln!(
        out,
        "Every other call goes on in the kernel unseen, one newer than {LAST_KNOWN} counted; x32 calls get ENOSYS."
    )
}

fn json(out: &mut impl Write) -> std::io::Result<()> {
    let rows: Vec<_> = ROWS
        .iter()
        .map(|row| {
            serde_json::json!({
                "name": row.name,
                "x86_64": row.number(Arch::X86_64),
                "aarch64": row.number(Arch::Aarch64),
                "i386": row.number(Arch::I386),
                "asked": asked(row),
                "what": row.note,
                "since": origin::since(row.name),
                "refused": matches!(row.handler, Handler::Refuse(_) | Handler::Deny(..)),
                "errno": match row.handler {
                    Handler::Refuse(e) | Handler::Deny(e, _) => Some(e.to_string()),
                    _ => None,
                },
                "tested_by": origin::tested_by(row),
            })
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &rows)?;
    writeln!(out)
}

fn markdown(out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "# System calls\n\n\
         Every call that names or changes files, or would go round the supervisor, and what is done \
         with it.\nThis page is printed by `vrift-trace syscalls --markdown`; a test keeps the two \
         equal.\n\n\
         *Asked*: `always` = when a file is opened, run or changed is recorded, or there are mounts or rules; \
         `probes` =\nthe same, if look-ups are recorded; `mounts` = only in a job with mounts \
         or rules;\n`descriptors` = only in a job with mounts; `filter` = decided in the kernel, \
         without a notification, in a\njob with mounts or rules (io_uring: also without, by policy). Every other\ncall goes on in the kernel unseen. Calls with the \
         x32 bit get ENOSYS; 32-bit calls are decided by\n`[syscalls] compat32`. On a path that is \
         not projected each of these goes on in the kernel,\nunless a rule refuses it.\nA call with a number above \
         {LAST_KNOWN} (Linux 6.18) is newer than the table: it goes on in the kernel, and is\ncounted \
         and named in the summary.\n\n\
         *Since*: the Linux that first had the call, where that is later than 2.6.12. *Tested by*: the \
         programs in\n`tests/tests/` that make the call in a job and compare its answer; the filter's \
         verdict on every row is a\nunit test besides.\n\n\
         | call | x86_64 | aarch64 | i386 | since | asked | what is done | tested by |\n\
         |---|--:|--:|--:|--:|---|---|---|"
    )?;
    let number = |row: &Row, arch| row.number(arch).map_or("-".to_owned(), |n| n.to_string());
    for row in ROWS {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            number(row, Arch::X86_64),
            number(row, Arch::Aarch64),
            number(row, Arch::I386),
            origin::since(row.name).unwrap_or_default(),
            asked(row),
            row.note,
            origin::tested_by(row).join(", ")
        )?;
    }
    Ok(())
}

fn asked(row: &Row) -> &'static str {
    match (row.handler, row.need) {
        (Handler::Refuse(_) | Handler::PrCtl, _) => "filter",
        (handler, Need::Mounts) if handler.is_of_mounts_alone() => "descriptors",
        (_, Need::Mounts | Need::IoUring | Need::Unprivileged) => "mounts",
        (_, Need::Record) => "always",
        (_, Need::Writable) => "writable mounts",
        (_, Need::Probes) => "probes",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_this_table() {
        let mut page = Vec::new();
        super::markdown(&mut page).expect("memory takes it");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SYSCALLS.md");
        let there = std::fs::read(path).expect("docs/SYSCALLS.md is there");
        assert!(
            there == page,
            "docs/SYSCALLS.md is not today's table: vrift-trace syscalls --markdown > docs/SYSCALLS.md"
        );
    }
}
