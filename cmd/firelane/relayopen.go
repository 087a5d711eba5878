package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/relay"
)

// endpoint is a listening HTTP server to be.
type endpoint struct {
	listener net.Listener
	handler  http.Handler
}

// openRelay binds everything, so that a machine that refuses says so at once.
func openRelay(cfg relayConfig) (*relayService, error) {
	log, level := newRelayLog(os.Stderr, cfg.json, cfg.level)
	s := &relayService{log: log, drainTimeout: cfg.drainTimeout}
	if err := s.open(&cfg, level); err != nil {
		s.closeEndpoints()
		return nil, err
	}
	return s, nil
}

func (s *relayService) open(cfg *relayConfig, level *slog.LevelVar) (err error) {
	for _, flag := range cfg.ignored {
		s.log.Warn("option has no effect", "option", flag)
	}
	if cfg.rngSeed != "" {
		s.log.Warn("ports and nonces can be foretold: --rng-seed is for tests")
	}
	if err := s.openEndpoints(cfg, level); err != nil {
		return err
	}
	if cfg.portal.API != "" {
		cfg.portal.Log = s.log
		if s.portal, err = relay.NewPortal(cfg.portal); err != nil {
			return err
		}
	}
	cfg.settings.Log = s.log
	if s.relay, err = relay.Listen(cfg.settings); err != nil {
		return explainRelay(cfg, err)
	}
	return nil
}

func (s *relayService) openEndpoints(cfg *relayConfig, level *slog.LevelVar) error {
	metrics, probes := observe.Handler(s.source), observe.Probes(s.ready)
	for _, e := range []struct {
		addr    string
		handler http.Handler
	}{
		{cfg.health, probes}, {cfg.metrics, metrics}, {cfg.control, logFilter(level)},
	} {
		switch {
		case e.addr == "", e.addr == cfg.health && e.addr == cfg.metrics && len(s.endpoints) > 0:
			continue
		case e.addr == cfg.metrics && e.addr == cfg.health:
			mux := http.NewServeMux()
			mux.Handle("/metrics", metrics)
			mux.Handle("/", probes)
			e.handler = mux
		}
		l, err := net.Listen("tcp", e.addr)
		if err != nil {
			return explainEndpoint(e.addr, err)
		}
		s.endpoints = append(s.endpoints, endpoint{l, e.handler})
	}
	return nil
}

func (s *relayService) closeEndpoints() {
	for _, e := range s.endpoints {
		_ = e.listener.Close()
	}
}

// explainEndpoint says what to do about an address that cannot be bound.
func explainEndpoint(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("TCP %s is in use: choose others by --health-check-addr, --metrics, --control-endpoint, or end the program that has it", addr)
	}
	return err
}

// explainRelay says what to do about a port that cannot be bound.
func explainRelay(cfg *relayConfig, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("UDP port %d is in use: end the program that has it, or choose another by --listen-port", cfg.listenPort)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this host does not have the address of --bind-ip4-addr or --bind-ip6-addr: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to bind UDP port %d: run as root, or choose one above 1023 by --listen-port", cfg.listenPort)
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("this host has no IPv6 or no IPv4: leave out the public address of that family, or enable it (IPv6 is off with ipv6.disable=1 on the kernel's command line): %w", err)
	}
	return err
}
