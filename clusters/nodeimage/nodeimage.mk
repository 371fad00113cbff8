# The container engine and the node image. NODEIMAGE_DIR is this directory, wherever make was started.
NODEIMAGE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

.PHONY: engine node-image

# What the top-level Makefile runs in this module.
NODEIMAGE_TEST := go test -race ./...

engine: ## Find a Docker that answers, or install and start one (ENGINE=skip turns it off)
	@cd $(NODEIMAGE_DIR) && go run ./cmd/nodeimage engine

node-image: engine ## Find, pull or build the node image; its name is the last line
	@cd $(NODEIMAGE_DIR) && go run ./cmd/nodeimage image
