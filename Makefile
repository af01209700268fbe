# Two commands matter: `make dev` runs a cluster, `make test` checks everything. They need Go, Python 3 and make.
GO ?= go
CACHE := $(CURDIR)/.cache
export CGO_ENABLED = 0

.PHONY: build dev test check unit race simulate planted fuzz e2e test-faults bench peer-bench lint tools clean

build: bin/helenus

bin/helenus: FORCE
	@mkdir -p bin
	$(GO) build -trimpath -o $@ ./cmd/helenus

FORCE:

# dev: three nodes in one process on 127.0.0.1, .2 and .3 (add ARGS=--ephemeral to keep nothing).
dev: build
	./bin/helenus dev --nodes 3 $(ARGS)

# test: everything that continuous integration does.
test:
	./scripts/test.sh

lint unit race e2e:
	./scripts/test.sh $@

# simulate: clusters in virtual time under faults, new seeds for FOR (default 8m), in all scenarios. make test runs a few seeds, always the same.
simulate:
	$(GO) run ./internal/sim/cmd/simulate -for $(or $(FOR),8m) -swarm

# planted: the simulator has to find every planted bug (internal/planted), each within a minute of machine time. make test has eight of
# them. ARGS="-only hint-restamped,short-read-off -hunts 3" for some.
planted:
	./scripts/planted.sh $(ARGS)

# fuzz: each fuzz target for FUZZTIME (default 30s).
fuzz:
	./scripts/fuzz.sh

# bench: Go benchmarks of the hot paths, and helenus bench against a fresh node.
bench: build
	./scripts/bench.sh

# peer-bench: the same load against Helenus and a real Apache Cassandra (JDK 17 and Maven needed), with ratios.
peer-bench: build
	./scripts/peer-bench.sh

clean:
	rm -rf bin .cache
