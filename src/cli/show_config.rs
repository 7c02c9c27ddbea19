//! `config`: every setting as it holds, and where it comes from.

use serde_json::{Value, json};

use super::{
    args::{ConfigArgs, Output},
    out::{self, Failure, Look},
    text::{Tone, clean},
};
use crate::{
    admin::SCHEMA,
    config::{self, Effective, Env},
    exit::Exit,
};

pub(super) fn run(args: &ConfigArgs) -> Result<Exit, Failure> {
    if args.example {
        out::data(&config::example())?;
        return Ok(Exit::Ok);
    }
    let loaded = config::load(&args.flags, &Env::of_process())?;
    for warning in &loaded.warnings {
        out::talk(warning);
    }
    let rows = loaded.config.effective();
    out::data(&match args.out.output {
        Output::Json => {
            let settings: Vec<Value> = rows
                .iter()
                .map(|row| json!({ "key": row.key, "value": row.value, "origin": row.origin }))
                .collect();
            out::json(&json!({ "schema": SCHEMA, "settings": settings }))?
        }
        Output::Text => text(&rows, &Look::of(&args.out)),
    })?;
    Ok(Exit::Ok)
}

/// `key = value  # origin`, what somebody set standing out.
fn text(rows: &[Effective], look: &Look) -> String {
    let mut text = String::new();
    for row in rows {
        let (line, tone) = match (&row.value, row.origin.as_str()) {
            (Some(value), "default") => (format!("{} = {value}", row.key), Tone::Plain),
            (Some(value), _) => (format!("{} = {value}", row.key), Tone::Bold),
            (None, _) => (row.key.to_owned(), Tone::Dim),
        };
        let origin = if row.origin == "default" { String::new() } else { format!("  # {}", row.origin) };
        text.push_str(&look.paint.of(tone, &clean(&line)));
        text.push_str(&look.paint.of(Tone::Dim, &clean(&origin)));
        text.push('\n');
    }
    text
}
