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
# More for `go build` of the release binary (-v names the packages).
BUILD_ARGS ?=
# Arguments of `make demo` (--wait) and `make bench` (--help lists them).
DEMO_ARGS ?=
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

# Where the binary goes, and what is built into it beside the usual (the tests
# of the watchdog have a build that can be made to hang).
OUT ?= bin/rollcall
TAGS ?=

# Two megabytes less, with no effect that can be measured: Teleport's generated
# code isn't inlined, and gRPC's trace pages, which nothing here serves, are
# left out.
SMALL := -tags 'grpcnotrace $(TAGS)' -gcflags 'github.com/gravitational/teleport/api/...=-l'

# Builds what the end-to-end tests need, or what it's told: e2e/harness/build
# has the one list, and asks this Makefile's build for bin/rollcall.
E2E_BUILD := cd e2e && $(GO) run -buildvcs=false ./cmd/build
STAGE := scripts/stage.sh run

##@ Use

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build bin/rollcall, stripped and reproducible
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build $(BUILD_ARGS) -trimpath -buildvcs=false $(SMALL) -ldflags "$(LDFLAGS)" -o $(OUT) ./cmd/rollcall

demo: ## Show the main job on a real cluster on loopback, step by step
	@$(E2E_BUILD) demo
	@cd e2e && exec ./bin/demo $(DEMO_ARGS)

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

# The last lines are for what is otherwise than in a race build: more histories,
# and other calls of the system.
unit: ## Run the unit tests of the root module, with the race detector
	$(GO) test $(RACE) ./...
	$(GO) test -run '^TestHistories$$' ./discovery
	$(GO) test ./internal/socket ./internal/records

e2e: build e2e-binaries e2e-tests ## Run the end-to-end tests (E2E_ARGS="-run TestName -v")

e2e-tests:
	cd e2e && $(GO) test ./... -count=1 -timeout $(E2E_TIMEOUT) $(E2E_ARGS)

e2e-vet:
	cd e2e && $(GO) vet ./...

# Go's own cache decides if there is anything to do; the first time takes
# minutes, because a whole Teleport cluster is compiled.
e2e-binaries: ## Build the real cluster, the official tbot and bin/rollcall
	@$(E2E_BUILD)

bench: ## Measure beside the official tbot (BENCH_ARGS="…")
	@$(E2E_BUILD) bench
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
