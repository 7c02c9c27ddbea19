//! `render`: the configuration that HAProxy would get for the pool as it is now.

use super::{args::RenderArgs, out, out::Failure, small_runtime};
use crate::{
    admin::{
        client::Client,
        view::{MemberState, MemberView},
    },
    config::{self, Config, Env},
    core::{
        lb::{LbMode, LbModel, LbServer},
        state::State,
        units::Weight,
    },
    daemon::exit_of_haproxy,
    exit::Exit,
    haproxy::{Haproxy, HaproxyError},
    store,
};

impl From<HaproxyError> for Failure {
    fn from(error: HaproxyError) -> Self {
        Self::new(exit_of_haproxy(&error), format!("failed to {error}"))
    }
}

pub(super) fn run(args: &RenderArgs) -> Result<Exit, Failure> {
    let config = config::load(&args.flags, &Env::of_process())?.config;
    let runtime = small_runtime()?;
    let model = runtime.block_on(model(&config));
    let haproxy = Haproxy::new(config.haproxy)?;
    if args.check {
        runtime.block_on(haproxy.accepts(&model))?;
    }
    out::data(&haproxy.render(&model)?)?;
    Ok(Exit::Ok)
}

/// The servers as the daemon has them, or as it wrote them down last, or none.
async fn model(config: &Config) -> LbModel {
    let places = &config.places;
    if let Ok(view) = Client::new(&places.admin.socket).status().await {
        let servers = view.members.iter().filter_map(server).collect();
        return LbModel { servers, closing: view.vip.released };
    }
    match store::peek::<State>(&places.state_dir, &places.pool) {
        Ok(Some(peeked)) => peeked.state.lb_model(),
        Ok(None) => LbModel::default(),
        Err(error) => {
            out::talk(&format!("failed to {error}; rendering without servers"));
            LbModel::default()
        }
    }
}

fn server(member: &MemberView) -> Option<LbServer> {
    let mode = match member.state {
        MemberState::Proving | MemberState::Ramping | MemberState::Serving => LbMode::Ready,
        MemberState::Draining => LbMode::Drain,
        MemberState::Joining | MemberState::Leaving | MemberState::Out => return None,
    };
    Some(LbServer {
        name: member.backend.clone(),
        address: member.address?,
        weight: Weight::clamped(member.weight),
        mode,
    })
}
