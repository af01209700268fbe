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

# simulate: clusters in virtual time under faults, for FOR (default 8m), from seed SIMULATE_FIRST on (default 1). make test has 3 minutes of it.
simulate:
	SIMULATE_FOR=$(or $(FOR),8m) ./scripts/test.sh simulate

# test-faults: three nodes in network namespaces are killed, stopped, cut off and filled for FOR (default 3m, at least), under a
# stock driver that keeps a ledger. make test has a short form of it. Needs root and ip.
test-faults:
	E2E=TestFaults HELENUS_E2E_FAULTS=$(or $(FOR),3m) ./scripts/test.sh e2e

# planted: the simulator has to find every planted bug (internal/planted), each within a minute of machine time. make test has eight of them
# a day, in turns. ARGS="-only hint-restamped,short-read-off -hunts 3" for some.
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
