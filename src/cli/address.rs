//! `address`: the service address on this host, for a daemon that may not change the host's addresses itself.

use std::{
    io::{Error, stdin},
    os::{fd::AsFd, unix::net::UnixListener},
    path::PathBuf,
    time::Duration,
};

use super::out::Failure;
use crate::{
    config::{self, Env, PlaceFlags},
    exit::Exit,
    telemetry,
    vip::{Holder, settings::VipMode},
};

/// systemd starts it again when somebody asks.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn run(flags: &PlaceFlags) -> Result<Exit, Failure> {
    let (places, vip) = config::service_address(flags, &Env::of_process())?;
    let VipMode::Host { interface, .. } = vip.mode else {
        let why = "failed to hold the service address: vip.mode is not \"host\"";
        return Err(Failure::new(Exit::Config, why.to_owned()));
    };
    let _log = telemetry::log::init(&places.log)
        .map_err(|error| Failure::new(Exit::Failure, format!("failed to {error}")))?;
    let failed = |error: Error| {
        let why = "failed to serve standard input: it has to be a listening socket, which lbsidecar-address@POOL.socket makes";
        Failure::new(Exit::Usage, format!("{why}: {error}"))
    };
    let socket = UnixListener::from(stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    socket.local_addr().and_then(|_| socket.set_nonblocking(true)).map_err(failed)?;
    super::small_runtime()?.block_on(async {
        let listener = tokio::net::UnixListener::from_std(socket).map_err(failed)?;
        // This process is the one behind the socket.
        Holder::new(interface, PathBuf::new()).serve(&listener, IDLE).await.map_err(failed)
    })?;
    Ok(Exit::Ok)
}
