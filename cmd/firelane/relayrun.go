package main

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/relay"
)

// relayService is a relay with what is around it: the way to the portal and the HTTP endpoints.
type relayService struct {
	// Set by openRelay.
	log          *slog.Logger
	relay        *relay.Relay
	portal       *relay.Portal // nil without a portal
	endpoints    []endpoint
	drainTimeout time.Duration

	draining atomic.Bool
	failed   chan error
	parts    sync.WaitGroup
	last     [4]uint64 // what the last line of statistics said
}

const (
	// stopGrace is how long the parts may take to end once they are told to: the process is gone
	// within a second, whatever hangs.
	stopGrace = 800 * time.Millisecond
	// statisticsInterval is how often a line of statistics is logged, if there is news.
	statisticsInterval = 10 * time.Second
)

// run carries data until a signal, and returns nil then, or until a part fails.
func (s *relayService) run(signals <-chan os.Signal) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	away, leave := context.WithCancel(ctx)
	defer leave()
	s.failed = make(chan error, 2+len(s.endpoints))
	s.start(func() error { return s.relay.Run(ctx) })
	for _, e := range s.endpoints {
		s.start(func() error { return observe.ServeHandler(ctx, e.listener, e.handler) })
	}
	if s.portal != nil {
		s.start(func() error { return s.portal.Run(away) })
	}
	err := s.follow(signals, leave)
	s.draining.Store(true)
	stop()
	ended := make(chan struct{})
	go func() { s.parts.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(stopGrace):
		s.log.Warn("a part of the relay does not end in time")
	}
	return err
}

// start runs a part, whose error ends the relay.
func (s *relayService) start(part func() error) {
	s.parts.Go(func() {
		if err := part(); err != nil {
			s.failed <- err
		}
	})
}

// follow waits for the end: for a signal and what comes of it, or for a failure.
func (s *relayService) follow(signals <-chan os.Signal, leave func()) error {
	tick := time.NewTicker(statisticsInterval)
	defer tick.Stop()
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGUSR1 {
				return s.drain(sig, signals, leave)
			}
			s.report()
		case err := <-s.failed:
			return err
		case <-tick.C:
			s.statistics()
		}
	}
}

// drain takes no new clients and waits for the old ones to leave, for a bounded time or until
// another signal.
func (s *relayService) drain(sig os.Signal, signals <-chan os.Signal, leave func()) error {
	s.log.Info("relay drains", "signal", sig.String(), "timeout", s.drainTimeout,
		"allocations", s.relay.Counters().ActiveAllocations.Load())
	s.draining.Store(true)
	leave()
	s.relay.Retire()
	ctx, cancel := context.WithTimeout(context.Background(), s.drainTimeout)
	defer cancel()
	s.parts.Go(func() {
		s.relay.WaitEmpty(ctx)
		cancel()
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-signals:
			if sig != syscall.SIGUSR1 {
				return nil
			}
			s.report()
		case err := <-s.failed:
			return err
		}
	}
}

// ready says whether clients should be sent here.
func (s *relayService) ready() (ready bool, text string) {
	switch {
	case s.draining.Load():
		return false, "draining"
	case s.portal != nil && !s.portal.Joined():
		return false, "not joined to the portal"
	}
	return true, revision()
}

func (s *relayService) source() (all []observe.Metric, alive bool) {
	all = s.relay.Metrics()
	if s.portal != nil {
		all = append(all, s.portal.Metrics()...)
	}
	return all, true
}

// statistics logs what the relay carries, if that has changed.
func (s *relayService) statistics() {
	c, t := s.relay.Counters(), s.relay.Traffic()
	now := [4]uint64{uint64(c.ActiveAllocations.Load()), uint64(c.BoundChannels.Load()),
		t.Measures[relay.ToPeersBytes], t.Measures[relay.ToClientsBytes]}
	if now == s.last {
		return
	}
	s.log.Info("statistics", "allocations", now[0], "channels", now[1],
		"bytes_to_peers", now[2], "bytes_to_clients", now[3],
		"datagrams_to_peers", t.Measures[relay.ToPeers], "datagrams_to_clients", t.Measures[relay.ToClients])
	s.last = now
}

// report logs the counters that are not zero.
func (s *relayService) report() {
	var args []any
	all, _ := s.source()
	for _, m := range all {
		key := m.Name
		for _, p := range append(m.More, observe.Pair{Name: m.Label, Value: m.LabelValue}) {
			if p.Value != "" {
				key += "." + p.Value
			}
		}
		if m.Value > 0 {
			args = append(args, key, m.Value)
		}
	}
	s.log.Info("counters", args...)
}
