//! What was found, line by line as it is found, and the exit code of the worst.

use serde::Serialize;

use crate::{
    admin::SCHEMA,
    cli::{
        args::{Output, OutputArgs},
        out::{self, Failure, Look},
        text::{Tone, clean, left, wrap},
    },
    exit::Exit,
};

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    /// `ok`, `warn` or `FAIL`.
    grade: &'static str,
    /// What was looked at.
    about: &'static str,
    /// What was found, and what to do.
    text: String,
}

/// All of them.
pub(super) struct Report {
    /// `None`: as JSON, at the end.
    look: Option<Look>,
    findings: Vec<Finding>,
    worst: Exit,
}

const GRADE: usize = 6;
const ABOUT: usize = 12;

impl Report {
    pub(super) fn new(args: &OutputArgs) -> Self {
        let look = match args.output {
            Output::Text => Some(Look::of(args)),
            Output::Json => None,
        };
        Self { look, findings: Vec::new(), worst: Exit::Ok }
    }

    /// It is as it should be.
    pub(super) fn ok(&mut self, about: &'static str, text: impl Into<String>) -> Result<(), Failure> {
        self.add("ok", about, text.into())
    }

    /// `run` would start, and something will not go as well as it could.
    pub(super) fn warn(&mut self, about: &'static str, text: impl Into<String>) -> Result<(), Failure> {
        self.add("warn", about, text.into())
    }

    /// `run` would not start, or be of no use; with [`Exit::Degraded`] it would.
    pub(super) fn fail(
        &mut self,
        about: &'static str,
        exit: Exit,
        text: impl Into<String>,
    ) -> Result<(), Failure> {
        // The higher the code, the earlier in the chain is what is wrong: without a configuration nothing else counts.
        if exit as u8 > self.worst as u8 {
            self.worst = exit;
        }
        self.add("FAIL", about, text.into())
    }

    fn add(&mut self, grade: &'static str, about: &'static str, text: String) -> Result<(), Failure> {
        if let Some(look) = &self.look {
            let tone = match grade {
                "ok" => Tone::Good,
                "warn" => Tone::Fair,
                _ => Tone::Bad,
            };
            let mut lines = String::new();
            let mut head = look.paint.of(tone, &left(grade, GRADE)) + &left(about, ABOUT);
            for line in wrap(&clean(&text), look.width.saturating_sub(GRADE + ABOUT)) {
                lines.push_str(&format!("{head}{line}\n"));
                head = " ".repeat(GRADE + ABOUT);
            }
            out::data(&lines)?;
        }
        self.findings.push(Finding { grade, about, text });
        Ok(())
    }

    /// How the command ends.
    pub(super) fn end(self) -> Result<Exit, Failure> {
        let count = |grade| self.findings.iter().filter(|finding| finding.grade == grade).count();
        let (failed, warned) = (count("FAIL"), count("warn"));
        out::data(&match &self.look {
            None => out::json(&serde_json::json!({
                "schema": SCHEMA,
                "exit": self.worst as u8,
                "findings": self.findings,
            }))?,
            // What `--guest` found does not keep `run` from starting.
            Some(_) if failed > 0 && self.worst == Exit::Degraded => {
                format!(
                    "\n`lbsidecar run` can start, but not all is well: {failed} of {} failed\n",
                    self.findings.len()
                )
            }
            Some(_) if failed > 0 => {
                format!("\n`lbsidecar run` would not start: {failed} of {} failed\n", self.findings.len())
            }
            Some(_) if warned > 0 => format!("\n`lbsidecar run` can start; {warned} to think about\n"),
            Some(_) => "\n`lbsidecar run` can start\n".to_owned(),
        })?;
        Ok(self.worst)
    }
}
