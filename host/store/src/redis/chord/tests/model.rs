//! The memory store is what Redis is to be like: both are told the same, at random.

use super::*;
use crate::memory::MemoryStore;

/// What both stores answered to the same.
async fn both(redis: &RedisStore, memory: &MemoryStore, step: &Step, tokens: &mut [String; 2]) -> [String; 2] {
    let mut said = [const { String::new() }; 2];
    for ((store, said), token) in [redis as &dyn ResultStore, memory].into_iter().zip(&mut said).zip(tokens) {
        *said = match step {
            Step::Size(group, size, again) => format!("{:?}", store.set_chord_size(group, *size, *again).await.is_ok()),
            Step::Extend(group, member) => format!("{:?}", store.extend_chord(group, member).await.is_ok()),
            Step::Hold(group) => format!("{:?}", store.extend_claim(group, token).await.unwrap()),
            Step::Finish(group) => format!("{:?}", store.finish_chord(group, token).await.unwrap()),
            Step::Fail(group) => format!("{:?}", store.fail_chord(group).await.is_ok()),
            Step::Count(part) => match count(store, part).await {
                Progress::Claimed(chord) => {
                    *token = chord.token;
                    format!("{} {:?} {:?}", chord.again, chord.parts, chord.structure)
                }
                Progress::Held(_) => "held".to_owned(),
                progress => format!("{progress:?}"),
            },
        };
    }
    said
}

#[derive(Debug)]
enum Step {
    Size(String, u64, bool),
    Extend(String, TaskId),
    Count(ChordPart),
    Hold(String),
    Finish(String),
    Fail(String),
}

#[tokio::test]
async fn redis_does_what_maps_do() {
    let Some(url) = server() else { return };
    let (redis, memory) = (store(&url), MemoryStore::new());
    let tasks = ["a", "b", "c", "d"].map(fresh);
    // A generator of numbers that are the same in each run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut pick = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..400 {
        let group = name("model");
        let mut tokens = [const { String::new() }; 2];
        let mut steps = Vec::new();
        for n in 0..24 {
            let task = pick(4) as usize;
            let index = if task == 3 { None } else { Some(task as i64) };
            let step = match pick(16) {
                0 => Step::Size(group.clone(), pick(4), true),
                1..=2 => Step::Size(group.clone(), pick(4), false),
                3 => Step::Extend(group.clone(), tasks[task].clone()),
                4 => Step::Hold(group.clone()),
                5 => Step::Finish(group.clone()),
                6 => Step::Fail(group.clone()),
                7 => {
                    // The claim runs out.
                    let claim = redis.keys.of_group(&group, CLAIM);
                    let holder: Option<String> = raw(&redis, &["GET", &claim]).await;
                    if holder.is_some_and(|holder| holder != "done") {
                        raw::<i64>(&redis, &["DEL", &claim]).await;
                    }
                    memory.let_claim_run_out(&group);
                    continue;
                }
                _ => {
                    let is_new = n % 2 == 0;
                    Step::Count(ChordPart { is_new, ..part(&group, &tasks[task], index, &n.to_string()) })
                }
            };
            let [redis, memory] = both(&redis, &memory, &step, &mut tokens).await;
            steps.push(format!("{step:?}: {redis}"));
            assert_eq!(redis, memory, "round {round}:\n{}", steps.join("\n"));
        }
    }
}
