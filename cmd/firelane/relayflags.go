package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/firelane/firelane/relay"
)

// relayFlags are the flags of `firelane relay` as given, the environment included.
type relayFlags struct {
	public4, public6, bind4, bind6 string
	listenPort                     int
	lowestPort, highestPort        int

	apiURL, token, name string
	maxPartition        time.Duration

	secretFile, usersFile, realm string

	limits       relay.Limits
	peers        relay.PeerRules
	denyPeers    []string
	drainTimeout time.Duration

	workers                     int
	noGSO, noGRO, noRaiseLimits bool
	pin                         bool
	wakeupDelay                 time.Duration

	health, metrics, control string
	logFormat, logLevel      string
	rngSeed                  string

	// Accepted, without effect.
	ebpfInterface, ebpfMode, ebpf4, ebpf6 string
	otlpEndpoint                          string
	telemetry                             bool
}

// register declares the flags. Firezone's relay has those that relayEnv names after it.
func (f *relayFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.public4, "public-ip4-addr", "", "the IPv4 `address` that clients are told and peers send to")
	s.StringVar(&f.public6, "public-ip6-addr", "", "the IPv6 `address` likewise; at least one of the two is needed")
	s.StringVar(&f.bind4, "bind-ip4-addr", "0.0.0.0", "the IPv4 `address` to bind sockets to, where the public one is that of a NAT in front")
	s.StringVar(&f.bind6, "bind-ip6-addr", "::", "the IPv6 `address` likewise")
	s.IntVar(&f.listenPort, "listen-port", 3478, "the UDP `port` for STUN and TURN")
	s.IntVar(&f.lowestPort, "lowest-port", 49152, "the lowest `port` of allocations")
	s.IntVar(&f.highestPort, "highest-port", 65535, "the highest `port` of allocations")

	s.StringVar(&f.apiURL, "api-url", "", "the portal's `URL`: wss://… or ws://…")
	s.DurationVar(&f.maxPartition, "max-partition-time", relay.MaxPartition, "give up when the portal is out of reach for longer (0: never)")
	s.StringVar(&f.secretFile, "secret-file", "", "without a portal: a `file` with the secret from which time-limited passwords are derived")
	s.StringVar(&f.usersFile, "users-file", "", "without a portal: a `file` with a line NAME:PASSWORD for each user")
	s.StringVar(&f.realm, "realm", relay.DefaultRealm, "the realm of these users")

	f.registerLimits(s)

	s.StringVar(&f.health, "health-check-addr", "0.0.0.0:8080", "answer HTTP requests for /healthz and /readyz at this IP `address:port` (empty: nowhere)")
	s.StringVar(&f.metrics, "metrics", "", "answer HTTP requests for /metrics (Prometheus) at this IP `address:port`")
	s.StringVar(&f.control, "control-endpoint", "127.0.0.1:9999", "change the log level by POST /log_filter?directives=LEVEL at this IP `address:port` (empty: nowhere)")
	s.StringVar(&f.logFormat, "log-format", "human", "human or json")
	s.StringVar(&f.logLevel, "log-level", "", "debug, info, warn, error or silent (default: RUST_LOG, else info)")

	s.IntVar(&f.workers, "num-worker-threads", 0, "workers that carry data (0: one per processor)")
	s.DurationVar(&f.wakeupDelay, "wakeup-delay", relayWakeupDelay, "the longest interval at which a busy worker looks for packets instead of being woken for them (0: never)")
	s.BoolVar(&f.pin, "pin", false, "bind each worker to a processor of its own")
	s.BoolVar(&f.noGSO, "no-gso", false, "send UDP datagrams one by one (UDP_SEGMENT off)")
	s.BoolVar(&f.noGRO, "no-gro", false, "receive UDP datagrams one by one (UDP_GRO off)")
	s.BoolVar(&f.noRaiseLimits, "no-raise-limits", false, "leave the system's limits on socket buffers and descriptors as they are")
	s.StringVar(&f.rngSeed, "rng-seed", "", "a `number` that makes ports and nonces repeat, for tests only")

	s.StringVar(&f.ebpfInterface, "ebpf-offloading", "", "no effect: data is carried in user space")
	s.StringVar(&f.ebpfMode, "ebpf-attach-mode", "driver", "no effect")
	s.StringVar(&f.ebpf4, "ebpf-int4-addr", "", "no effect")
	s.StringVar(&f.ebpf6, "ebpf-int6-addr", "", "no effect")
	s.StringVar(&f.otlpEndpoint, "otlp-grpc-endpoint", "", "no effect: see --metrics")
	s.BoolVar(&f.telemetry, "telemetry", false, "no effect: nothing is ever reported to anyone")
	s.SortFlags = false
}

// registerLimits declares what bounds clients and strangers.
func (f *relayFlags) registerLimits(s *pflag.FlagSet) {
	d := relay.DefaultLimits()
	s.IntVar(&f.limits.Allocations, "max-allocations", d.Allocations, "allocations (0: as many as ports)")
	s.IntVar(&f.limits.AllocationsPerSource, "max-allocations-per-source", d.AllocationsPerSource, "allocations of one IPv4 address or IPv6 /64 (0: no bound)")
	s.IntVar(&f.limits.Channels, "max-channels", d.Channels, "channels of all allocations")
	s.IntVar(&f.limits.ChannelsPerAllocation, "max-channels-per-allocation", d.ChannelsPerAllocation, "channels of one allocation")
	s.Int64Var(&f.limits.BytesPerSecond, "max-bytes-per-second", d.BytesPerSecond, "payload of one allocation, both directions together (0: no bound)")
	s.IntVar(&f.limits.BindingsPerSecond, "max-bindings-per-second", d.BindingsPerSecond, "answers to Binding requests of one IPv4 address or IPv6 /64 (0: no bound)")
	s.IntVar(&f.limits.RefusalsPerSecond, "max-refusals-per-second", d.RefusalsPerSecond, "answers to requests without credentials, and as many to those with wrong ones, likewise; with --users-file a source beyond the latter is not heard for a while, but for clients with an allocation (0: no bound)")
	s.IntVar(&f.limits.Nonces, "max-nonces", d.Nonces, "clients whose use of their nonce is counted")
	s.StringSliceVar(&f.denyPeers, "deny-peers", nil, "no channels to peers in these `networks`, such as 192.0.2.0/24,2001:db8::/32, but for the public addresses of the relay")
	s.BoolVar(&f.peers.DenyPrivate, "deny-private-peers", false, "no channels to peers at private addresses, but for the public ones of the relay")
	s.BoolVar(&f.peers.AllowLinkLocal, "allow-link-local-peers", false, "channels to peers at link-local addresses")
	s.BoolVar(&f.peers.AllowLoopback, "allow-loopback-peers", false, "channels to peers at loopback addresses")
	s.BoolVar(&f.peers.AllowOwn, "allow-own-peers", false, "channels to any port of this host's other addresses but the listening one, for a gateway or client on the same host")
	s.DurationVar(&f.drainTimeout, "drain-timeout", 0, "after SIGTERM, how long to carry on with the allocations that exist")
}

// relayEnv are the variables of flags that are not named after their flag. All others of
// Firezone's relay are, --listen-port is LISTEN_PORT, and our own have a prefix:
// --drain-timeout is FIRELANE_DRAIN_TIMEOUT.
var relayEnv = map[string]string{
	"api-url":            "FIREZONE_API_URL",
	"max-partition-time": "FIREZONE_MAX_PARTITION_TIME",
	"log-level":          "LOG_LEVEL",
}

// firezones are the flags of Firezone's relay whose variables have their names.
var firezones = map[string]bool{
	"public-ip4-addr": true, "public-ip6-addr": true, "bind-ip4-addr": true, "bind-ip6-addr": true,
	"listen-port": true, "lowest-port": true, "highest-port": true, "rng-seed": true, "log-format": true,
	"otlp-grpc-endpoint": true, "ebpf-offloading": true, "ebpf-attach-mode": true, "ebpf-int4-addr": true,
	"ebpf-int6-addr": true, "health-check-addr": true, "control-endpoint": true, "num-worker-threads": true,
	"telemetry": true,
}

// relayVariable returns the variable that stands for a flag.
func relayVariable(flag string) string {
	if v, ok := relayEnv[flag]; ok {
		return v
	}
	v := strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	if !firezones[flag] {
		v = "FIRELANE_" + v
	}
	return v
}

// applyEnv sets the flags that the command line leaves out from the environment. A variable that
// is empty counts as unset.
func applyEnv(s *pflag.FlagSet, variable func(flag string) string, env func(string) (string, bool)) (err error) {
	s.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" || err != nil {
			return
		}
		name := variable(f.Name)
		if v, _ := env(name); v != "" && f.Value.Set(v) != nil {
			err = fmt.Errorf("%s=%q: want a %s for --%s", name, v, f.Value.Type(), f.Name)
		}
	})
	return err
}

// relayWakeupDelay is twice what a gateway takes: a relay is one hop of several on a long way, and
// has twice the reason: what gathers meanwhile leaves as trains, one for each allocation and
// direction. At 20,000 single packets a second each way over ten allocations it saves a third of the
// processor time (bench/relay).
const relayWakeupDelay = time.Millisecond
