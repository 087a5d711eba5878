// Command portal loads a portal with clients and gateways, each with its own websocket, and prints
// what that costs: memory for each idle connection, the time of a join storm after a restart, and how
// long an authorization takes from the client's request to its answer, the durable write included.
//
//	go run ./bench/portal -program ./firelane
//
// The portal is a process of its own; clients, gateways and a relay are in this one, so on a small
// machine both compete for the cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

// The bounds that a run must keep; see the limits table in README.md.
const (
	maxPerConnection = 64 << 10
	maxRoundTrip     = 20 * time.Millisecond
)

func main() {
	var l load
	flag.StringVar(&l.program, "program", "", "the firelane program (required)")
	flag.IntVar(&l.clients, "clients", 5000, "how many clients")
	flag.IntVar(&l.gateways, "gateways", 50, "how many gateways")
	flag.IntVar(&l.rate, "rate", 200, "authorizations per second")
	flag.DurationVar(&l.duration, "duration", 15*time.Second, "how long to ask for authorizations")
	flag.DurationVar(&l.patience, "patience", 2*time.Minute, "how long a storm may take")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := l.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "portal load:", err)
		os.Exit(1)
	}
}

// measure has clients ask for authorizations, and prints how long that takes, what of it the durable
// write is, and what the disk itself takes just before and after.
func (l *load) measure(ctx context.Context) (times []time.Duration, failed int, err error) {
	idle, err := l.bare(ctx, l.rate, bareTime)
	if err != nil {
		return nil, 0, err
	}
	before, err := l.scrape()
	if err != nil {
		return nil, 0, err
	}
	var beside []time.Duration
	besideDone := make(chan error, 1)
	go func() {
		var err error
		beside, err = l.bare(ctx, besideRate, l.duration)
		besideDone <- err
	}()
	times, failed = l.ask(ctx)
	if err := <-besideDone; err != nil {
		return nil, 0, err
	}
	after, err := l.scrape()
	if err != nil {
		return nil, 0, err
	}
	more, err := l.bare(ctx, l.rate, bareTime)
	if err != nil {
		return nil, 0, err
	}
	fmt.Printf("authorization        %d at %d/s: p50 %v, p99 %v, max %v, %d failed\n", len(times), l.rate,
		percentile(times, 50), percentile(times, 99), percentile(times, 100), failed)
	printShare(before, after)
	printBare(fmt.Sprintf("meanwhile, at %d/s", besideRate), beside)
	printBare(fmt.Sprintf("before and after, at %d/s", l.rate), slices.Sorted(slices.Values(append(idle, more...))))
	return times, failed, nil
}

// run does everything and prints the figures.
func (l *load) run(ctx context.Context) error {
	if l.program == "" || l.clients < l.rate {
		return errors.New("want -program, and at least as many clients as authorizations in a second")
	}
	dir, err := os.MkdirTemp("", "portal-load-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l.dir, l.policy = dir, filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(l.policy, []byte(policy), 0o600); err != nil {
		return err
	}
	if err := l.makeTokens(ctx); err != nil {
		return fmt.Errorf("make tokens: %w", err)
	}
	if err := l.startPortal(ctx); err != nil {
		return err
	}
	defer l.stopPortal()
	defer l.close()
	empty := l.resident()
	took, err := l.connect(ctx)
	if err != nil {
		return err
	}
	per := (l.resident() - empty) / (l.clients + l.gateways + 1)
	fmt.Printf("join                 %d clients, %d gateways in %v\n", l.clients, l.gateways, took.Round(time.Millisecond))
	fmt.Printf("idle connection      %d KiB (resident set %d MiB, empty %d MiB)\n", per>>10, l.resident()>>20, empty>>20)
	times, failed, err := l.measure(ctx)
	if err != nil {
		return err
	}
	l.stopPortal()
	if err := l.startPortal(ctx); err != nil {
		return err
	}
	storm, err := l.rejoin(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("join after a restart %v until all were back, %d gave up\n", storm.Round(time.Millisecond), l.fatal.Load())
	switch {
	case per > maxPerConnection:
		return fmt.Errorf("an idle connection takes %d bytes, %d are allowed", per, maxPerConnection)
	case failed > 0 || l.fatal.Load() > 0:
		return fmt.Errorf("%d authorizations failed, %d devices gave up", failed, l.fatal.Load())
	case percentile(times, 99) > maxRoundTrip:
		return fmt.Errorf("p99 of an authorization is %v, %v is allowed", percentile(times, 99), maxRoundTrip)
	}
	return nil
}
