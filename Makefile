# What one does with this repository. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help run test test-rust test-node test-python lint clients bench fuzz clean

CLIENTS := tests/clients
NODE_STAMP := $(CLIENTS)/node_modules/.stamp
VENV := $(CLIENTS)/python/.venv
PYTHON_STAMP := $(VENV)/.stamp
PORT ?= 3000
MAX_TIME ?= 60
FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start the hub with its demo page (PORT=3000)
	@echo "run: the demo page will be at http://127.0.0.1:$(PORT)/"
	cargo run --release -- serve --port $(PORT)

test: test-rust test-node test-python ## all tests: Rust, then the stock JavaScript and Python clients against the binary

test-rust: ## cargo test
	@cargo test && echo "cargo test: passed" || { echo "cargo test: FAILED"; exit 1; }

test-node: $(NODE_STAMP) ## the JavaScript client (builds binary and example first)
	@cargo build --bin stentor --example tour
	@cd $(CLIENTS) && npm test --silent && echo "node:test: passed" || { echo "node:test: FAILED"; exit 1; }

test-python: $(PYTHON_STAMP) ## the Python client (builds the binary first)
	@cargo build --bin stentor
	@cd $(CLIENTS)/python && .venv/bin/python -m unittest -v \
		&& echo "unittest: passed" || { echo "unittest: FAILED"; exit 1; }

# Private items are documented too: the inner modules are where the documentation of a hub is, and only then are the links
# between them checked.
lint: ## formatting, clippy and documentation, warnings are errors
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib --document-private-items
	@echo "lint: passed"

clients: $(NODE_STAMP) $(PYTHON_STAMP) ## install the clients that the tests use, from their lock files
	@echo "clients: ready in $(CLIENTS)/node_modules and $(VENV)"

$(NODE_STAMP): $(CLIENTS)/package.json $(CLIENTS)/package-lock.json
	@echo "clients: installing the JavaScript client into $(CLIENTS)/node_modules"
	@cd $(CLIENTS) && npm ci --no-audit --no-fund
	@touch $@

$(PYTHON_STAMP): $(CLIENTS)/python/requirements.txt
	@echo "clients: installing the Python client into $(VENV)"
	@python3 -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

bench: ## the load bench against the release build
	cargo build --release
	cargo bench --bench load

fuzz: ## every decoder under the fuzzer, MAX_TIME=60 seconds each (installs cargo-fuzz); see fuzz/README.md
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
	rm -rf fuzz/target fuzz/found fuzz/artifacts
	rm -rf $(CLIENTS)/node_modules $(VENV) $(CLIENTS)/python/__pycache__
