//! The one token of the process: renewed by one caller at a time, for all of them.
//!
//! A token is always got with the credentials, never in exchange for the old one: an exchanged token ends with the old one.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tracing::{info, warn};

use super::{auth::Session, error::CloudError};

/// How long Keystone is left alone after it refused us or did not answer.
const PAUSE: Duration = Duration::from_secs(30);

/// The token cell.
#[derive(Default)]
pub(super) struct Tokens {
    current: RwLock<Option<Arc<Session>>>,
    /// Held by whoever renews; remembers the last failure.
    renewal: Mutex<Option<Failed>>,
}

/// A renewal that failed.
pub(super) struct Failed {
    at: Instant,
    error: CloudError,
}

impl Tokens {
    fn current(&self) -> Option<Arc<Session>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token that is good as far as we know. `get` fetches one; it is given the new token's generation.
    pub(super) async fn good(
        &self,
        get: impl AsyncFnOnce(u64) -> Result<Session, CloudError>,
    ) -> Result<Arc<Session>, CloudError> {
        match self.current() {
            Some(session) if !session.is_due() => Ok(session),
            // It still works: renew it, unless somebody does, and go on with it if that fails.
            Some(session) if !session.is_over() => {
                let Ok(guard) = self.renewal.try_lock() else { return Ok(session) };
                match self.renew(guard, session.generation, get).await {
                    Ok(fresh) => Ok(fresh),
                    Err(error) => {
                        warn!(%error, "the token cannot be renewed early; the old one still works");
                        Ok(session)
                    }
                }
            }
            session => {
                let old = session.map_or(0, |session| session.generation);
                self.renew(self.renewal.lock().await, old, get).await
            }
        }
    }

    /// A token newer than that of generation `refused`, which a service refused. Somebody else may have got it meanwhile.
    pub(super) async fn instead_of(
        &self,
        refused: u64,
        get: impl AsyncFnOnce(u64) -> Result<Session, CloudError>,
    ) -> Result<Arc<Session>, CloudError> {
        self.renew(self.renewal.lock().await, refused, get).await
    }

    /// A service refused a token that we had just got: more of them would not help, so Keystone is left alone for a while.
    pub(super) async fn refused_fresh(&self, error: &CloudError) {
        *self.renewal.lock().await = Some(Failed { at: Instant::now(), error: error.clone() });
    }

    async fn renew(
        &self,
        mut last: MutexGuard<'_, Option<Failed>>,
        old: u64,
        get: impl AsyncFnOnce(u64) -> Result<Session, CloudError>,
    ) -> Result<Arc<Session>, CloudError> {
        if let Some(session) = self.current()
            && session.generation > old
        {
            return Ok(session);
        }
        if let Some(failed) = &*last
            && failed.at.elapsed() < PAUSE
        {
            return Err(failed.error.clone());
        }
        match get(old + 1).await {
            Ok(session) => {
                *last = None;
                info!(project = session.identity.project, generation = session.generation, "got a token");
                let session = Arc::new(session);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
                Ok(session)
            }
            Err(error) => {
                *last = Some(Failed { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::advance;

    use super::*;
    use crate::core::cloud::FailureKind;

    /// A Keystone that counts, and works or not.
    #[derive(Default)]
    struct Keystone {
        asked: AtomicU32,
        down: std::sync::atomic::AtomicBool,
    }

    impl Keystone {
        /// A token that lives for 100 seconds.
        async fn get(&self, generation: u64) -> Result<Session, CloudError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(CloudError::new(FailureKind::Transient, "get token", "for user u", "no answer"));
            }
            Ok(Session::for_test(generation, Duration::from_secs(100)))
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::SeqCst)
        }

        async fn good(&self, tokens: &Tokens) -> Result<u64, CloudError> {
            Ok(tokens.good(async |n| self.get(n).await).await?.generation)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_until_four_fifths_of_its_life() {
        let (keystone, tokens) = (Keystone::default(), Tokens::default());
        assert_eq!(keystone.good(&tokens).await.unwrap(), 1);
        advance(Duration::from_secs(79)).await;
        assert_eq!(keystone.good(&tokens).await.unwrap(), 1);
        advance(Duration::from_secs(1)).await;
        assert_eq!(keystone.good(&tokens).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn while_keystone_is_down_the_old_token_serves_and_keystone_is_left_alone() {
        let (keystone, tokens) = (Keystone::default(), Tokens::default());
        keystone.good(&tokens).await.unwrap();
        keystone.down.store(true, Ordering::SeqCst);
        advance(Duration::from_secs(85)).await;
        for _ in 0..5 {
            assert_eq!(keystone.good(&tokens).await.unwrap(), 1);
        }
        assert_eq!(keystone.asked(), 2);
        advance(Duration::from_secs(16)).await;
        assert!(keystone.good(&tokens).await.is_err(), "the token is worthless now");
        assert_eq!(keystone.asked(), 2, "but the pause is not over");
        keystone.down.store(false, Ordering::SeqCst);
        advance(Duration::from_secs(15)).await;
        assert_eq!(keystone.good(&tokens).await.unwrap(), 2);
        assert_eq!(keystone.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_somebody_renewed_already_is_not_renewed_again() {
        let (keystone, tokens) = (Keystone::default(), Tokens::default());
        keystone.good(&tokens).await.unwrap();
        for _ in 0..3 {
            let fresh = tokens.instead_of(1, async |n| keystone.get(n).await).await.unwrap();
            assert_eq!(fresh.generation, 2);
        }
        assert_eq!(keystone.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn when_fresh_tokens_are_refused_no_more_are_fetched_for_a_while() {
        let (keystone, tokens) = (Keystone::default(), Tokens::default());
        keystone.good(&tokens).await.unwrap();
        tokens.refused_fresh(&CloudError::new(FailureKind::Unauthorized, "use", "x", "refused")).await;
        assert!(tokens.instead_of(1, async |n| keystone.get(n).await).await.is_err());
        assert_eq!(keystone.good(&tokens).await.unwrap(), 1, "other services may still take it");
        advance(PAUSE).await;
        assert!(tokens.instead_of(1, async |n| keystone.get(n).await).await.is_ok());
    }
}
