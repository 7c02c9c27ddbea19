//! Answers as a broken server might send them: each is read, or told to be broken; none is read for ever.

use super::wire::read_answer;
use crate::mutate;

#[test]
fn no_answer_breaks_the_client() {
    let seeds = mutate::seeds("answers", "http");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut scratch = Vec::new();
    mutate::cases("answers", |rng| {
        let text = mutate::wrong(rng, &seeds);
        if let Ok(answer) =
            runtime.block_on(read_answer(&mut text.as_bytes(), &mut scratch, Some("x-member")))
        {
            assert!(answer.body.len() <= text.len());
        }
    });
}
