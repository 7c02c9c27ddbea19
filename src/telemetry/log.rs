//! How log lines look: for the journal, when it takes standard error, as lines with their priority; else for people, or as JSON.

use std::{
    env,
    fmt::{self, Debug},
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use super::settings::{LogFormat, LogSettings};

/// Changes the filter of the running program.
#[derive(Debug, Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is wrong.
    #[error("use the log filter {filter:?}: {why}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why, and what would be right.
        why: String,
    },
    /// Logging was set up before.
    #[error("set up logging: {0}")]
    Twice(String),
}

/// Sets up logging for the whole program; once.
///
/// # Errors
/// When the filter is wrong, or logging was set up before.
pub fn init(settings: &LogSettings) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse(&settings.filter)?);
    tracing_subscriber::registry()
        .with(filter)
        .with(output(settings.format))
        .try_init()
        .map_err(|error| LogError::Twice(error.to_string()))?;
    Ok(LogHandle(handle))
}

impl LogHandle {
    /// Uses another filter from now on.
    ///
    /// # Errors
    /// When the filter is wrong; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let new = parse(filter)?;
        // It fails only when the subscriber is gone, and then nobody logs any more.
        let _ = self.0.reload(new);
        Ok(())
    }
}

/// Says what is wrong with a filter, and what would be right.
///
/// # Errors
/// That sentence.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match parse(filter) {
        Err(LogError::Filter { why, .. }) => Err(why),
        _ => Ok(()),
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = |why: String| LogError::Filter { filter: filter.to_owned(), why };
    // `EnvFilter` takes a misspelt level for the name of a part that logs everything, and all else falls silent.
    let word = |item: &&str| !item.contains(['=', '[', ':']) && item.parse::<LevelFilter>().is_err();
    if let Some(item) = filter.split(',').map(str::trim).find(word) {
        return Err(wrong(format!(
            "{item:?} is no level: use error, warn, info, debug, trace or off, and parts as lbsidecar::haproxy=debug"
        )));
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| wrong(format!("{error}: write it as info,lbsidecar::haproxy=debug")))
}

type Output = Box<
    dyn Layer<tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>> + Send + Sync,
>;

fn output(format: LogFormat) -> Output {
    let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Json => stderr.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Auto if journal_takes_stderr() => stderr.with_ansi(false).event_format(ForJournal).boxed(),
        LogFormat::Auto | LogFormat::Text => stderr.with_ansi(colour()).boxed(),
    }
}

/// One line: the priority in front as sd-daemon(3) has it, the message, and its fields, since `journalctl` shows nothing else. The
/// journal has the time and the unit.
struct ForJournal;

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `JOURNAL_STREAM` holds device and inode of the journal's stream; it is inherited by programs whose output goes elsewhere,
/// so both are compared (systemd.exec(5)).
fn journal_takes_stderr() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    nix::sys::stat::fstat(io::stderr().as_fd())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_line_for_the_journal_has_its_priority_and_its_fields() {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Lines {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(text)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(ForJournal)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(effect = "reload", elapsed_ms = 31, "effect ended");
            tracing::warn!(reason = %"the cloud does not answer", "configuration");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<6>effect ended effect=\"reload\" elapsed_ms=31\n<4>configuration reason=the cloud does not answer\n"
        );
    }

    #[test]
    fn a_misspelt_level_is_told() {
        for good in ["info", "off", "debug,hyper=warn", "info,lbsidecar::haproxy=trace", "warn,[run]=debug"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("verbose", "\"verbose\" is no level: "),
            ("info,haproxy", "\"haproxy\" is no level: "),
            ("lbsidecar=loud", "error parsing level filter"),
        ] {
            let told = check_filter(bad).unwrap_err();
            assert!(told.starts_with(why), "{bad}: {told}");
        }
    }
}
