package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/firelane/firelane/relay"
)

// relayFrom parses a command line as the program does.
func relayFrom(t *testing.T, env map[string]string, line ...string) (relayConfig, error) {
	t.Helper()
	var f relayFlags
	s := pflag.NewFlagSet("relay", pflag.ContinueOnError)
	f.register(s)
	if err := s.Parse(line); err != nil {
		return relayConfig{}, err
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	if err := applyEnv(s, relayVariable, lookup); err != nil {
		return relayConfig{}, err
	}
	return parseRelay(f, s.Args(), lookup)
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFirezonesEnvironment holds the names, the defaults and the meaning of every option of
// Firezone's relay.
func TestFirezonesEnvironment(t *testing.T) {
	least := map[string]string{"PUBLIC_IP4_ADDR": "192.0.2.1", "FIREZONE_API_URL": "wss://api.example.com", "FIREZONE_TOKEN": "token"}
	c, err := relayFrom(t, least)
	if err != nil {
		t.Fatal(err)
	}
	s := c.settings
	if s.Port != 3478 || s.Server.LowestPort != 49152 || s.Server.HighestPort != 65535 || s.Bind4.IsValid() || s.Bind6.IsValid() ||
		c.level != slog.LevelInfo || c.json || c.health != "0.0.0.0:8080" || c.control != "127.0.0.1:9999" || c.metrics != "" ||
		s.Workers != 0 || len(c.ignored) != 0 || c.portal.Name != "" || c.portal.Port != 3478 || c.portal.MaxPartition != relay.MaxPartition ||
		s.Server.Seed != [32]byte{} || s.Server.ManyPerUser || !s.RaiseLimits || !s.GSO || !s.GRO || c.drainTimeout != 0 {
		t.Errorf("defaults: %+v", c)
	}
	if relay.MaxPartition != 24*time.Hour {
		t.Errorf("gives up after %v", relay.MaxPartition)
	}
	c, err = relayFrom(t, map[string]string{
		"PUBLIC_IP4_ADDR": "192.0.2.1", "PUBLIC_IP6_ADDR": "2001:db8::1", "BIND_IP4_ADDR": "10.0.0.1", "BIND_IP6_ADDR": "fd00::1",
		"LISTEN_PORT": "3479", "LOWEST_PORT": "50000", "HIGHEST_PORT": "50009", "FIREZONE_API_URL": "ws://portal:8081",
		"FIREZONE_TOKEN": "to ken\n", "FIREZONE_NAME": "a", "RNG_SEED": "7", "LOG_FORMAT": "json", "OTLP_GRPC_ENDPOINT": "otel:4317",
		"EBPF_OFFLOADING": "eth0", "EBPF_ATTACH_MODE": "generic", "EBPF_INT4_ADDR": "10.0.0.2", "EBPF_INT6_ADDR": "fd00::2",
		"HEALTH_CHECK_ADDR": "127.0.0.1:8081", "CONTROL_ENDPOINT": "127.0.0.1:9998", "NUM_WORKER_THREADS": "3", "TELEMETRY": "true",
		"RUST_LOG": "debug,quinn=info", "FIREZONE_MAX_PARTITION_TIME": "1h", "FIRELANE_MAX_CHANNELS": "9", "FIRELANE_DENY_PEERS": "192.0.2.0/24, 2001:db8::1/32",
		"FIRELANE_METRICS": "127.0.0.1:9586", "FIRELANE_DRAIN_TIMEOUT": "5s",
	})
	if err != nil {
		t.Fatal(err)
	}
	s = c.settings
	if s.Server.Public4 != netip.MustParseAddr("192.0.2.1") || s.Server.Public6 != netip.MustParseAddr("2001:db8::1") ||
		s.Bind4 != netip.MustParseAddr("10.0.0.1") || s.Bind6 != netip.MustParseAddr("fd00::1") || s.Port != 3479 ||
		s.Server.LowestPort != 50000 || s.Server.HighestPort != 50009 || s.Workers != 3 || s.Server.Seed[0] != 7 || !c.json || c.level != slog.LevelDebug {
		t.Errorf("settings: %+v", s)
	}
	if c.portal.API != "ws://portal:8081" || c.portal.Token.Reveal() != "token" || c.portal.Name != "a" || c.portal.Port != 3479 ||
		c.portal.MaxPartition != time.Hour || len(c.portal.Stamp.Reveal()) != 64 {
		t.Errorf("portal: %+v", c.portal)
	}
	if got := strings.Join(c.ignored, " "); got != "--ebpf-offloading --ebpf-attach-mode --ebpf-int4-addr --ebpf-int6-addr --otlp-grpc-endpoint --telemetry" {
		t.Errorf("without effect: %s", got)
	}
	if s.Server.Limits.Channels != 9 || len(s.Server.Peers.Deny) != 2 || s.Server.Peers.Deny[1] != netip.MustParsePrefix("2001:db8::/32") ||
		c.metrics != "127.0.0.1:9586" || c.drainTimeout != 5*time.Second || c.health != "127.0.0.1:8081" || c.control != "127.0.0.1:9998" {
		t.Errorf("our own: %+v", c)
	}
}

func TestTheCommandLineGoesBeforeTheEnvironment(t *testing.T) {
	env := map[string]string{
		"PUBLIC_IP4_ADDR": "192.0.2.1", "FIREZONE_API_URL": "wss://a", "FIREZONE_TOKEN": "x", "FIREZONE_NAME": "x", "LISTEN_PORT": "1",
		"LOG_LEVEL": "warn", "RUST_LOG": "debug", "HIGHEST_PORT": "",
	}
	c, err := relayFrom(t, env, "--listen-port", "2", "--log-level", "error", "token", "name")
	if err != nil || c.settings.Port != 2 || c.portal.Token.Reveal() != "token" || c.portal.Name != "name" || c.level != slog.LevelError || c.highestPort != 65535 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = relayFrom(t, env); err != nil || c.level != slog.LevelWarn {
		t.Errorf("LOG_LEVEL goes before RUST_LOG: %v, %v", c.level, err)
	}
}

// Whoever has a user name without a portal may use it on several devices at once; a portal gives
// each session one, and expects the newest allocation to replace the others.
func TestWhoMayHoldSeveralAllocations(t *testing.T) {
	public := map[string]string{"PUBLIC_IP4_ADDR": "192.0.2.1", "FIREZONE_TOKEN": "token"}
	for flag, want := range map[string]bool{
		"--secret-file=" + file(t, strings.Repeat("s", 64)): true,
		"--users-file=" + file(t, "user:password"):          true,
		"--api-url=wss://a":                                 false,
	} {
		if c, err := relayFrom(t, public, flag); err != nil || c.settings.Server.ManyPerUser != want {
			t.Errorf("%s: %v, %v", flag, c.settings.Server.ManyPerUser, err)
		}
	}
}

func TestATokenFromSystemd(t *testing.T) {
	dir := filepath.Dir(file(t, ""))
	env := map[string]string{"PUBLIC_IP6_ADDR": "2001:db8::1", "FIREZONE_API_URL": "wss://a", "CREDENTIALS_DIRECTORY": dir}
	if _, err := relayFrom(t, env); err == nil || !strings.Contains(err.Error(), "FIREZONE_TOKEN: open") {
		t.Errorf("no credential: %v", err)
	}
	if err := os.WriteFile(dir+"/FIREZONE_TOKEN", []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := relayFrom(t, env); err != nil || c.portal.Token.Reveal() != "token" {
		t.Errorf("%v", err)
	}
}

func TestBadRelayCommandLines(t *testing.T) {
	const public = "--public-ip4-addr=192.0.2.1"
	secret := "--secret-file=" + file(t, strings.Repeat("s", 64))
	words := func(s ...string) []string { return s }
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"no address", nil, words(secret), "no public address: give --public-ip4-addr"},
		{"an address that is none", nil, words("--public-ip4-addr", "relay.example.com"), `--public-ip4-addr "relay.example.com": want an IPv4 address`},
		{"an address of the other family", nil, words("--public-ip6-addr", "192.0.2.1"), `--public-ip6-addr "192.0.2.1": want an IPv6 address`},
		{"an address with a zone", nil, words("--public-ip6-addr", "fe80::1%lo"), `--public-ip6-addr "fe80::1%lo": want an IPv6`},
		{"all addresses", nil, words("--public-ip4-addr", "0.0.0.0", secret), "a public address is 0.0.0.0 or ::"},
		{"a bad bind address", nil, words(public, "--bind-ip4-addr", "x"), `--bind-ip4-addr "x": want`},
		{"a bad address in the environment", []string{"PUBLIC_IP4_ADDR=x"}, nil, `--public-ip4-addr "x": want`},
		{"port zero", nil, words(public, secret, "--listen-port", "0"), "--listen-port 0: want 1 to 65535"},
		{"a port too high", nil, words(public, secret, "--highest-port", "65536"), "--highest-port 65536: want 1 to 65535"},
		{"a port that is none, in the environment", []string{"LISTEN_PORT=x"}, words(public, secret), `LISTEN_PORT="x": want a int for --listen-port`},
		{"no ports", nil, words(public, secret, "--lowest-port", "5", "--highest-port", "4"), "--lowest-port 5 is above --highest-port 4"},
		{"the listening port among the others", nil, words(public, secret, "--listen-port", "50000"), "--listen-port 50000 lies among the ports of allocations"},
		{"nobody to serve", nil, words(public), "nobody to serve: give --api-url"},
		{"two ways to serve", nil, words(public, secret, "--api-url", "wss://a"), "--api-url, --secret-file and --users-file exclude each other"},
		{"no token", nil, words(public, "--api-url", "wss://a"), "no token: give it as FIREZONE_TOKEN"},
		{"white space for a token", nil, words(public, "--api-url", "wss://a", " \t"), "no token"},
		{"a portal by another scheme", nil, words(public, "--api-url", "ftp://a", "token"), "--api-url: portal URL has the scheme \"ftp\""},
		{"too many arguments", nil, words(public, "--api-url", "wss://a", "token", "name", "x"), "want TOKEN and NAME at most, got 3"},
		{"a short secret", nil, words(public, "--secret-file", file(t, "short")), "--secret-file: a secret of fewer than 16 characters"},
		{"no such file", nil, words(public, "--secret-file", "/no/such"), "--secret-file: open /no/such"},
		{"a large secret", nil, words(public, "--secret-file", file(t, strings.Repeat("x", 5000))), "--secret-file: "},
		{"a user without password", nil, words(public, "--users-file", file(t, "# users\na:b\nname\n")), "--users-file: line 3 of "},
		{"a user twice", nil, words(public, "--users-file", file(t, "a:b\na:c\n")), "--users-file: line 2 of "},
		{"no users", nil, words(public, "--users-file", file(t, "\n# nobody\n")), "--users-file: "},
		{"a long realm", nil, words(public, "--users-file", file(t, "a:b"), "--realm", strings.Repeat("r", 200)), "--users-file, --realm: relay: realm of 200 bytes"},
		{"a negative limit", nil, words(public, secret, "--max-nonces=-1"), "--max-nonces is out of bounds"},
		{"no channels", nil, words(public, secret, "--max-channels=0"), "--max-channels is out of bounds"},
		{"negative bandwidth", nil, words(public, secret, "--max-bytes-per-second=-5"), "--max-bytes-per-second -5: want 0 or more"},
		{"a limit too high", nil, words(public, secret, "--max-channels=99999999999"), "--max-channels is out of bounds"},
		{"a network that is none", nil, words(public, secret, "--deny-peers", "192.0.2.1"), `--deny-peers "192.0.2.1": want networks`},
		{"a negative drain", nil, words(public, secret, "--drain-timeout=-1s"), "--drain-timeout and --max-partition-time: want a duration"},
		{"many workers", nil, words(public, secret, "--num-worker-threads", "5000"), "--num-worker-threads 5000: want 0 to 1024"},
		{"a long delay", nil, words(public, secret, "--wakeup-delay", "1s"), "--wakeup-delay 1s: want 0 to 10ms"},
		{"a seed that is none", []string{"RNG_SEED=x"}, words(public, secret), `--rng-seed "x": want a number`},
		{"a health address without port", nil, words(public, secret, "--health-check-addr", "127.0.0.1"), `--health-check-addr "127.0.0.1": want an IP address and a port`},
		{"one address twice", nil, words(public, secret, "--control-endpoint", "0.0.0.0:8080"), "--control-endpoint 0.0.0.0:8080 serves something else"},
		{"another mode", nil, words(public, secret, "--ebpf-attach-mode", "x"), `--ebpf-attach-mode "x": want driver or generic`},
		{"a bad interface address", nil, words(public, secret, "--ebpf-int4-addr", "x"), `--ebpf-int4-addr "x": want`},
		{"another log format", []string{"LOG_FORMAT=xml"}, words(public, secret), `--log-format "xml": want human or json`},
		{"another log level", nil, words(public, secret, "--log-level", "loud"), `--log-level: unknown level "loud"`},
		{"another filter", []string{"RUST_LOG=relay=loud"}, words(public, secret), `RUST_LOG="relay=loud": unknown level "loud"`},
		{"a flag that is none", nil, words("--fast"), "unknown flag: --fast"},
		{"neither yes nor no", []string{"TELEMETRY=perhaps"}, words(public, secret), `TELEMETRY="perhaps": want a bool for --telemetry`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := refused(t, program(t, c.env, append([]string{"firelane", "relay"}, c.args...)...), exitUsage)
			if !strings.HasPrefix(line, "firelane: "+c.want) {
				t.Errorf("got  %s\nwant firelane: %s", line, c.want)
			}
		})
	}
}

func TestDirectives(t *testing.T) {
	for text, want := range map[string]slog.Level{
		"": slog.LevelInfo, "debug": slog.LevelDebug, "warn,h2=debug": slog.LevelWarn, "h2=debug": slog.LevelInfo,
		" ERROR , x=off": slog.LevelError, "trace": slog.LevelDebug, "off": levelSilent, "info,debug": slog.LevelDebug,
	} {
		if got, targets, err := parseDirectives(text); err != nil || got != want || targets != nil {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]slog.Level{"firezone_relay": slog.LevelInfo, "warn, h2::codec-1": slog.LevelWarn} {
		_, target, _ := strings.Cut(text, ", ")
		if target == "" {
			target = text
		}
		if got, targets, err := parseDirectives(text); err != nil || got != want || len(targets) != 1 || targets[0] != target {
			t.Errorf("%q: %v, targets %q, %v, want %v", text, got, targets, err, want)
		}
	}
	for _, text := range []string{"x=loud", "x=", "debug,x=loud", "[span]", "two words"} {
		if got, _, err := parseDirectives(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
