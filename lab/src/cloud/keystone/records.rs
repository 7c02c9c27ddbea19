//! What Keystone remembers: projects, users, roles, application credentials and tokens.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::options::Options;

/// Keystone's records. Ids are UUIDs, written without hyphens on the wire.
#[derive(Debug)]
pub(in super::super) struct Identity {
    pub(super) projects: Vec<Project>,
    pub(super) users: Vec<User>,
    pub(super) credentials: Vec<ApplicationCredential>,
    pub(super) tokens: HashMap<String, Token>,
    /// The service catalog, as tokens carry it.
    pub(super) catalog: Value,
    roles: [(Role, Uuid); 3],
}

/// A project of the domain `Default`.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: Uuid,
    pub(super) name: String,
}

/// A user of the domain `Default`.
#[derive(Debug)]
pub(super) struct User {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) password: String,
    /// The project that it has roles in.
    pub(super) project: Uuid,
    pub(super) roles: Vec<Role>,
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Member,
    Reader,
    Admin,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Reader => "reader",
            Self::Admin => "admin",
        }
    }
}

/// An application credential: acts for its user in one project.
#[derive(Debug)]
pub(super) struct ApplicationCredential {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) secret: String,
    pub(super) user: Uuid,
    pub(super) project: Uuid,
    pub(super) roles: Vec<Role>,
    pub(super) expires: Option<Timestamp>,
}

/// An issued token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) user: Uuid,
    /// `None`: unscoped.
    pub(super) project: Option<Uuid>,
    pub(super) roles: Vec<Role>,
    pub(super) method: &'static str,
    pub(super) credential: Option<Uuid>,
    pub(super) audit: String,
    pub(super) issued: Timestamp,
    pub(super) expires: Timestamp,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(in super::super) struct Caller {
    pub(in super::super) user: Uuid,
    pub(in super::super) user_name: String,
    /// Nil when the token is unscoped.
    pub(in super::super) project: Uuid,
    pub(in super::super) project_name: String,
    pub(in super::super) admin: bool,
}

impl Identity {
    /// The users `admin` in project `admin`, and `demo` in project `demo`, who is no administrator.
    pub(in super::super) fn new(options: &Options, catalog: Value) -> Self {
        let project = |name: &str| Project { id: Uuid::new_v4(), name: name.into() };
        let (admin, demo) = (project("admin"), project("demo"));
        let user = |name: &str, password: &str, project: &Project, roles: &[Role]| User {
            id: Uuid::new_v4(),
            name: name.into(),
            password: password.into(),
            project: project.id,
            roles: roles.to_vec(),
        };
        Self {
            users: vec![
                user("admin", &options.admin_password, &admin, &[Role::Member, Role::Reader, Role::Admin]),
                user("demo", "lab-demo", &demo, &[Role::Member, Role::Reader]),
            ],
            projects: vec![admin, demo],
            credentials: Vec::new(),
            tokens: HashMap::new(),
            catalog,
            roles: [Role::Member, Role::Reader, Role::Admin].map(|role| (role, Uuid::new_v4())),
        }
    }

    /// User and project that the seed belongs to.
    pub(in super::super) fn owner(&self) -> (Uuid, Uuid) {
        self.users.first().map(|user| (user.id, user.project)).unwrap_or_default()
    }

    /// Who holds this token, while it is good.
    pub(in super::super) fn caller(&self, token: &str, now: Timestamp) -> Option<Caller> {
        let token = self.tokens.get(token).filter(|token| now < token.expires)?;
        let user = self.users.iter().find(|user| user.id == token.user)?;
        let project = token.project.and_then(|id| self.projects.iter().find(|project| project.id == id));
        Some(Caller {
            user: user.id,
            user_name: user.name.clone(),
            project: project.map(|project| project.id).unwrap_or_default(),
            project_name: project.map(|project| project.name.clone()).unwrap_or_default(),
            admin: token.roles.contains(&Role::Admin),
        })
    }

    pub(super) fn user(&self, id_or_name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == id_or_name || is(user.id, id_or_name))
    }

    pub(super) fn project(&self, id_or_name: &str) -> Option<&Project> {
        self.projects.iter().find(|project| project.name == id_or_name || is(project.id, id_or_name))
    }

    /// Roles with their ids, as tokens and credentials show them.
    pub(super) fn roles(&self, held: &[Role]) -> Vec<Value> {
        let named = self.roles.iter().filter(|(role, _)| held.contains(role));
        named.map(|(role, id)| json!({"id": id.simple(), "name": role.name()})).collect()
    }
}

/// Whether `text` is this id, with or without hyphens.
fn is(id: Uuid, text: &str) -> bool {
    Uuid::parse_str(text).is_ok_and(|parsed| parsed == id)
}
