# Every command a developer or a CI runs. A machine needs Go, gcc, make and git; run, test,
# netns and bench also need root, and install the rest themselves (Debian packages).

GO       ?= go
# T is how long each fuzz target searches; TARGET picks one of them.
T        ?= 30s
TARGET   ?= Fuzz.*
# BENCH is passed to the benchmark: make bench BENCH='-rows tcp -reps 1'.
BENCH    ?=
# BENCH_RELAY and BENCH_PORTAL are passed to the benchmarks of relay and portal.
BENCH_RELAY  ?=
BENCH_PORTAL ?=
# COVER_FLOOR is the least share of statements, in percent, that the tests of a pure package reach.
COVER_FLOOR ?= 80

# pure are the packages without I/O; netns those whose tests make network namespaces.
pure  := batch bufpool control dns fastpath fib packet portal/config protocol/...
netns := cmd/firelane internal/node/... internal/tun internal/udp relay bench/...

# slow are packages whose tests take minutes; `make check` leaves them out.
slow  := netnstest topology

# existing turns the names of packages into arguments, leaving out what is not there.
existing = $(foreach p,$(1),$(if $(wildcard $(p:/...=)/*),./$(p)))

.PHONY: build run test check race cover netns fuzz bench soak clean lint install root

build: ## the program, and the name under which it is `firelane wg`
	$(GO) build -o firelane ./cmd/firelane
	ln -sf firelane firelane-wg

run: root install ## the gateway at work between three network namespaces, beside wireguard-go
	$(GO) run ./bench -demo

check: root install lint ## the inner loop: unit tests run only where something has changed, thanks to Go's cache
	$(GO) test -short $$($(GO) list ./... | grep -v $(slow:%=-e /%$$))

test: root install lint ## everything a machine can prove; what CI runs
	$(GO) test -count=1 ./...
	$(GO) test -count=1 -race $$($(GO) list ./... | grep -v /bench)

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test ./internal/arch

race: root ## everything under the race detector
	$(GO) test -count=1 -race ./...

cover: ## coverage, with a floor for the pure packages
	@$(GO) test -cover $(call existing,$(pure)) | awk -v floor=$(COVER_FLOOR) \
	  '{ print } \
	   /^(FAIL|---)/ { bad = 1 } \
	   match($$0, /coverage: [0-9.]+%/) { if (substr($$0, RSTART + 10, RLENGTH - 11) + 0 < floor) { print "below " floor "%: " $$2; bad = 1 } } \
	   END { exit bad }'

netns: root install ## the tests on real sockets and tunnels
	$(GO) test -count=1 $(call existing,$(netns))

fuzz: ## every target searches for T, or the one named TARGET
	@set -e; targets=$$($(GO) test -list '^$(TARGET)$$' ./fuzz | grep '^Fuzz') || { echo "no fuzz target matches $(TARGET)" >&2; exit 1; }; \
	for target in $$targets; do \
	  echo "== $$target"; \
	  $(GO) test ./fuzz -run '^$$' -fuzz "^$$target\$$" -fuzztime $(T); \
	done

bench: root install build ## the full benchmark; the report is in out/bench
	$(GO) run ./bench $(BENCH)
	$(GO) run ./bench/relay $(BENCH_RELAY)
	$(GO) run ./bench/portal -program ./firelane $(BENCH_PORTAL)

soak: root install ## the relay under churn for an hour
	FIRELANE_SOAK=1h $(GO) test -count=1 -timeout 75m -run '^TestSoak$$' ./relay

clean:
	rm -rf firelane firelane-wg out

install:
	@.ci/install

root:
	@test "$$(id -u)" = 0 || { echo "this needs root, for network namespaces and tunnels: run it with sudo" >&2; exit 1; }
