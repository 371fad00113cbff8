# Every target sets up what it needs by itself. `make help` lists them.

GO       ?= go
OUT      ?= out
# TIER=smoke runs the scenarios labelled so; SCENARIOS="a b" names them; CLUSTER=x uses (and keeps) a cluster that is up.
TIER     ?=
SCENARIOS ?=
CLUSTER  ?=
REPEAT   ?=
# ENGINE=skip leaves the container engine to you.
ENGINE   ?= auto

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT   := $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
HOSTOS   := $(shell $(GO) env GOOS)
ARCH     := $(shell $(GO) env GOARCH)
TOOL     := $(GO) tool -modfile=$(CURDIR)/.ci/tools.mod
TESTSUM  := $(TOOL) gotestsum --format pkgname-and-test-fails --no-color

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

include clusters/nodeimage/nodeimage.mk

.PHONY: help
help: ## Show this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/rebound, and the Linux program that runs in the nodes where that is another one
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/rebound .
ifneq ($(HOSTOS),linux)
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/rebound-linux-$(ARCH) .
endif

.PHONY: chaos
chaos: engine node-image build ## Break real clusters on purpose; report in out/ (TIER=smoke, SCENARIOS="…", CLUSTER=name)
	@bin/rebound run $(SCENARIOS) --out $(OUT) $(if $(TIER),--label tier=$(TIER)) $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(REPEAT),--repeat $(REPEAT))

.PHONY: test
test: test-short test-real ## Run every test; those that need one make a real cluster

.PHONY: test-short
test-short: ## Run the tests that need no cluster, under the race detector
	@mkdir -p $(OUT)
	$(TESTSUM) --jsonfile $(abspath $(OUT))/test-short.json -- -race ./...
	cd clusters/nodeimage && $(TESTSUM) --jsonfile $(abspath $(OUT))/test-nodeimage.json -- -race ./...

.PHONY: test-real
test-real: engine node-image build ## Run the tests that need a real cluster
	@mkdir -p $(OUT)
	REBOUND_PROGRAM=$(CURDIR)/bin/rebound $(TESTSUM) --jsonfile $(OUT)/test-real.json -- -tags cluster -timeout 40m -count=1 -p 1 \
	  -run '^(TestReal|TestSuite)' ./clusters/kindcluster ./runner/recorder ./runner/suite

.PHONY: test-summary
test-summary: ## Say how many of the tests of the last run passed
	@cat $(OUT)/test-*.json | awk '/"Test":/ && /"Action":"pass"/{p++} /"Test":/ && /"Action":"fail"/{f++} \
	  /"Test":/ && /"Action":"skip"/{s++} END{printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0}'

.PHONY: lint
lint: ## Check format, go vet, staticcheck and the direction of imports
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$unformatted" ]; then echo "gofmt -w these:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags cluster ./...
	$(TOOL) staticcheck ./...
	$(TOOL) staticcheck -tags cluster ./...
	$(GO) vet -tags soak ./runner/suite
	cd clusters/nodeimage && $(GO) vet ./... && $(TOOL) staticcheck ./...
	$(GO) test -run '^TestImports' .

.PHONY: bench
bench: engine node-image build ## Measure Rebound itself: cluster creation, reset, overhead, start-up
	$(GO) test -tags cluster -run '^$$' -bench . -benchtime 1x -timeout 40m ./clusters/kindcluster
	$(GO) test -run '^$$' -bench . ./assertions ./scenarios

.PHONY: soak
soak: engine node-image build ## Run what takes longer than CI allows: the outage held against an independent sampler, 20 times
	REBOUND_PROGRAM=$(CURDIR)/bin/rebound $(GO) test -tags soak -timeout 60m -count=1 -v ./runner/suite

.PHONY: clean
clean: ## Remove what was built and reported here (clusters: rebound cluster delete NAME)
	rm -rf bin $(OUT)
