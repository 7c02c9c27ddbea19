//! Which loads run here: a file for each in the pool's run directory, so that `load --stop` finds them, also when one was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procfs::process::Process;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::burners;
use crate::{
    cli::out::{self, Failure},
    exit::Exit,
};

/// Time for a load to let its requests in flight come to their end, and to end its burners.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    pid: i32,
    /// When the process started, in clock ticks after the machine's boot: with it, a number is one process for ever.
    started: u64,
    /// Command lines by which guests are reached in which burners may be at work.
    burners: Vec<Vec<String>>,
}

/// The file of this load; removed with it.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    noted: Noted,
}

impl Record {
    /// Writes it, as far as that is possible: a load may also be run where no pool is.
    pub(super) fn begin(run_dir: &Path) -> Self {
        let pid = Pid::this().as_raw();
        let noted = Noted { pid, started: started(pid).unwrap_or_default(), burners: Vec::new() };
        let record = Self { path: run_dir.join(format!("load-{pid}.json")), noted };
        if let Err(error) = fs::create_dir_all(run_dir).and_then(|()| record.write()) {
            let path = record.path.display();
            out::talk(&format!("`load --stop` will not find this load: failed to write {path}: {error}"));
        }
        record
    }

    /// Notes the guests in which burners are at work, before they are.
    pub(super) fn note(&mut self, burners: Vec<Vec<String>>) -> Result<(), Failure> {
        self.noted.burners = burners;
        self.write().map_err(|error| {
            Failure::new(Exit::Failure, format!("failed to write {}: {error}", self.path.display()))
        })
    }

    fn write(&self) -> std::io::Result<()> {
        fs::write(&self.path, serde_json::to_vec(&self.noted)?)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // It is written anew by the next load of this number, and passed over by `--stop` until then.
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends every load that has a file there.
pub(super) async fn stop_all(run_dir: &Path) -> Result<Exit, Failure> {
    let mut exit = Exit::Ok;
    let mut stopped = 0;
    for path in files(run_dir) {
        let noted: Noted =
            fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if is_alive(&noted) {
            match end(&noted).await {
                Ok(()) => out::data(&format!("load {} ended\n", noted.pid))?,
                Err(why) => {
                    out::talk(&why);
                    exit = Exit::Failure;
                    continue;
                }
            }
            stopped += 1;
        } else {
            let mut left = false;
            for line in &noted.burners {
                match burners::stop(line).await {
                    Ok(()) => out::data(&format!("burners of load {} ended\n", noted.pid))?,
                    Err(why) => {
                        out::talk(&why);
                        left = true;
                    }
                }
            }
            if left {
                exit = Exit::Failure;
                continue;
            }
            stopped += usize::from(!noted.burners.is_empty());
            let _ = fs::remove_file(&path);
        }
    }
    if stopped == 0 && exit == Exit::Ok {
        out::data("no load runs\n")?;
    }
    Ok(exit)
}

fn files(run_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run_dir).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("load-") && name.ends_with(".json")
        })
        .collect();
    files.sort();
    files
}

async fn end(noted: &Noted) -> Result<(), String> {
    let failed = |why: String| format!("failed to end load {}: {why}", noted.pid);
    kill(Pid::from_raw(noted.pid), Signal::SIGTERM).map_err(|error| failed(error.to_string()))?;
    let gone = async {
        while is_alive(noted) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.map_err(|_| failed(format!("it still runs after {} s", PATIENCE.as_secs())))
}

fn is_alive(noted: &Noted) -> bool {
    noted.pid > 0 && started(noted.pid) == Some(noted.started)
}

/// `None` for a process that there is not, or that has ended and was not waited for.
fn started(pid: i32) -> Option<u64> {
    let stat = Process::new(pid).ok()?.stat().ok()?;
    (stat.state != 'Z').then_some(stat.starttime)
}
