//! Brings the servers of a running worker to the model: weights, drains and maintenance, each read back.

use std::collections::BTreeMap;

use super::{
    Haproxy,
    error::HaproxyError,
    master::{Order, Patience, changing},
    server_state::ServerState,
};
use crate::core::{
    ids::BackendName,
    lb::{LbAdmin, LbMode, LbModel, LbServer},
    units::Weight,
};

impl Haproxy {
    /// Tells the worker `pid` what differs between its servers and the model. Servers that the model does not know any more get no
    /// new session; those that the worker does not know yet, or elsewhere, are left for a reload.
    ///
    /// What takes more traffic comes first: there is no moment in which nobody is usable because one was drained before another
    /// got its weight.
    async fn order_all(&self, pid: u32, model: &LbModel, read_back: ReadBack) -> Result<(), HaproxyError> {
        let states = self.master.servers(pid).await?;
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for server in &model.servers {
            let Some(state) = states.get(&server.name).filter(|state| state.address == Some(server.address))
            else {
                continue;
            };
            let orders = orders(state, server).into_iter().map(|order| (&server.name, order));
            if server.mode == LbMode::Ready && server.weight.get() >= state.weight {
                more.extend(orders);
            } else {
                less.extend(orders);
            }
        }
        for (name, state) in &states {
            if state.admin != LbAdmin::Maint && !model.servers.iter().any(|server| server.name == *name) {
                less.push((name, Order::Maint));
            }
        }
        // A worker that knows nobody who stays goes on with those that it knows: after the reload it still has clients.
        let somebody_stays = model.servers.iter().any(|server| {
            server.mode == LbMode::Ready && server.weight > Weight::ZERO && states.contains_key(&server.name)
        });
        if read_back == ReadBack::No && !somebody_stays {
            less.clear();
        }
        for (name, order) in more.into_iter().chain(less) {
            self.master.order(pid, name, order).await?;
        }
        Ok(())
    }

    /// Brings the current worker to the model, as far as orders can, and reads back whether it is so if `read_back` says that. Should
    /// somebody else reload meanwhile, then the worker that came of it.
    pub(super) async fn settle(&self, model: &LbModel, read_back: ReadBack) -> Result<(), HaproxyError> {
        let patience = Patience::new();
        while let Err(error) = self.settle_once(model, read_back).await {
            patience.with(error).await?;
        }
        Ok(())
    }

    async fn settle_once(&self, model: &LbModel, read_back: ReadBack) -> Result<(), HaproxyError> {
        let pid = self.master.current().await?;
        self.order_all(pid, model, read_back).await?;
        if read_back == ReadBack::Yes
            && let Some(difference) = difference(&self.master.servers(pid).await?, model)
        {
            return Err(HaproxyError::Unconfirmed(difference));
        }
        if self.master.current().await? == pid { Ok(()) } else { Err(changing()) }
    }
}

/// Whether the state must be as ordered. Before a reload it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadBack {
    Yes,
    No,
}

/// What must be said to a server for it to become what the model wants.
fn orders(state: &ServerState, server: &LbServer) -> Vec<Order> {
    let mut orders = Vec::new();
    let weight = server.weight.get();
    match (state.admin, server.mode) {
        (LbAdmin::Maint, LbMode::Ready) => {
            // Out of maintenance HAProxy takes a server for up without a check. So it comes out with no weight, is declared down,
            // and gets its weight when it can be used only after good checks.
            orders.extend([Order::Weight(0), Order::Ready, Order::Down]);
            if weight > 0 {
                orders.push(Order::Weight(weight));
            }
            return orders;
        }
        (LbAdmin::Ready | LbAdmin::Maint, LbMode::Drain) => orders.push(Order::Drain),
        (LbAdmin::Drain, LbMode::Drain) | (LbAdmin::Ready, LbMode::Ready) => {}
        (LbAdmin::Drain, LbMode::Ready) => orders.push(Order::Ready),
    }
    if state.weight != weight {
        orders.push(Order::Weight(weight));
    }
    orders
}

/// Whether the worker lists exactly the model's servers, at their addresses. If not, run-time orders cannot help.
pub(super) fn same_members(states: &BTreeMap<BackendName, ServerState>, model: &LbModel) -> bool {
    states.len() == model.servers.len()
        && model
            .servers
            .iter()
            .all(|server| states.get(&server.name).is_some_and(|state| state.address == Some(server.address)))
}

/// The first difference between a worker's servers and the model, in words.
fn difference(states: &BTreeMap<BackendName, ServerState>, model: &LbModel) -> Option<String> {
    if let Some(name) = states.keys().find(|name| !model.servers.iter().any(|server| server.name == **name)) {
        return Some(format!("server {name} is still listed"));
    }
    model.servers.iter().find_map(|server| {
        let LbServer { name, address, weight, mode } = server;
        let Some(state) = states.get(name) else { return Some(format!("server {name} is not listed")) };
        let admin = match mode {
            LbMode::Ready => LbAdmin::Ready,
            LbMode::Drain => LbAdmin::Drain,
        };
        if state.address != Some(*address) {
            Some(format!("server {name} is at {:?} instead of {address}", state.address))
        } else if state.weight != weight.get() {
            Some(format!("server {name} has weight {} instead of {weight}", state.weight))
        } else if state.admin != admin {
            Some(format!("server {name} is {:?} instead of {admin:?}", state.admin))
        } else {
            None
        }
    })
}
