//! Searches this process's own memory for secrets after they were used and dropped.
//!
//! What is looked for is only ever held masked, else the search would find its own needle. A secret is used on a thread that then
//! waits, far down its stack, so that what was left on the stack is still there to be found.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::large_stack_arrays,
    reason = "a test, of which reading its own memory and using much stack is the point"
)]

use std::{
    fs::File,
    hint::black_box,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError, mpsc},
};

use maimo_core::identity::AuthPublicKey;
use maimo_vault::{
    aead::XChaCha8Blake3Siv,
    key_file::{KeyFile, PassphraseCost},
    keys::{ChannelKeys, KeyEpoch, MasterSecret},
    name::{ChunkType, Domain},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use zeroize::{Zeroize, Zeroizing};

const MASK: u8 = 0xa5;
/// What is found must be the secret and no accident; what is left of one may be a half.
const WINDOW: usize = 16;

/// A secret's bytes, each xored with [`MASK`].
#[derive(Clone)]
struct Masked(Vec<u8>);

impl Masked {
    /// Reads hexadecimal digits byte by byte: the bytes themselves never stand in memory in a row.
    fn from_hex(text: &str) -> Self {
        let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
        let bytes = text.as_bytes().as_chunks::<2>().0;
        Self(
            bytes
                .iter()
                .map(|&[high, low]| (digit(high) << 4 | digit(low)) ^ MASK)
                .collect(),
        )
    }

    fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|&byte| black_box(byte ^ MASK)).collect())
    }

    fn unmask(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len()));
        bytes.extend(self.0.iter().map(|byte| byte ^ MASK));
        bytes
    }

    /// The secret as a master; the bytes it is made from stay in one place and are wiped.
    fn master(&self) -> MasterSecret {
        MasterSecret::from_entropy(self.unmask()[..].try_into().unwrap())
    }

    fn unmask_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len()));
        text.extend(self.0.iter().map(|byte| char::from(byte ^ MASK)));
        text
    }

    /// Windows of the secret as it is, and as hash functions load it: in big-endian words of four and of eight bytes.
    fn windows(&self) -> Vec<[u8; WINDOW]> {
        let mut forms = vec![self.0.clone()];
        for word in [4, 8] {
            let mut swapped = self.0.clone();
            swapped.chunks_exact_mut(word).for_each(<[u8]>::reverse);
            forms.push(swapped);
        }
        forms
            .iter()
            .flat_map(|form| form.as_chunks::<WINDOW>().0.to_vec())
            .collect()
    }
}

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../testdata/vectors/keys.json")).unwrap()
}

fn field(value: &serde_json::Value) -> Masked {
    Masked::from_hex(value.as_str().unwrap())
}

/// A secret and what it is called when it is found.
type Secret = (String, Masked);

/// Looks through all writable memory; returns the name of each secret of which a window stands there, and how often.
fn search(secrets: &[Secret]) -> Vec<String> {
    const PIECE: usize = 1 << 20;
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut by_first = vec![Vec::new(); 256];
    for (index, (_, secret)) in secrets.iter().enumerate() {
        for window in secret.windows() {
            by_first[usize::from(window[0] ^ MASK)].push((index, window));
        }
    }
    let mut counts = vec![0; secrets.len()];
    let mut piece = vec![0; PIECE + WINDOW];
    for line in maps.lines() {
        let line = line.unwrap();
        let mut fields = line.split(' ');
        let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
        if !mode.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let mut at = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        while at < end {
            // What was read before is a copy, and this very buffer is memory that is read.
            piece[..].zeroize();
            let length = piece.len().min(usize::try_from(end - at).unwrap());
            let read = memory.read_at(&mut piece[..length], at).unwrap();
            assert_ne!(read, 0);
            for found in piece[..read].windows(WINDOW) {
                for (index, window) in &by_first[usize::from(found[0])] {
                    if found.iter().map(|byte| byte ^ MASK).eq(*window) {
                        counts[*index] += 1;
                    }
                }
            }
            at += PIECE.min(read) as u64;
        }
    }
    piece[..].zeroize();
    secrets
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|((name, _), count)| format!("{name}: {count}"))
        .collect()
}

/// Runs `work` deep down another thread's stack, then counts what is left of each secret while that thread waits.
fn left_after(work: impl FnOnce() + Send + 'static, secrets: &[Secret]) -> Vec<String> {
    // One process has one memory: no other test may use a secret meanwhile.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, is_done) = mpsc::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let worker = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(move || {
            deep(work);
            done.send(()).unwrap();
            may_end.recv().unwrap();
        })
        .unwrap();
    is_done.recv().unwrap();
    let left = search(secrets);
    end.send(()).unwrap();
    worker.join().unwrap();
    left
}

/// Keeps what runs afterwards on the same stack from writing over what `work` left there.
#[inline(never)]
fn deep(work: impl FnOnce()) {
    let room = [1_u8; 1 << 20];
    black_box(&room);
    shallow(work);
    black_box(&room);
}

#[inline(never)]
fn shallow(work: impl FnOnce()) {
    work();
}

#[test]
fn the_search_finds_what_was_left_on_the_heap() {
    let secret = field(&vectors()["secret"]);
    let named = [("master secret".to_owned(), secret.clone())];
    let heap = secret.clone();
    let left = left_after(move || std::mem::forget(black_box(heap.unmask())), &named);
    assert_eq!(left.len(), 1, "a secret on the heap was not found");
}

#[test]
fn the_search_finds_what_was_left_on_the_stack() {
    let secret = field(&vectors()["secret"]);
    let named = [("master secret".to_owned(), secret.clone())];
    let left = left_after(
        move || {
            let mut copy = [0_u8; 32];
            for (byte, masked) in copy.iter_mut().zip(&secret.0) {
                *byte = masked ^ MASK;
            }
            black_box(&copy);
        },
        &named,
    );
    assert_eq!(left.len(), 1, "an unwiped copy on the stack was not found");
}

/// What keys are used on.
struct Inputs {
    master: Masked,
    auth: AuthPublicKey,
    nonce: [u8; 24],
    short: Vec<u8>,
    long: Vec<u8>,
}

impl Inputs {
    fn read() -> Self {
        let vectors = vectors();
        let bytes = |name: &str| field(&vectors[name]).unmask();
        Self {
            master: field(&vectors["secret"]),
            auth: AuthPublicKey::from_bytes(bytes("auth")[..].try_into().unwrap()).unwrap(),
            nonce: bytes("nonce")[..].try_into().unwrap(),
            short: bytes("plaintext").to_vec(),
            long: vec![7; 100_000],
        }
    }

    /// Derives a channel's keys and moves them about, as keys are.
    fn channel(&self) -> ChannelKeys {
        *black_box(Box::new(
            self.master.master().channel_keys(EPOCH, &self.auth),
        ))
    }
}

const EPOCH: KeyEpoch = KeyEpoch(0);

/// One use of a key.
type Use = (&'static str, fn(&mut Inputs));

/// One by one: what one leaves behind, the next could write over.
const USES: [Use; 9] = [
    ("chunk id, short", |inputs| {
        for of in [ChunkType::Content, ChunkType::Journal] {
            let key = inputs.master.master().chunk_id_key(EPOCH, of, Domain(7));
            black_box(key.id(&inputs.short));
        }
    }),
    ("chunk id, long", |inputs| {
        let of = ChunkType::Dictionary;
        let key = inputs.master.master().chunk_id_key(EPOCH, of, Domain(0));
        black_box(key.id(&inputs.long));
    }),
    ("gear", |inputs| {
        let key = inputs.master.master().gear_key(EPOCH, Domain(0));
        key.fill(&mut inputs.long[..2048]);
    }),
    ("commit name", |inputs| {
        let key = inputs.master.master().commit_name_key(EPOCH);
        black_box(key.name(&inputs.short));
    }),
    ("sign", |inputs| {
        let client = inputs.channel().client;
        let signature = client.sign("maimo head v1", &inputs.short);
        let verified = client
            .public()
            .verify("maimo head v1", &inputs.short, &signature);
        assert!(verified.is_ok());
    }),
    ("padding", |inputs| {
        let key = inputs.channel().padding;
        key.fill(&inputs.nonce, &mut inputs.long[..4000]);
    }),
    ("seal and open, short", |inputs| {
        let key = inputs.channel().data;
        let tag = key.seal_in_place(&inputs.nonce, b"ad", &mut inputs.short);
        let opened = key.open_in_place(&inputs.nonce, b"ad", &mut inputs.short, &tag);
        assert!(opened.is_ok());
    }),
    ("seal, long", |inputs| {
        let key = inputs.channel().commit;
        black_box(key.seal_in_place(&inputs.nonce, b"ad", &mut inputs.long));
    }),
    ("open, in vain", |inputs| {
        let key = inputs.channel().vital;
        let tag = key.seal_in_place(&inputs.nonce, b"ad", &mut inputs.long);
        let opened = key.open_in_place(&inputs.nonce, b"da", &mut inputs.long, &tag);
        assert!(opened.is_err());
    }),
];

#[test]
fn derived_keys_and_their_master_are_gone_after_each_use() {
    let vectors = vectors();
    let mut secrets = vec![("master secret".to_owned(), field(&vectors["secret"]))];
    for case in vectors["cases"].as_array().unwrap() {
        if case["purpose"] != "store id" && case["epoch"] == 0 {
            let name = case["context"].as_str().unwrap().to_owned();
            secrets.push((name, field(&case["derived"])));
        }
    }
    let expanded = vectors["client_expanded"].as_array().unwrap();
    for (name, value) in ["scalar", "reduced scalar", "prefix"].iter().zip(expanded) {
        secrets.push(((*name).to_owned(), field(value)));
    }
    // The stream cipher's key for the one short message.
    secrets.push(("subkey".to_owned(), field(&vectors["data_subkey"])));

    for (name, work) in USES {
        let mut inputs = Inputs::read();
        let left = left_after(move || work(&mut inputs), &secrets);
        assert_eq!(left, Vec::<String>::new(), "after {name}");
    }
}

/// To be hashed behind nonce and associated data, a plaintext is in part copied.
#[test]
fn sealing_and_opening_leave_no_copy_of_the_plaintext() {
    let plaintext = field(&vectors()["secret"]);
    let named = [("plaintext".to_owned(), plaintext.clone())];
    for length in [32, 3000, 10_000, 100_000] {
        let plaintext = plaintext.clone();
        let left = left_after(
            move || {
                let cipher = XChaCha8Blake3Siv::from_key(&[7; 32]);
                let mut buffer = vec![0; length];
                buffer[..32].copy_from_slice(&plaintext.unmask());
                let tag = cipher.seal_in_place(&[1; 24], b"ad", &mut buffer);
                let opened = cipher.open_in_place(&[1; 24], b"da", &mut buffer, &tag);
                assert!(opened.is_err());
            },
            &named,
        );
        assert_eq!(left, Vec::<String>::new(), "of {length} bytes");
    }
}

#[test]
fn the_phrase_is_gone_after_use() {
    let secret = field(&vectors()["secret"]);
    let words = {
        let master = black_box(secret.master());
        Masked::of(master.phrase().as_str().as_bytes())
    };
    let named = [
        ("phrase".to_owned(), words.clone()),
        ("master secret".to_owned(), secret),
    ];
    let left = left_after(
        move || {
            let text = words.unmask_text();
            let master = MasterSecret::from_phrase(&text).ok().unwrap();
            assert!(master.phrase().words().count() == 24);
        },
        &named,
    );
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_passphrase_and_the_secret_are_gone_after_use_of_a_key_file() {
    /// Masked when compiled: the program holds no other form of it.
    const PASSPHRASE: [u8; 32] = {
        let mut bytes = *b"never written in clear anywhere!";
        let mut index = 0;
        while index < bytes.len() {
            bytes[index] ^= MASK;
            index += 1;
        }
        bytes
    };
    let secret = field(&vectors()["secret"]);
    let passphrase = Masked(PASSPHRASE.to_vec());
    let named = [
        ("passphrase".to_owned(), passphrase.clone()),
        ("master secret".to_owned(), secret.clone()),
    ];
    let left = left_after(
        move || {
            let passphrase = passphrase.unmask_text();
            let master = black_box(secret.master());
            let cost = PassphraseCost::new(*PassphraseCost::MEMORY_KIB.start(), 2, 1).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let file = KeyFile::seal(&master, &passphrase, cost, &mut rng).unwrap();
            let sealed = KeyFile::parse(&file.encode()).ok().unwrap();
            assert!(sealed.open(Some(&passphrase)).is_ok());
            assert!(sealed.open(Some("another")).is_err());
            let bare = KeyFile::parse(&KeyFile::bare(&master).encode())
                .ok()
                .unwrap();
            assert!(bare.open(None).is_ok());
        },
        &named,
    );
    assert_eq!(left, Vec::<String>::new());
}
