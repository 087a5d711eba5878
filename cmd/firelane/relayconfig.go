package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/protocol/signal"
	"github.com/firelane/firelane/relay"
)

// relayConfig is all of the command line and the environment, checked.
type relayConfig struct {
	relayFlags
	settings relay.Settings
	// portal is what to join; its API is empty in a relay without one.
	portal relay.PortalConfig
	level  slog.Level
	json   bool
	// ignored are options that were given and have no effect.
	ignored []string
}

// Variables without a flag.
const (
	envRelayToken  = "FIREZONE_TOKEN"
	envRelayName   = "FIREZONE_NAME"
	envFilter      = "RUST_LOG"
	envCredentials = "CREDENTIALS_DIRECTORY" // systemd's
)

// parseRelay returns a configuration that can be used, or says what is wrong with f, the
// arguments TOKEN and NAME, or the environment.
func parseRelay(f relayFlags, args []string, env func(string) (string, bool)) (relayConfig, error) {
	c := relayConfig{relayFlags: f}
	if c.token, _ = env(envRelayToken); len(args) > 0 {
		c.token = args[0]
	}
	if c.name, _ = env(envRelayName); len(args) > 1 {
		c.name = args[1]
	}
	filter, _ := env(envFilter)
	for _, step := range []func() error{
		c.parseAddresses, c.parsePorts, c.parseLimits, c.parseWorkers, c.parseEndpoints, c.parseIgnored,
		func() error { return c.parseLog(filter) },
		func() error { return c.parseMode(env) },
	} {
		if err := step(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *relayConfig) parseAddresses() (err error) {
	s := &c.settings
	for _, a := range []struct {
		flag, text string
		v6         bool
		to         *netip.Addr
	}{
		{"public-ip4-addr", c.public4, false, &s.Server.Public4},
		{"public-ip6-addr", c.public6, true, &s.Server.Public6},
		{"bind-ip4-addr", c.bind4, false, &s.Bind4},
		{"bind-ip6-addr", c.bind6, true, &s.Bind6},
		{"ebpf-int4-addr", c.ebpf4, false, nil},
		{"ebpf-int6-addr", c.ebpf6, true, nil},
	} {
		addr, err := parseAddr(a.flag, a.text, a.v6)
		if err != nil {
			return err
		}
		if a.to != nil {
			*a.to = addr
		}
	}
	switch {
	case !s.Server.Public4.IsValid() && !s.Server.Public6.IsValid():
		return errors.New("no public address: give --public-ip4-addr, --public-ip6-addr or both")
	case s.Server.Public4.IsUnspecified() || s.Server.Public6.IsUnspecified():
		return errors.New("a public address is 0.0.0.0 or ::, which no client can reach")
	}
	// Bound to all addresses is what the zero Addr means.
	if s.Bind4.IsUnspecified() {
		s.Bind4 = netip.Addr{}
	}
	if s.Bind6.IsUnspecified() {
		s.Bind6 = netip.Addr{}
	}
	return nil
}

// parseAddr reads an address of one family; empty text is the zero Addr.
func parseAddr(flag, text string, v6 bool) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	switch {
	case v6 && (err != nil || !a.Is6() || a.Is4In6() || a.Zone() != ""):
		return a, fmt.Errorf("--%s %q: want an IPv6 address, as in 2001:db8::1", flag, text)
	case !v6 && (err != nil || !a.Is4()):
		return a, fmt.Errorf("--%s %q: want an IPv4 address, as in 192.0.2.1", flag, text)
	}
	return a, nil
}

func (c *relayConfig) parsePorts() error {
	for _, p := range []struct {
		flag string
		port int
	}{{"listen-port", c.listenPort}, {"lowest-port", c.lowestPort}, {"highest-port", c.highestPort}} {
		if p.port < 1 || p.port > 65535 {
			return fmt.Errorf("--%s %d: want 1 to 65535", p.flag, p.port)
		}
	}
	if c.lowestPort > c.highestPort {
		return fmt.Errorf("--lowest-port %d is above --highest-port %d", c.lowestPort, c.highestPort)
	}
	if c.lowestPort <= c.listenPort && c.listenPort <= c.highestPort {
		return fmt.Errorf("--listen-port %d lies among the ports of allocations, %d to %d", c.listenPort, c.lowestPort, c.highestPort)
	}
	c.settings.Port = uint16(c.listenPort)
	c.settings.Server.LowestPort, c.settings.Server.HighestPort = uint16(c.lowestPort), uint16(c.highestPort)
	return nil
}

// maxRelayLimit bounds every --max-…: more is a typing error, and the tables behind are maps of
// Go, which would come to hundreds of gigabytes.
const maxRelayLimit = 1 << 30

func (c *relayConfig) parseLimits() error {
	l := &c.limits
	for _, b := range []struct {
		flag         string
		value, least int64
	}{
		{"max-allocations", int64(l.Allocations), 0},
		{"max-allocations-per-source", int64(l.AllocationsPerSource), 0},
		{"max-channels", int64(l.Channels), 1},
		{"max-channels-per-allocation", int64(l.ChannelsPerAllocation), 1},
		{"max-bindings-per-second", int64(l.BindingsPerSecond), 0},
		{"max-refusals-per-second", int64(l.RefusalsPerSecond), 0},
		{"max-nonces", int64(l.Nonces), 1},
	} {
		if b.value < b.least || b.value > maxRelayLimit {
			return fmt.Errorf("--%s is out of bounds: see --help", b.flag)
		}
	}
	if l.BytesPerSecond < 0 {
		return fmt.Errorf("--max-bytes-per-second %d: want 0 or more", l.BytesPerSecond)
	}
	if c.drainTimeout < 0 || c.maxPartition < 0 {
		return errors.New("--drain-timeout and --max-partition-time: want a duration, as in 30s or 24h")
	}
	for _, text := range c.denyPeers {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("--deny-peers %q: want networks, as in 192.0.2.0/24,2001:db8::/32", text)
		}
		c.peers.Deny = append(c.peers.Deny, p.Masked())
	}
	c.settings.Server.Limits, c.settings.Server.Peers = c.limits, c.peers
	return nil
}

// maxRelayWorkers bounds --num-worker-threads: more than any machine has processors.
const maxRelayWorkers = 1024

func (c *relayConfig) parseWorkers() error {
	if c.workers < 0 || c.workers > maxRelayWorkers {
		return fmt.Errorf("--num-worker-threads %d: want 0 to %d", c.workers, maxRelayWorkers)
	}
	if c.wakeupDelay < 0 || c.wakeupDelay > maxWakeupDelay {
		return fmt.Errorf("--wakeup-delay %v: want 0 to %v", c.wakeupDelay, maxWakeupDelay)
	}
	if c.rngSeed != "" {
		n, err := strconv.ParseUint(c.rngSeed, 10, 64)
		if err != nil {
			return fmt.Errorf("--rng-seed %q: want a number", c.rngSeed)
		}
		binary.LittleEndian.PutUint64(c.settings.Server.Seed[:], n)
		c.settings.Server.Seed[31] = 1 // no seed at all is another thing
	}
	s := &c.settings
	s.Workers, s.WakeupDelay, s.Pin = c.workers, c.wakeupDelay, c.pin
	s.GSO, s.GRO, s.RaiseLimits = !c.noGSO, !c.noGRO, !c.noRaiseLimits
	return nil
}

func (c *relayConfig) parseEndpoints() error {
	for _, e := range []struct{ flag, addr string }{
		{"health-check-addr", c.health}, {"metrics", c.metrics}, {"control-endpoint", c.control},
	} {
		if e.addr == "" {
			continue
		}
		if err := observe.CheckAddr(e.addr); err != nil {
			return fmt.Errorf("--%s %q: %w", e.flag, e.addr, err)
		}
	}
	if c.control != "" && (c.control == c.health || c.control == c.metrics) {
		return fmt.Errorf("--control-endpoint %s serves something else already", c.control)
	}
	return nil
}

// parseIgnored notes which options are given that do nothing, and refuses what makes no sense even
// so: a set-up with a mistake in it should be told.
func (c *relayConfig) parseIgnored() error {
	if c.ebpfMode != "driver" && c.ebpfMode != "generic" {
		return fmt.Errorf("--ebpf-attach-mode %q: want driver or generic", c.ebpfMode)
	}
	for _, o := range []struct {
		flag  string
		given bool
	}{
		{"ebpf-offloading", c.ebpfInterface != ""}, {"ebpf-attach-mode", c.ebpfMode != "driver"},
		{"ebpf-int4-addr", c.ebpf4 != ""}, {"ebpf-int6-addr", c.ebpf6 != ""},
		{"otlp-grpc-endpoint", c.otlpEndpoint != ""}, {"telemetry", c.telemetry},
	} {
		if o.given {
			c.ignored = append(c.ignored, "--"+o.flag)
		}
	}
	return nil
}

// parseMode decides whom the relay serves: those that a portal sends, or those that know a secret
// or a password.
func (c *relayConfig) parseMode(env func(string) (string, bool)) (err error) {
	modes := 0
	for _, given := range []bool{c.apiURL != "", c.secretFile != "", c.usersFile != ""} {
		if given {
			modes++
		}
	}
	switch {
	case modes == 0:
		return errors.New("nobody to serve: give --api-url and a token, or, without a portal, --secret-file or --users-file")
	case modes > 1:
		return errors.New("--api-url, --secret-file and --users-file exclude each other")
	case c.secretFile != "":
		c.settings.Server.ManyPerUser = true // many devices may have been given one name
		c.settings.Server.Credentials, err = readSecret(c.secretFile)
		return err
	case c.usersFile != "":
		c.settings.Server.ManyPerUser = true
		c.settings.Server.Credentials, err = readUsers(c.usersFile, c.realm)
		return err
	}
	return c.parsePortal(env)
}

func (c *relayConfig) parsePortal(env func(string) (string, bool)) (err error) {
	if _, err := signal.ParseTarget(c.apiURL, signal.RoleRelay, signal.V2); err != nil {
		return fmt.Errorf("--api-url: %w, as in wss://api.example.com", err)
	}
	if c.token == "" {
		if dir, _ := env(envCredentials); dir != "" {
			if c.token, err = readSmall(filepath.Join(dir, envRelayToken)); err != nil {
				return fmt.Errorf("%s: %w", envRelayToken, err)
			}
		}
	}
	token := signal.CleanToken(c.token)
	if c.token = ""; token.IsZero() {
		return fmt.Errorf("no token: give it as %s or as the first argument", envRelayToken)
	}
	stamp := relay.NewStampSecret()
	if c.settings.Server.Credentials, err = relay.SharedSecret(stamp.Reveal()); err != nil {
		return err
	}
	c.portal = relay.PortalConfig{
		API: c.apiURL, Token: token, Name: c.name, Stamp: stamp, MaxPartition: c.maxPartition, Agent: relayAgent(),
		Public4: c.settings.Server.Public4, Public6: c.settings.Server.Public6, Port: c.settings.Port,
	}
	return nil
}
