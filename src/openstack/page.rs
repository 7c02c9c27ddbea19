//! Lists that come in pages.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{call::Call, client::Client, error::CloudError};

/// More pages than any list of ours can have; a service that goes on forever is not followed forever.
const MOST: usize = 1000;

impl Client {
    /// The whole list under `key`.
    ///
    /// The next page is asked for by `marker`, the last id seen, as long as the service says that there is one: Nova and Neutron by
    /// `<key>_links` with a `rel` of `next`, Glance by `next`. The links themselves are not used: behind a proxy they often lead
    /// to an address that only the service knows.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: Call,
        key: &str,
    ) -> Result<Vec<T>, CloudError> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _ in 0..MOST {
            let page = match &marker {
                Some(marker) => call.clone().with("marker", marker),
                None => call.clone(),
            };
            let answer = self.send(&page).await?;
            let unreadable = |why: String| CloudError::unreadable(&page, answer.request_id(), &why);
            let mut body: Value = answer.json(&page)?;
            let more = has_next(&body, key);
            let Some(Value::Array(items)) = body.get_mut(key).map(Value::take) else {
                return Err(unreadable(format!("it has no list {key}")));
            };
            let last =
                items.last().and_then(|item| item.get("id")).and_then(Value::as_str).map(str::to_owned);
            for (at, item) in items.into_iter().enumerate() {
                let read = serde_path_to_error::deserialize(item);
                all.push(read.map_err(|why| unreadable(format!("{key}[{at}].{why}")))?);
            }
            match last {
                Some(last) if more && marker.as_ref() != Some(&last) => marker = Some(last),
                _ => return Ok(all),
            }
        }
        Err(CloudError::unreadable(&call, None, "it has no end"))
    }
}

fn has_next(body: &Value, key: &str) -> bool {
    let links = body.get(format!("{key}_links")).and_then(Value::as_array);
    let linked =
        links.is_some_and(|links| links.iter().any(|l| l.get("rel").is_some_and(|rel| rel == "next")));
    linked || body.get("next").is_some_and(Value::is_string)
}
