# `make demo` and `make test` set up what is missing and do the rest.
.PHONY: demo demo-office test test-windows check-macos lint bench trust guests release

PROGRAMS = -p lull-audit -p lull-coordinator -p lull-worker -p lull-runner -p lull-cli

# The leukaemia study on a grid of this machine. FULL=1: all relabelings instead of a pilot.
demo: guests release
	FULL=$(FULL) deploy/demo

# A person leaves an office PC, comes back, is told what it earned, and leaves again: on a virtual display.
demo-office: guests release
	deploy/setup office
	deploy/demo-office

# Every test.
test:
	deploy/setup test
	workloads/build
	cargo build --workspace --bins
	cargo test --workspace

# The agent for Windows, under wine; says what that cannot show.
test-windows:
	deploy/test-windows

# The types of the agent for macOS, without its SDK: minutes the first time.
check-macos:
	deploy/check-macos

# What a change must pass besides its tests.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The table of adversaries in docs/TRUST.md, by simulation: some minutes.
trust:
	cargo run --release -p lull-tests --bin trust -- docs/TRUST.md

# The figures, into bench.json. ONLY=prefix: some of them.
bench: release guests
	deploy/setup test
	cargo build --release -p lull-tests --bin bench
	target/release/bench $(ONLY)

guests:
	deploy/setup
	workloads/build

release:
	deploy/setup
	cargo build --release $(PROGRAMS)
