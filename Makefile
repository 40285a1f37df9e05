# Everything that is done with this tree. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO ?= go
# The race detector needs cgo and a C compiler; empty turns it off.
RACE ?= -race
# The end-to-end tests: what to run, and how long it may take.
E2E_ARGS ?=
E2E_TIMEOUT ?= 40m
# What `make bench` runs (a program in the e2e module), and its arguments.
BENCH ?= ./cmd/bench
BENCH_ARGS ?=
# What writes docs/configuration.md.
DOCS ?= $(GO) test ./config -count=1 -run '^TestReference$$' -update

# The version comes from git where there is one, and is "devel" elsewhere. The
# date is the commit's, so that two builds of one commit are the same bytes.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
COMMIT_DATE := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)

V := rollcall/internal/version
LDFLAGS := -s -w -X $(V).version=$(VERSION) -X $(V).commit=$(COMMIT) -X $(V).date=$(COMMIT_DATE)

# Two megabytes less, with no effect that can be measured: Teleport's generated
# code isn't inlined, and gRPC's trace pages, which nothing here serves, are
# left out.
SMALL := -tags grpcnotrace -gcflags 'github.com/gravitational/teleport/api/...=-l'

# The official agent's libraries link only without assembly (see e2e/go.mod).
E2E_TAGS := -tags purego
STAGE := scripts/stage.sh run
PROGRESS := scripts/with-progress.sh

##@ Use

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/rollcall, stripped and reproducible
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false $(SMALL) -ldflags "$(LDFLAGS)" -o bin/rollcall ./cmd/rollcall

demo: build e2e-binaries ## Show the main job on a real cluster on loopback, step by step
	@cd e2e && ../$(PROGRESS) "the demo" $(GO) build -v $(E2E_TAGS) -o bin/demo ./cmd/demo
	@cd e2e && exec ./bin/demo

##@ Test

test: ## Do all the set-up and run all the tests
	@scripts/stage.sh begin
	@$(STAGE) "set-up" scripts/setup-test.sh
	@$(STAGE) "import rule" $(MAKE) -s lint-import
	@$(STAGE) "gofmt" scripts/check-fmt.sh
	@$(STAGE) "go vet" $(GO) vet ./...
	@$(STAGE) "unit tests" $(MAKE) -s unit
	@$(STAGE) "docs" $(MAKE) -s docs-check
	@$(STAGE) "build" $(MAKE) -s build
	@$(STAGE) "end-to-end binaries" $(MAKE) -s e2e-binaries
	@$(STAGE) "go vet, end-to-end" $(MAKE) -s e2e-vet
	@$(STAGE) "end-to-end tests" $(MAKE) -s e2e-tests
	@scripts/stage.sh summary

unit: ## Run the unit tests of the root module, with the race detector
	$(GO) test $(RACE) ./...

e2e: build e2e-binaries e2e-tests ## Run the end-to-end tests (E2E_ARGS="-run TestName -v")

e2e-tests:
	cd e2e && $(GO) test $(E2E_TAGS) ./... -count=1 -timeout $(E2E_TIMEOUT) $(E2E_ARGS)

e2e-vet:
	cd e2e && $(GO) vet $(E2E_TAGS) ./...

# Go's own cache decides if there is anything to do; the first time takes
# minutes, because a whole Teleport cluster is compiled.
e2e-binaries: ## Build the real cluster and the official tbot into e2e/bin
	@mkdir -p e2e/bin
	@cd e2e && ../$(PROGRESS) "the test cluster" $(GO) build -v $(E2E_TAGS) -ldflags "-s -w" -o bin/cluster ./cmd/cluster
	@cd e2e && ../$(PROGRESS) "the official tbot" $(GO) build -v $(E2E_TAGS) -ldflags "-s -w" -o bin/tbot github.com/gravitational/teleport/tool/tbot

bench: build e2e-binaries ## Measure beside the official tbot (BENCH_ARGS="…")
	@cd e2e && ../$(PROGRESS) "the benchmark" $(GO) build -v $(E2E_TAGS) -o bin/bench $(BENCH)
	@cd e2e && exec ./bin/bench $(BENCH_ARGS)

build-check: ## Build twice, in two places, and compare the bytes
	scripts/check-reproducible.sh

##@ Tidy

lint: lint-import ## Import rule, go vet, gofmt, and the linters that are installed
	$(GO) vet ./...
	scripts/check-fmt.sh
	scripts/lint-tools.sh

lint-import: ## Check the rules of the house (needs no network)
	$(GO) run ./internal/lint/houserules

fmt: ## Format all Go files
	gofmt -w -s .

docs: ## Write the configuration reference anew
	$(DOCS)

docs-check: ## Check that the documents' links lead somewhere and their examples parse
	$(GO) run ./internal/lint/houserules documents

clean: ## Remove what was built here (not Go's own caches)
	rm -rf bin e2e/bin .cache

print-%:
	@echo '$($*)'

.PHONY: help build demo test unit e2e e2e-tests e2e-vet e2e-binaries bench \
	build-check lint lint-import fmt docs docs-check clean
