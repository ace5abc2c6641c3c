use core::fmt::Write;

use super::*;

/// A log entry of a program: the same keys, other values.
fn json(seed: u32) -> Vec<u8> {
    let mut text = String::from("{\"schema\":\"https://example.org/log/v3\",\"entries\":[");
    for field in 0..8 + seed % 16 {
        let hash = blake3::hash(&(u64::from(seed) << 32 | u64::from(field)).to_le_bytes()).to_hex();
        write!(
            text,
            "{{\"level\":\"info\",\"logger\":\"org.example.service.{}\",\"created_at\":\"2026-11-{:02}T10:00:00Z\",\"digest\":\"{}\"}},",
            ["http", "queue", "mail"][field as usize % 3],
            field % 28 + 1,
            &hash[..12]
        )
        .unwrap();
    }
    text.push_str("]}");
    text.into_bytes()
}

/// A file of another kind: words of a small language of its own.
fn prose(seed: u32) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    let mut draws = hasher.finalize_xof();
    let mut text = String::new();
    for _ in 0..200 {
        let mut draw = [0; 2];
        draws.fill(&mut draw);
        let word = blake3::hash(&(u16::from_le_bytes(draw) % 900).to_le_bytes()).to_hex();
        let length = 3 + usize::from(draw[0] % 7);
        write!(text, "{} ", &word[..length]).unwrap();
    }
    text.into_bytes()
}

fn noise(seed: u32) -> Vec<u8> {
    let mut bytes = vec![0; 1500];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn dictionary(of: impl Fn(u32) -> Vec<u8>) -> Dictionary {
    let samples: Vec<_> = (100_000..103_000).map(of).collect();
    let bytes = train(samples.iter().map(Vec::as_slice)).unwrap();
    Dictionary::new(ChunkId([1; 32]), bytes, Level::default()).unwrap()
}

/// The first window of chunks of a kind.
fn window(of: impl Fn(u32) -> Vec<u8>) -> Window {
    let mut recent = Recent::default();
    (0..)
        .find_map(|seed| {
            recent.add(&of(seed));
            recent.take_due()
        })
        .unwrap()
}

fn judged(window: &Window, in_use: &Dictionary, older: &[&Dictionary]) -> Verdict {
    window.judge(Some(in_use), older, Level::default())
}

#[test]
fn chunks_of_another_kind_train_and_those_of_the_same_do_not() {
    let logs = dictionary(json);
    assert_eq!(judged(&window(json), &logs, &[]), Verdict::Keep);
    let Verdict::Train(bytes) = judged(&window(prose), &logs, &[]) else {
        panic!("the dictionary of logs was kept for texts");
    };
    let trained = Dictionary::new(ChunkId([2; 32]), bytes, Level::default()).unwrap();
    assert_eq!(judged(&window(prose), &trained, &[]), Verdict::Keep);
}

#[test]
fn noise_never_trains() {
    let logs = dictionary(json);
    assert_eq!(judged(&window(noise), &logs, &[]), Verdict::Keep);
    let none = window(noise).judge(None, &[], Level::default());
    assert_eq!(none, Verdict::Keep);
}

#[test]
fn an_older_dictionary_that_does_as_well_is_taken_up_again() {
    let (logs, texts) = (dictionary(json), dictionary(prose));
    let others = dictionary(|seed| json(seed).repeat(2));
    assert_eq!(
        judged(&window(json), &texts, &[&texts, &logs]),
        Verdict::Older(1)
    );
    // No better than what is in use.
    assert_eq!(
        judged(&window(json), &logs, &[&texts, &others]),
        Verdict::Keep
    );
}

#[test]
fn a_dictionary_that_would_not_save_its_own_bytes_is_not_trained() {
    let trial = Trial {
        seen: 2000,
        plain: 1000,
        present: 400,
        other: 300,
        cost: 200,
    };
    assert!(trial.pays());
    let dear = Trial { cost: 201, ..trial };
    assert!(!dear.pays());
    // More of it came, so that more is expected.
    let more = Trial {
        seen: 2010,
        cost: 201,
        ..trial
    };
    assert!(more.pays());
    // However much comes, chance is no reason.
    let little = Trial {
        seen: 1 << 40,
        other: 381,
        ..trial
    };
    assert!(!little.pays());
    assert!(
        Trial {
            other: 380,
            ..little
        }
        .pays()
    );
    let worse = Trial {
        other: 500,
        ..little
    };
    assert!(!worse.pays());
}

#[test]
fn it_is_asked_less_and_less_often_while_nothing_changes() {
    let mut recent = Recent::default();
    let chunk = vec![7; 8000];
    let mut asked = Vec::new();
    let mut seen = 0;
    while asked.len() < 4 {
        recent.add(&chunk);
        seen += 8000;
        if let Some(window) = recent.take_due() {
            assert!(window.samples.bytes.len() <= WINDOW_BYTES + SAMPLE_BYTES_MAX);
            assert!(window.samples.bytes.len() + SAMPLE_BYTES_MAX >= WINDOW_BYTES);
            asked.push(mem::take(&mut seen) / WINDOW_BYTES);
            let verdict = match asked.len() {
                3 => Verdict::Train(Vec::new()),
                _ => Verdict::Keep,
            };
            recent.judged(&verdict);
        }
    }
    assert_eq!(asked, [1, 2, 4, 1]);
}
