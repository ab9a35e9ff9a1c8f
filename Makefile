# Herald. `make help` lists what there is; each target installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := /usr/local/go/bin:$(PATH)
export HERALD_CACHE ?= $(HOME)/.cache/herald

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
SETUP   := e2e/setup.sh
TOOL    := go tool -modfile=$(CURDIR)/internal/tools/go.mod
GOTEST  := $(CURDIR)/bin/gotest run
UML     := $(CURDIR)/e2e/uml
STORIES := -count=1 -timeout 30m ./stories/...

# Packages with tests that take over a network namespace.
NETNS_PACKAGES = $(shell grep -rl --include='*_test.go' '^//go:build netns' internal speaker | xargs -r -n1 dirname | sort -u | sed 's,^,./,')
IPVS_PACKAGES  = ./speaker/steer/... ./speaker/doctor/look/
# Of the other module, what is ours to lint. labkube is upstream's main
# functions behind ours: checking it would check all of Kubernetes.
E2E_PACKAGES   = ./lab/... ./kubetest/... ./validation/... ./stories/... ./cmd/demo/... ./cmd/labkube/credentials/...

# In the guest nothing may be skipped: it is there because it can run them all.
MUST_RUN := REQUIRE_NETNS=1 REQUIRE_IPVS=1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## --- building

.PHONY: build
build: ## bin/herald, static
	CGO_ENABLED=0 go build -ldflags "-s -w -X main.version=$(VERSION)" -o bin/herald ./cmd/herald

.PHONY: generate
generate: ## deepcopy functions and CRDs, from config/v1alpha1
	$(TOOL) controller-gen paths=./config/v1alpha1 object crd output:crd:dir=deploy/base/crds

.PHONY: bin/gotest
bin/gotest:
	@go -C internal/tools build -o $(CURDIR)/bin/gotest ./gotest

.PHONY: setup
setup: ## everything that demo and test need, into $(HERALD_CACHE)
	@$(SETUP)

## --- checking

.PHONY: lint
lint: lint-herald lint-e2e ## gofmt, go vet, staticcheck, generated files

.PHONY: lint-herald
lint-herald:
	@unformatted=$$(gofmt -l $$(find . -name '*.go' -not -path './.git/*')); \
	  [ -z "$$unformatted" ] || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	go vet ./... && go vet -tags netns ./... && go -C internal/tools vet ./...
	$(TOOL) staticcheck ./... && $(TOOL) staticcheck -tags netns ./...
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && \
	  $(TOOL) controller-gen paths=./config/v1alpha1 object output:object:dir=$$new/go crd output:crd:dir=$$new/crds && \
	  diff -r $$new/crds deploy/base/crds && diff $$new/go/zz_generated.deepcopy.go config/v1alpha1/ || \
	  { echo "generated files are not up to date: run make generate"; exit 1; }

.PHONY: lint-e2e
lint-e2e:
	go -C e2e vet $(E2E_PACKAGES)
	cd e2e && $(TOOL) staticcheck $(E2E_PACKAGES)

## --- testing

# The control plane and the kernel are built while what needs neither runs, and
# the guest, which has one processor, runs beside the linter and the lab. If
# that fails there is nothing to wait for: the builds are ended, and installing
# packages, which must not be interrupted, ends by itself.
.PHONY: test
test: | bin/gotest ## everything: lint, unit, namespaces, clouds, IPVS, stories on both kernels
	@rm -rf out && mkdir -p out
	@setsid $(SETUP) & setup=$$!; trap 'kill -TERM -- -$$setup 2>/dev/null || true' EXIT; \
	  $(MAKE) lint-herald test-unit test-netns; \
	  wait $$setup; trap - EXIT; \
	  $(MAKE) -j2 --output-sync=target test-ipvs lint-e2e test-cloud test-lab; \
	  $(MAKE) test-stories test-stories-uml
	@bin/gotest skipped out/*.json

.PHONY: test-unit
test-unit: | bin/gotest out ## unit and property tests, with the race detector
	$(GOTEST) -o out/unit.json -- -race ./...
	$(GOTEST) -o out/ccm.json -- ./cloud/ccm # what races upstream
	cd internal/tools && $(GOTEST) -o $(CURDIR)/out/tools.json -- ./...
	cd e2e && $(GOTEST) -o $(CURDIR)/out/e2e.json -- ./cmd/labkube/credentials/...

.PHONY: test-netns
test-netns: | bin/gotest out ## tests in network namespaces of this kernel, with the race detector
	@$(SETUP) packages
	REQUIRE_NETNS=1 $(GOTEST) -o out/netns.json -- -count=1 -race -tags netns -exec $(CURDIR)/e2e/netns-run.sh $(NETNS_PACKAGES)

# The rest of their tests are among the unit tests.
.PHONY: test-ipvs
test-ipvs: | bin/gotest out ## tests of the kernel adapters in User-Mode Linux, which has IPVS
	@$(SETUP) packages kernel
	$(MUST_RUN) $(GOTEST) -o out/ipvs.json -- -count=1 -p 1 -tags netns -exec $(UML)/uml-run.sh $(IPVS_PACKAGES)

.PHONY: test-cloud
test-cloud: | bin/gotest out ## tests of drivers with the clouds' own servers and programs, with the race detector
	@$(SETUP) packages openstack
	REQUIRE_HCLOUD_CLI=1 $(GOTEST) -o out/hcloud.json -- -count=1 -race -run CLI ./internal/cloudsim/...
	REQUIRE_OPENSTACK=1 $(GOTEST) -o out/openstack.json -- -count=1 -race -timeout 30m ./cloud/openstack/...

# kubetest holds internal/kube to a real API server, validation what is written to
# that server's code, which is compiled with the control plane.
.PHONY: test-lab
test-lab: | bin/gotest out ## the lab itself, and what talks to the API, with a real control plane
	@$(SETUP) packages control-plane
	cd e2e && REQUIRE_NETNS=1 $(GOTEST) -o $(CURDIR)/out/lab.json -- -count=1 ./lab/... ./kubetest/... ./validation/...

.PHONY: test-stories
test-stories: build | bin/gotest out ## the stories, on this kernel
	@$(SETUP) packages control-plane
	cd e2e && HERALD_BIN=$(CURDIR)/bin/herald REQUIRE_NETNS=1 $(GOTEST) -each -o $(CURDIR)/out/stories.json -- $(STORIES)

.PHONY: test-stories-uml
test-stories-uml: build | bin/gotest out ## the same stories in User-Mode Linux, on IPVS
	@$(SETUP) packages control-plane kernel
	cd e2e && HERALD_BIN=$(CURDIR)/bin/herald $(MUST_RUN) $(GOTEST) -each -o $(CURDIR)/out/stories-uml.json -- \
	  -exec '$(UML)/with-control-plane.sh -m 3G -t 1800 --' $(STORIES)

## --- showing

# KEEP=1 leaves it running until ^C. KERNEL=uml plays on IPVS.
.PHONY: demo
demo: ## the story of a Service, with real output; KEEP=1 to look around, KERNEL=uml for IPVS
	@$(SETUP) packages control-plane $(if $(filter uml,$(KERNEL)),kernel)
	@$(MAKE) build
	@cd e2e && go build -o ../bin/demo ./cmd/demo
	@HERALD_BIN=$(CURDIR)/bin/herald KEEP=$(KEEP) UML_ENV=KEEP \
	  $(if $(filter uml,$(KERNEL)),$(UML)/with-control-plane.sh -m 3G -t 86400 --) bin/demo

.PHONY: demo-stop
demo-stop: ## end a demo that was left running
	@bin/demo stop

.PHONY: bench
bench: build ## the figures
	go test -run '^$$' -bench . -benchmem ./...
	@$(SETUP) packages control-plane kernel
	REQUIRE_NETNS=1 go test -run '^$$' -bench 'Crowd|Flood' -benchtime 1x -tags netns -p 1 \
	  -exec $(CURDIR)/e2e/netns-run.sh ./speaker/liveness/ ./speaker/arp/ ./speaker/ndp/
	REQUIRE_NETNS=1 go test -run '^$$' -bench . -benchtime 1x -tags netns -exec $(CURDIR)/e2e/netns-run.sh ./speaker/bgp/
	REQUIRE_IPVS=1 go test -run '^$$' -bench . -benchtime 3x -timeout 30m -tags netns -p 1 \
	  -exec '$(UML)/uml-run.sh -m 4G -t 1800' ./speaker/steer/ipvs/
	cd e2e && HERALD_BIN=$(CURDIR)/bin/herald go test -run '^$$' -bench . -benchtime 1x $(STORIES)

.PHONY: clean
clean: ## what was built here; the cache stays
	rm -rf bin out

out:
	@mkdir -p out
