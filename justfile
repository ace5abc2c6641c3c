# The names are the contract; `./check` is what CI runs and works without `just`.

# List the recipes
default:
    @just --list

# Everything CI checks, or only the steps named
check *STEPS:
    ./check {{STEPS}}

# Unit and integration tests, or those that match
test *FILTER:
    cargo nextest run --workspace {{FILTER}}

# The simulation: seeded histories of clients and providers
sim *ARGS:
    cargo run --release -p maimo-sim -- {{ARGS}}

# Three simulated years, as a table
years:
    cargo run --release -p maimo-sim -- years

# Fuzz one target for so many seconds, or all of them for their share of them
fuzz TARGET="all" SECONDS="600":
    fuzz/run {{TARGET}} {{SECONDS}}

# The API documentation, private items too
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Benchmarks, or those that match
bench *FILTER:
    cargo bench --workspace -- {{FILTER}}

# Whole commands beside restic, rustic and borg; bench/README.md says what is measured
compare *ARGS:
    bench/run {{ARGS}}

# Licences, bans and sources of the dependency graph
deny:
    ./check deny

# Known vulnerabilities; needs the advisory database, hence the network
advisories:
    cargo deny check advisories
