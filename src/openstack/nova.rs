//! Servers: look, stop, start, delete.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Cloud,
    call::{Call, Service::Compute},
    error::{CloudError, or_none},
    server::Server,
};
use crate::core::{
    cloud::{FailureKind, ServerStatus},
    ids::{IntentId, PoolName, ServerId},
};

/// Servers on a page. The list carries each server's user data (up to 64 KiB), so a page stays far below the size limit of a body.
const PAGE: u32 = 100;

#[derive(Deserialize)]
struct ServerBody {
    server: Server,
}

/// How many names an error text lists.
const SHOWN: usize = 10;

impl Cloud {
    /// All servers of the project, except those that are gone.
    ///
    /// # Errors
    /// When Nova does not answer well; a list that is not whole is an error too.
    pub async fn servers(&self) -> Result<Vec<Server>, CloudError> {
        self.servers_where(|_| true).await
    }

    /// Those of the project's servers that are wanted; nothing more is asked of the others.
    ///
    /// # Errors
    /// As [`Cloud::servers`].
    pub async fn servers_where(&self, wanted: impl Fn(&Server) -> bool) -> Result<Vec<Server>, CloudError> {
        let call =
            Call::get(Compute, "list servers", "of the project", &["servers", "detail"]).with("limit", PAGE);
        let mut servers: Vec<Server> = self.client.list(call, "servers").await?;
        servers.retain(wanted);
        // Of a server that no host took, Nova's list does not tell the fault; the server itself does.
        for server in servers.iter_mut().filter(|one| one.status == "ERROR" && one.fault.is_none()) {
            if let Ok(Some(alone)) = self.server(server.id).await {
                server.fault = alone.fault;
            }
        }
        Ok(servers)
    }

    /// One server; `None` when Nova does not know it.
    ///
    /// # Errors
    /// When Nova does not answer well.
    pub async fn server(&self, id: ServerId) -> Result<Option<Server>, CloudError> {
        let call = Call::get(Compute, "look at server", id, &["servers", &id.to_string()]);
        Ok(or_none(self.client.json::<ServerBody>(&call).await)?.map(|body| body.server))
    }

    /// All servers of exactly this name. Nova's own filter takes a regular expression, in the dialect of its database.
    ///
    /// # Errors
    /// As [`Cloud::servers`].
    pub async fn servers_named(&self, name: &str) -> Result<Vec<Server>, CloudError> {
        self.servers_where(|server| server.name == name).await
    }

    /// The one server of this id or name.
    ///
    /// # Errors
    /// When there is none, or several of that name.
    pub async fn find_server(&self, name_or_id: &str) -> Result<Server, CloudError> {
        const FIND: &str = "find server";
        if let Ok(id) = name_or_id.parse()
            && let Some(server) = self.server(id).await?
        {
            return Ok(server);
        }
        let (mut named, others): (Vec<Server>, Vec<Server>) =
            self.servers().await?.into_iter().partition(|server| server.name == name_or_id);
        match (named.pop(), named.as_slice()) {
            (Some(server), []) => Ok(server),
            (None, _) => {
                let project = self.client.session().await?.identity.project.clone();
                let mut names: Vec<String> = others.into_iter().map(|server| server.name).collect();
                names.sort();
                names.truncate(SHOWN);
                let why = match names.as_slice() {
                    [] => format!("project {project} has no server at all (is it the right project?)"),
                    _ => format!(
                        "no server of project {project} has this name or id (it has {})",
                        names.join(", ")
                    ),
                };
                Err(CloudError::new(FailureKind::NotFound, FIND, name_or_id, why))
            }
            (Some(one), others) => {
                let ids: Vec<String> = others.iter().chain([&one]).map(|s| s.id.to_string()).collect();
                let why = format!("{} servers have this name ({}): give the id", ids.len(), ids.join(", "));
                Err(CloudError::new(FailureKind::Conflict, FIND, name_or_id, why))
            }
        }
    }

    /// The server that this intent made, if there is one; the oldest when there are several.
    ///
    /// # Errors
    /// As [`Cloud::servers`].
    pub async fn find_intent(
        &self,
        pool: &PoolName,
        intent: IntentId,
    ) -> Result<Option<ServerId>, CloudError> {
        let made = |s: &Server| s.mark().is_some_and(|m| m.pool == *pool && m.intent == intent);
        let ours = self.servers_where(made).await?;
        Ok(ours.iter().min_by_key(|server| server.created()).map(|server| server.id))
    }

    /// Asks the guest to power off. A server that is off, or on its way there, is fine.
    ///
    /// # Errors
    /// When Nova refuses, or does not answer well.
    pub async fn stop(&self, id: ServerId) -> Result<(), CloudError> {
        self.power(id, "stop server", json!({"os-stop": null}), (ServerStatus::Shutoff, "powering-off")).await
    }

    /// Powers it on. A server that is on, or on its way there, is fine.
    ///
    /// # Errors
    /// When Nova refuses, or does not answer well.
    pub async fn start(&self, id: ServerId) -> Result<(), CloudError> {
        self.power(id, "start server", json!({"os-start": null}), (ServerStatus::Active, "powering-on")).await
    }

    async fn power(
        &self,
        id: ServerId,
        operation: &'static str,
        action: Value,
        (wanted, under_way): (ServerStatus, &str),
    ) -> Result<(), CloudError> {
        let call =
            Call::post(Compute, operation, id, &["servers", &id.to_string(), "action"], action).repeatable();
        match self.client.send(&call).await {
            Ok(_) => Ok(()),
            // "Cannot 'stop' instance while it is in vm_state stopped", or "… in task_state powering-off" when the answer to our own
            // first attempt was lost.
            Err(error) if error.kind() == FailureKind::Conflict => {
                let server = self.server(id).await?;
                let done = server.is_some_and(|server| match server.task_state.as_deref() {
                    None => server.status() == wanted,
                    Some(task) => task == under_way,
                });
                if done { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes a server. One that is gone already is fine; whether it is really gone only [`Cloud::server`] tells.
    ///
    /// # Errors
    /// When Nova refuses, or does not answer well.
    pub async fn delete(&self, id: ServerId) -> Result<(), CloudError> {
        let call = Call::delete(Compute, "delete server", id, &["servers", &id.to_string()]);
        or_none(self.client.send(&call).await).map(drop)
    }

    /// The last lines that a server wrote on its console; empty when it has none.
    ///
    /// # Errors
    /// When Nova refuses, or does not answer well.
    pub async fn console_log(&self, id: ServerId, lines: u32) -> Result<String, CloudError> {
        #[derive(Deserialize)]
        struct Console {
            output: Option<String>,
        }
        let action = json!({"os-getConsoleOutput": {"length": lines}});
        let path = ["servers", &id.to_string(), "action"];
        let call = Call::post(Compute, "read console of server", id, &path, action).repeatable();
        Ok(self.client.json::<Console>(&call).await?.output.unwrap_or_default())
    }
}
