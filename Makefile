# Targets of this repository; `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-node test-browser test-python test-openapi test-rust-client interop pictures lint deny clients
.PHONY: test-docs npm-docs doc-tools mdbook book publish-check release-check deb
.PHONY: node npm-clients npm-browser npm-torture venv python schemathesis chromium fonts openssl
.PHONY: test-torture torture torture-queue torture-planted test-disk powercut faults disk-tools test-hostile hostile compare-recovery bench bench-queue scale load profile perf compare compare-all peers fuzz clean

CLIENTS := tests/clients
NODE_STAMP := $(CLIENTS)/node_modules/.stamp
BROWSER := tests/browser
BROWSER_STAMP := $(BROWSER)/node_modules/.stamp
# Path of Debian's package.
CHROMIUM ?= /usr/bin/chromium
TORTURE := tests/torture
TORTURE_STAMP := $(TORTURE)/node_modules/.stamp
HOSTILE := tests/hostile
POWERCUT := tests/powercut
DOCS := tests/docs
DOCS_STAMP := $(DOCS)/node_modules/.stamp
PEERS := benches/peers
PEERS_STAMP := $(PEERS)/node_modules/.stamp
OXIDE := $(PEERS)/oxide
PROFILE := target/profile
VENV := $(CLIENTS)/python/.venv
PYTHON_STAMP := $(VENV)/.stamp
OPENAPI := tests/openapi
OPENAPI_STAMP := $(OPENAPI)/.venv/.stamp
RUST_CLIENT := $(CLIENTS)/rust
PORT ?= 3000
MAX_TIME ?= 60
CYCLES ?= 20
POINTS ?= 5
PROGRAM ?= both
LOAD ?= all
SCALE ?= sessions workers
REPETITIONS ?= 3
SEED ?= $(shell date +%s)
TARGET ?=
TAG ?=
SERVER ?= stentor, disk
QUEUE_SERVER ?= stentor, queue
ONLY ?=
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start the hub with its demo page (PORT=3000)
	@echo "run: the demo page will be at http://127.0.0.1:$(PORT)/"
	cargo run --release -- serve --port $(PORT)

test: test-rust test-node test-browser test-python test-openapi test-rust-client test-docs test-torture test-hostile test-disk ## all tests: Rust; JavaScript, Python and Rust clients and a browser against the binary; documents; torture, hostile and disk suites
	@node $(CLIENTS)/interop.mjs --check

test-rust: ## cargo test
	@cargo test && echo "cargo test: passed" || { echo "cargo test: FAILED"; exit 1; }

test-node: node npm-clients ## tests with the JavaScript client (builds the binary and the servers of the tests first)
	@cargo build --bin stentor --examples
	@cd $(CLIENTS) && npm test --silent && echo "node:test: passed" || { echo "node:test: FAILED"; exit 1; }

test-browser: node npm-clients npm-browser chromium fonts ## tests of client library, demo page and examples in Chromium (installs Debian's if missing)
	@cargo build --bin stentor --examples
	@cd $(BROWSER) && CHROMIUM=$(CHROMIUM) npm test --silent && echo "browser: passed" || { echo "browser: FAILED"; exit 1; }

test-python: python ## tests with the Python client (builds the binary first)
	@cargo build --bin stentor
	@cd $(CLIENTS)/python && .venv/bin/python -m unittest -v \
		&& echo "unittest: passed" || { echo "unittest: FAILED"; exit 1; }

test-openapi: schemathesis ## docs/openapi.json against the running server, by schemathesis (under a minute; builds the binary first)
	@cargo build --bin stentor
	@$(OPENAPI)/.venv/bin/python $(OPENAPI)/run.py && echo "openapi: passed" || { echo "openapi: FAILED"; exit 1; }

test-rust-client: openssl ## tests with the client rust_socketio (builds the binary first; the client takes a minute or two the first time)
	@cargo build --bin stentor
	@cd $(RUST_CLIENT) && cargo test --locked --quiet && echo "rust_socketio: passed" || { echo "rust_socketio: FAILED"; exit 1; }

test-docs: npm-clients npm-browser npm-docs chromium python doc-tools mdbook ## blocks and links of the documents, the book, and the workflows (under half a minute; builds the binary first)
	@cargo build --bin stentor
	@cd $(DOCS) && CHROMIUM=$(CHROMIUM) npm test --silent && echo "documents: passed" || { echo "documents: FAILED"; exit 1; }

interop: node npm-clients npm-browser chromium ## the table of clients, servers and transports in docs/clients.md, from test results
	@cargo build --bin stentor --example tour
	@cd $(CLIENTS) && npm run --silent interop
	@cd $(BROWSER) && CHROMIUM=$(CHROMIUM) npm run --silent interop
	@node $(CLIENTS)/interop.mjs

pictures: node npm-clients npm-browser chromium fonts ## pictures of the demo page in docs/pictures, from the running page
	@cargo build --bin stentor
	@cd $(BROWSER) && CHROMIUM=$(CHROMIUM) npm run --silent pictures

# Requirements of tests beside Rust: each target checks one and installs it if missing. See CONTRIBUTING.md.

# $(call debian,<target>,<packages>): installs packages as root, or prints the command.
debian = if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then \
		echo "$(1): missing; install it (Debian: apt-get install $(2))"; exit 1; \
	else \
		echo "$(1): installing $(2) with apt-get"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(2) > /dev/null; \
	fi

node: ## Node 20 or newer, and npm (npm: Debian's, if missing, as root)
	@command -v node > /dev/null || { echo "node: missing; install Node 20 or newer"; exit 1; }
	@node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' || { echo "node: $$(node --version) is too old, expected 20 or newer"; exit 1; }
	@if command -v npm > /dev/null; then echo "node: found $$(node --version), npm $$(npm --version)"; else $(call debian,npm,npm); fi

npm-clients: node $(NODE_STAMP) ## npm packages of tests/clients, from their lock file
	@echo "npm: $(CLIENTS)/node_modules is up to date"

npm-browser: node $(BROWSER_STAMP) ## npm packages of tests/browser, from their lock file
	@echo "npm: $(BROWSER)/node_modules is up to date"

npm-torture: node $(TORTURE_STAMP) ## npm packages of tests/torture, from their lock file
	@echo "npm: $(TORTURE)/node_modules is up to date"

npm-docs: node $(DOCS_STAMP) ## npm packages of tests/docs, from their lock file
	@echo "npm: $(DOCS)/node_modules is up to date"

venv: ## Python's venv module (Debian's, if missing, as root)
	@if python3 -c 'import venv, ensurepip' 2> /dev/null; then echo "venv: found $$(python3 --version)"; \
	else $(call debian,venv,python3 python3-venv); fi

python: venv $(PYTHON_STAMP) ## the Python client in a virtual environment, from its lock file
	@echo "python: $(VENV) is up to date"

schemathesis: venv $(OPENAPI_STAMP) ## schemathesis in a virtual environment, from its lock file
	@echo "schemathesis: $(OPENAPI)/.venv is up to date"

openssl: ## OpenSSL's headers for rust_socketio (Debian's, if missing, as root)
	@if pkg-config --exists openssl 2> /dev/null; then echo "openssl: found $$(pkg-config --modversion openssl)"; \
	else $(call debian,openssl,libssl-dev pkg-config); fi

chromium: ## Debian's Chromium, if missing (as root)
	@if [ -x $(CHROMIUM) ]; then echo "chromium: found $(CHROMIUM)"; \
	elif [ "$(CHROMIUM)" != /usr/bin/chromium ]; then echo "chromium: $(CHROMIUM) is missing"; exit 1; \
	else $(call debian,chromium,chromium); fi

fonts: ## fonts for tests of the layout, if missing (as root)
	@if [ -d /usr/share/fonts/truetype/dejavu ] && [ -d /usr/share/fonts/opentype/inter ] \
		&& [ -d /usr/share/fonts/truetype/liberation ] && [ -d /usr/share/fonts/truetype/open-sans ]; then echo "fonts: found"; \
	else $(call debian,fonts,fonts-dejavu-core fonts-inter fonts-liberation fonts-open-sans); fi

doc-tools: ## curl, jq and sqlite3, which documents use, if missing (as root)
	@if command -v curl > /dev/null && command -v jq > /dev/null && command -v sqlite3 > /dev/null; then echo "doc-tools: found"; \
	else $(call debian,doc-tools,curl jq sqlite3); fi

mdbook: ## mdBook in cargo's bin folder, if missing (two minutes)
	@if command -v mdbook > /dev/null; then echo "mdbook: found $$(mdbook --version)"; \
	else echo "mdbook: installing into cargo's bin folder"; cargo install --locked mdbook --no-default-features --features search; fi

book: mdbook ## the documents as a book, target/book/index.html (installs mdbook)
	@mdbook build && echo "book: target/book/index.html"

# Documentation of private items is built as well, so that its links are checked.
lint: ## formatting, clippy and documentation, warnings are errors
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo check --no-default-features
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib --document-private-items
	@echo "lint: passed"

# Advisories need their database. If it cannot be reached, they are reported as not checked, which is
# no failure; an old copy is not used.
deny: ## crates: duplicates, licences, sources, and known vulnerabilities if their database can be reached (installs cargo-deny)
	@command -v cargo-deny > /dev/null || { echo "deny: installing cargo-deny into cargo's bin folder"; cargo install --locked cargo-deny; }
	@cargo-deny --log-level error check --hide-inclusion-graph bans licenses sources
	@if cargo-deny --log-level off fetch db > /dev/null 2>&1; then \
		cargo-deny --offline --log-level error check --hide-inclusion-graph advisories && echo "deny: passed"; \
	else \
		echo "deny: passed, but advisories were NOT CHECKED: their database (github.com/RustSec/advisory-db) cannot be reached"; \
	fi

clients: npm-clients npm-browser npm-torture python ## install the clients that the tests use, from their lock files
	@echo "clients: ready in $(CLIENTS)/node_modules, $(BROWSER)/node_modules, $(TORTURE)/node_modules and $(VENV)"

$(NODE_STAMP) $(BROWSER_STAMP) $(TORTURE_STAMP) $(DOCS_STAMP) $(PEERS_STAMP): %/node_modules/.stamp: %/package.json %/package-lock.json | node
	@echo "npm: installing into $*/node_modules"
	@cd $* && npm ci --no-audit --no-fund
	@touch $@

# cargo publish accepts any address, so a placeholder is found here.
publish-check: ## the crate as it would be published; fails while a placeholder is left
	@if grep -n OWNER Cargo.toml SECURITY.md static/client/package.json; then \
		echo "publish-check: FAILED, replace OWNER by the owner of the repository, its name and its contact"; exit 1; \
	fi
	@cargo publish --dry-run --locked && echo "publish-check: passed"

release-check: publish-check ## versions, changelog and tag agree, TAG=v0.1.0
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1); \
	[ "$(TAG)" = "v$$version" ] || { echo "release-check: FAILED, the tag is \"$(TAG)\" and Cargo.toml has $$version"; exit 1; }; \
	grep -q "\"version\": \"$$version\"" static/client/package.json || { echo "release-check: FAILED, static/client/package.json has another version than $$version"; exit 1; }; \
	grep -q "^## $$version " CHANGELOG.md || { echo "release-check: FAILED, CHANGELOG.md has no heading \"## $$version <date>\""; exit 1; }; \
	echo "release-check: passed"

# Debian keeps programs of packages in /usr/bin.
deb: ## a Debian package of the release binary, TARGET=x86_64-unknown-linux-musl (installs cargo-deb)
	@command -v cargo-deb > /dev/null || { echo "deb: installing cargo-deb into cargo's bin folder"; cargo install --locked cargo-deb; }
	cargo build --release --locked --bin stentor $(addprefix --target ,$(TARGET))
	@mkdir -p target/deb && sed 's,/usr/local/bin,/usr/bin,; s,/etc/systemd/system,/usr/lib/systemd/system,' deploy/stentor.service > target/deb/stentor.service
	@target/$(TARGET)/release/stentor config default > target/deb/stentor.toml
	cargo deb --no-build $(addprefix --target ,$(TARGET))

$(PYTHON_STAMP): $(CLIENTS)/python/requirements.txt | venv
	@echo "clients: installing the Python client into $(VENV)"
	@python3 -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(OPENAPI_STAMP): $(OPENAPI)/requirements.txt | venv
	@echo "schemathesis: installing into $(OPENAPI)/.venv"
	@python3 -m venv --clear $(OPENAPI)/.venv
	@$(OPENAPI)/.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

test-torture: ## 20 cycles of each torture suite, half of them with low limits, and a queue that forgets, which must be found
	@$(MAKE) --no-print-directory torture CYCLES=10
	@$(MAKE) --no-print-directory torture CYCLES=10 SERVER="stentor, disk, small"
	@$(MAKE) --no-print-directory torture-queue CYCLES=10
	@$(MAKE) --no-print-directory torture-queue CYCLES=10 QUEUE_SERVER="stentor, queue, small"
	@cd $(TORTURE) && node queue/run.mjs --cycles 5 --seed $(SEED) --server "stentor, queue in memory" --planted

torture: npm-torture ## stock clients with kill -9 and a bad network, CYCLES=20 SEED=now SERVER="stentor, disk"
	@cargo build --bin stentor
	@cd $(TORTURE) && npm test --silent \
		&& node run.mjs --cycles $(CYCLES) --seed $(SEED) --server "$(SERVER)" --recovered-min 0.9

torture-queue: npm-torture ## durable subscribers with kill -9, crashes around a commit and a bad network, CYCLES=20 SEED=now QUEUE_SERVER="stentor, queue"
	@cargo build --bin stentor
	@cd $(TORTURE) && npm test --silent \
		&& node queue/run.mjs --cycles $(CYCLES) --seed $(SEED) --server "$(QUEUE_SERVER)"

test-disk: disk-tools ## 10 power cuts, and a few failing calls of the queue, of the server and of its store alone (about a minute)
	@$(MAKE) --no-print-directory powercut CYCLES=10
	@$(MAKE) --no-print-directory faults POINTS=1

powercut: ## power cuts of a disk on which the queue works, CYCLES=20 SEED=now PROGRAM=both, serve or writer (Linux as root, else skipped)
	@python3 $(POWERCUT)/powercut.py --cycles $(CYCLES) --seed $(SEED) --program $(PROGRAM)

faults: ## EIO, ENOSPC and a full disk under the queue, POINTS=5 SEED=now (strace, and Linux as root, else skipped)
	@python3 $(POWERCUT)/faults.py --points $(POINTS) --seed $(SEED)

disk-tools: ## strace and mkfs.ext4, if missing (as root; without them tests are skipped)
	@if command -v strace > /dev/null && command -v mkfs.ext4 > /dev/null; then echo "disk-tools: found"; \
	elif [ "$$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then echo "disk-tools: missing, tests will be skipped (Debian: apt-get install strace e2fsprogs)"; \
	else $(call debian,disk-tools,strace e2fsprogs); fi

test-hostile: node ## small versions of the hostile scenarios against the unoptimised binary (under 2 minutes)
	@cargo build --bin stentor
	@cd $(HOSTILE) && node run.mjs --ci --server $(CURDIR)/target/debug/stentor

hostile: node ## attacks and faults, one per scenario; then all of them against one server with 512 MB, ONLY=name
	cargo build --release
	@cd $(HOSTILE) && node run.mjs --server $(CURDIR)/target/release/stentor --only "$(ONLY)"
	@cd $(HOSTILE) && node run.mjs --server $(CURDIR)/target/release/stentor --only "$(ONLY)" --one-life

torture-planted: npm-torture ## torture with a journal that skips records, a queue that confuses acks, and bugs of a small server; passes if all are found
	@RUSTFLAGS="--cfg stentor_planted_bug" cargo build --bin stentor --target-dir target/planted
	@cd $(TORTURE) && STENTOR_BIN=../../target/planted/debug/stentor node run.mjs --cycles 200 --seed $(SEED) --planted
	@cd $(TORTURE) && STENTOR_BIN=../../target/planted/debug/stentor \
		node queue/run.mjs --cycles 200 --seed $(SEED) --server "stentor, queue, recovery off" --planted
	@cd $(TORTURE) && node queue/run.mjs --cycles 40 --seed $(SEED) --bugs

compare-recovery: npm-torture ## 1000 stock clients with disconnections of 2 s: this hub and Node's, with and without recovery (minutes)
	cargo build --release
	@cd $(TORTURE) && STENTOR_BIN=../../target/release/stentor node compare.mjs --seed $(SEED)

bench: ## benches in process: codec, rooms, hub, journal (3 minutes)
	cargo bench --features bench-internals --bench codec --bench rooms --bench hub --bench journal
	@echo "bench: done. \`make load\` measures a server process over sockets, \`make scale\` a million sessions without"

# The disk is that of STENTOR_BENCH_FOLDER, or of the temporary folder.
bench-queue: ## durable events in process, on one core: stored per second beside a bare fdatasync (2 minutes)
	cargo bench --features bench-internals --bench queue

scale: ## a million sessions without sockets, and two workers against one, SCALE="sessions --sessions 100000" (4 GiB, minutes)
	cargo bench --features bench-internals --bench scale -- $(SCALE)

# Peers are built only if LOAD names a server.
load: $(if $(findstring --server,$(LOAD)),$(PEERS_STAMP) $(OXIDE)/target/oxide) ## one load against one server, LOAD="fanout --server node --rate 40" (see --help)
	cargo build --release
	cargo bench --bench load -- $(LOAD)

profile: LOAD = fanout --publishers 1
profile: perf ## flame graph of the server under a load, target/profile/flame.svg; LOAD="echo --in-flight 16"
	cargo build --release
	@mkdir -p $(PROFILE) && rm -f $(PROFILE)/perf.data
	cargo bench --bench load -- $(LOAD) --profile $(CURDIR)/$(PROFILE)/perf.data
	@perf script --no-inline --fields comm,pid,tid,time,event,ip,sym,dso --input $(PROFILE)/perf.data 2> /dev/null \
		| inferno-collapse-perf --kernel > $(PROFILE)/stacks.folded
	@inferno-flamegraph --title "stentor under $(LOAD)" < $(PROFILE)/stacks.folded > $(PROFILE)/flame.svg
	@awk -f benches/profile.awk $(PROFILE)/stacks.folded
	@echo "profile: $(PROFILE)/flame.svg"

perf: ## tools for profiles, if missing: Debian's linux-perf (as root) and inferno
	@if command -v perf > /dev/null; then echo "perf: found $$(command -v perf)"; \
	elif [ "$$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then \
		echo "perf: missing; install it (Debian: apt-get install linux-perf)"; exit 1; \
	else \
		echo "perf: installing Debian's linux-perf with apt-get"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends linux-perf > /dev/null; \
	fi
	@command -v inferno-flamegraph > /dev/null || { echo "perf: installing inferno into cargo's bin folder"; cargo install --locked inferno; }

compare: $(PEERS_STAMP) $(OXIDE)/target/oxide ## this hub and its peers under four loads, written to benches/RESULTS.md (15 minutes)
	cargo build --release
	cargo bench --bench load -- compare --seconds 3 --repetitions $(REPETITIONS)

compare-all: $(PEERS_STAMP) $(OXIDE)/target/oxide ## this hub and its peers under all loads (40 minutes)
	cargo build --release
	cargo bench --bench load -- compare-all --seconds 3 --repetitions $(REPETITIONS)

peers: $(PEERS_STAMP) $(OXIDE)/target/oxide ## install and build the servers that the load bench compares
	@echo "peers: ready in $(PEERS)"

# Both use one build folder: only the allocator and the last crate differ.
$(OXIDE)/target/oxide: $(OXIDE)/Cargo.toml $(OXIDE)/Cargo.lock $(OXIDE)/src/main.rs
	@echo "peers: building socketioxide, with mimalloc and without"
	@cd $(OXIDE) && cargo build --release --locked --features mimalloc && cp target/release/oxide target/oxide-mimalloc
	@cd $(OXIDE) && cargo build --release --locked && cp target/release/oxide target/oxide

fuzz: ## fuzzing of every decoder, MAX_TIME=60 seconds each (installs cargo-fuzz); see fuzz/README.md
	@command -v cargo-fuzz > /dev/null || { echo "fuzz: installing cargo-fuzz into cargo's bin folder"; cargo install --locked cargo-fuzz; }
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/found/$$target && echo "fuzz: $$target for $(MAX_TIME) s" && \
		cargo fuzz run --sanitizer none $$target fuzz/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(MAX_TIME) -max_len=4096 -verbosity=0 -print_final_stats=1 \
			|| { echo "fuzz: $$target FAILED, its input is in fuzz/artifacts/$$target"; exit 1; }; \
	done
	@echo "fuzz: passed"

clean: ## remove everything that was built or installed
	cargo clean
	rm -rf $(PEERS)/node_modules $(OXIDE)/target
	rm -rf $(RUST_CLIENT)/target
	rm -rf fuzz/target fuzz/found fuzz/artifacts
	rm -rf $(DOCS)/node_modules
	rm -rf $(CLIENTS)/node_modules $(BROWSER)/node_modules $(TORTURE)/node_modules screenshots $(VENV) $(OPENAPI)/.venv $(CLIENTS)/python/__pycache__
