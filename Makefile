# Two commands matter: `make dev` runs a cluster, `make test` checks everything. They need Go, Python 3 and make.
GO ?= go
CACHE := $(CURDIR)/.cache
export CGO_ENABLED = 0

.PHONY: build dev test check unit race simulate planted fuzz e2e test-faults test-movement bench peer-bench lint tools clean

build: bin/helenus

bin/helenus: FORCE
	@mkdir -p bin
	$(GO) build -trimpath -o $@ ./cmd/helenus

FORCE:

# dev: three nodes in one process on 127.0.0.1, .2 and .3 (add ARGS=--ephemeral to keep nothing).
dev: build
	./bin/helenus dev $(ARGS)

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

# test-faults: three nodes in network namespaces are killed, stopped, cut off and filled for FOR (default 3m, at least), under a
# stock driver that keeps a ledger. make test has a short form of it. Needs root and ip.
test-faults:
	E2E=TestFaults HELENUS_E2E_FAULTS=$(or $(FOR),3m) ./scripts/test.sh e2e

# test-movement: 3 -> 6 -> 3 nodes and each of the first replaced, under the load of a stock driver, and kills at random moments of joins and decommissions. Takes an
# hour; HELENUS_MOVEMENT_ROWS (1000000), HELENUS_MOVEMENT_RATE (2000) and HELENUS_MOVEMENT_KILLS (10 of each kind) make it shorter. The figures are in .cache/e2e.log.
test-movement:
	HELENUS_LONG=1 HELENUS_MOVEMENT=1 E2E='TestMovementLong|TestMovementKills' E2E_TIMEOUT=4h ./scripts/test.sh e2e

# bench: Go benchmarks of the hot paths, and helenus bench against a fresh node.
bench: build
	./scripts/bench.sh

# peer-bench: the same load against Helenus and a real Apache Cassandra (JDK 17 and Maven needed), with ratios.
peer-bench: build
	./scripts/peer-bench.sh

clean:
	rm -rf bin .cache
