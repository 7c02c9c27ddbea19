//! What `check` shows of the cloud: who we are there, and each service with its endpoint and version.

use reqwest::Url;

use super::{
    Cloud,
    auth::{Identity, Session},
    call::{
        Call,
        Service::{self, Compute, Image as Glance, Network as Neutron},
    },
    error::CloudError,
    versions::granted,
};

/// What was found.
#[derive(Debug)]
pub struct CloudReport {
    /// Who the cloud takes us for.
    pub identity: Identity,
    /// Nova, Neutron and Glance, in this order.
    pub services: Vec<ServiceReport>,
}

/// One service.
#[derive(Debug)]
pub struct ServiceReport {
    /// Which.
    pub service: Service,
    /// Where it answers and what it speaks, or why it cannot be used.
    pub answer: Result<ServiceFound, CloudError>,
}

/// A service that answered.
#[derive(Debug)]
pub struct ServiceFound {
    /// Its endpoint.
    pub url: Url,
    /// Its version, for people.
    pub version: String,
}

impl Cloud {
    /// Gets a token and asks each service one harmless question.
    ///
    /// # Errors
    /// When there is no token; what is wrong with single services is in the report.
    pub async fn services(&self) -> Result<CloudReport, CloudError> {
        let session = self.client.session().await?;
        let mut services = Vec::new();
        for service in [Compute, Neutron, Glance] {
            services.push(ServiceReport { service, answer: self.ask(&session, service).await });
        }
        Ok(CloudReport { identity: session.identity.clone(), services })
    }

    async fn ask(&self, session: &Session, service: Service) -> Result<ServiceFound, CloudError> {
        let path = match service {
            Compute => "flavors",
            Neutron => "networks",
            Glance | Service::Identity => "images",
        };
        let call = Call::get(service, "use", format!("{} service", service.kind()), &[path]).with("limit", 1);
        let url = self.client.endpoint(session, &call)?;
        let answer = self.client.send(&call).await?;
        let version = match service {
            Compute => {
                let offered = self.client.version(session, service, &url).await?.highest();
                match (offered, granted(&answer.headers)) {
                    (Some(highest), Some(granted)) => format!("up to {highest}, {granted} is used"),
                    // Something on the way may have dropped the header that asks for one.
                    (Some(highest), None) => format!("up to {highest}, 2.1 is used"),
                    (None, _) => "2.0, without microversions".to_owned(),
                }
            }
            _ => url.path_segments().and_then(|mut path| path.next_back()).unwrap_or_default().to_owned(),
        };
        Ok(ServiceFound { url, version })
    }
}
