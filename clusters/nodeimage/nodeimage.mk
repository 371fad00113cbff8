# The container engine and the node image. NODEIMAGE_DIR is this directory, wherever make was started.
NODEIMAGE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

# Not `go run`: a signal to make must reach the program itself, which then cleans up.
NODEIMAGE_RUN = cd $(NODEIMAGE_DIR) && go build -o .bin/nodeimage ./cmd/nodeimage && exec .bin/nodeimage

.PHONY: engine node-image

engine: ## Find a Docker that answers, or install and start one (ENGINE=skip turns it off)
	@$(NODEIMAGE_RUN) engine

node-image: engine ## Find, pull or build the node image; its name is the last line
	@$(NODEIMAGE_RUN) image
