// Command portal loads a portal with clients and gateways, each with its own websocket, and prints
// what that costs: memory for each idle connection, the time of a join storm after a restart, and how
// long an authorization takes from the client's request to its answer, the durable write included.
//
//	go run ./bench/portal -program ./firelane
//	go run ./bench/portal -program ./firelane -tls
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
	var o options
	flag.StringVar(&o.program, "program", "", "the firelane program (required)")
	flag.IntVar(&o.clients, "clients", 5000, "how many clients")
	flag.IntVar(&o.gateways, "gateways", 50, "how many gateways")
	flag.IntVar(&o.rate, "rate", 200, "authorizations per second")
	flag.IntVar(&o.beside, "beside", 0, "bare writes per second that are timed while the portal writes; they slow it down")
	flag.DurationVar(&o.duration, "duration", 15*time.Second, "how long to ask for authorizations")
	flag.DurationVar(&o.patience, "patience", 2*time.Minute, "how long a storm may take")
	flag.BoolVar(&o.tls, "tls", false, "serve with TLS, with a certificate made for this run")
	flag.DurationVar(&o.rest, "rest", 35*time.Second, "how long devices do nothing but beat before idle connections are measured again")
	runs := flag.Int("runs", 1, "how often to do all that")
	record := flag.Bool("record", false, "write what is printed to bench/portal/RESULTS.md too, from the module's root")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var all []figures
	var text string
	var err error
	for i := range *runs {
		l := &load{options: o, text: text}
		if *runs > 1 {
			l.printf("run %d of %d\n", i+1, *runs)
		}
		f, e := l.run(ctx)
		text, err = l.text, errors.Join(err, e)
		if ctx.Err() != nil || f.clients == 0 {
			break
		}
		all = append(all, f)
	}
	if *record && len(all) > 0 {
		err = errors.Join(err, os.WriteFile(results, []byte(report(o, all, text)), 0o644))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "portal load:", err)
		os.Exit(1)
	}
}

// printf prints and remembers what was printed.
func (l *load) printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Print(line)
	l.text += line
}

// measure has clients ask for authorizations, and prints how long that takes, what of it the durable
// write is, and what the disk itself takes just before and after.
func (l *load) measure(ctx context.Context, f *figures) error {
	idle, err := l.bare(ctx, l.rate, bareTime)
	if err != nil {
		return err
	}
	before, err := l.scrape()
	if err != nil {
		return err
	}
	var beside []time.Duration
	besideDone := make(chan error, 1)
	go func() {
		var err error
		if l.beside > 0 {
			beside, err = l.bare(ctx, l.beside, l.duration)
		}
		besideDone <- err
	}()
	times, failed := l.ask(ctx)
	if err := <-besideDone; err != nil {
		return err
	}
	after, err := l.scrape()
	if err != nil {
		return err
	}
	more, err := l.bare(ctx, l.rate, bareTime)
	if err != nil {
		return err
	}
	l.printf("authorization        %d at %d/s: p50 %v, p99 %v, max %v, %d failed\n", len(times), l.rate,
		percentile(times, 50), percentile(times, 99), percentile(times, 100), failed)
	f.p50, f.p99, f.failed = percentile(times, 50), percentile(times, 99), failed
	f.write99 = l.printShare(before, after)
	if l.beside > 0 {
		l.printBare(fmt.Sprintf("meanwhile, at %d/s", l.beside), beside)
	}
	bare := slices.Sorted(slices.Values(append(idle, more...)))
	l.printBare(fmt.Sprintf("before and after, at %d/s", l.rate), bare)
	f.bare99 = percentile(bare, 99)
	return nil
}

// idle returns and prints what an idle connection takes now.
func (l *load) idle(when string, empty int) int {
	resident := l.resident()
	per := (resident - empty) / (l.clients + l.gateways + 1)
	l.printf("idle connection      %d KiB %s (resident set %d MiB, empty %d MiB)\n", per>>10, when, resident>>20, empty>>20)
	return per
}

// run does everything once, prints the figures and returns them, with an error if one is out of
// bounds. Without clients there were no figures.
func (l *load) run(ctx context.Context) (f figures, err error) {
	if l.program == "" || l.clients < l.rate {
		return f, errors.New("want -program, and at least as many clients as authorizations in a second")
	}
	dir, err := os.MkdirTemp("", "portal-load-*")
	if err != nil {
		return f, err
	}
	defer os.RemoveAll(dir)
	l.dir, l.policy = dir, filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(l.policy, []byte(policy), 0o600); err != nil {
		return f, err
	}
	if err := l.makeTokens(ctx); err != nil {
		return f, fmt.Errorf("make tokens: %w", err)
	}
	if l.tls {
		if err := l.makeCertificate(); err != nil {
			return f, fmt.Errorf("make certificate: %w", err)
		}
	}
	if err := l.startPortal(ctx); err != nil {
		return f, err
	}
	defer l.stopPortal()
	defer l.close()
	empty := l.resident()
	took, err := l.connect(ctx)
	if err != nil {
		return f, err
	}
	l.printf("join                 %d clients, %d gateways in %v\n", l.clients, l.gateways, took.Round(time.Millisecond))
	f.perConnection = l.idle("at first", empty)
	select {
	case <-time.After(l.rest):
	case <-ctx.Done():
		return f, ctx.Err()
	}
	f.perRested = l.idle(fmt.Sprintf("after %v", l.rest), empty)
	if err := l.measure(ctx, &f); err != nil {
		return f, err
	}
	l.stopPortal()
	if err := l.startPortal(ctx); err != nil {
		return f, err
	}
	storm, err := l.rejoin(ctx)
	if err != nil {
		return f, err
	}
	l.printf("join after a restart %v until all were back, %d gave up\n", storm.Round(time.Millisecond), l.fatal.Load())
	f.clients, f.join, f.storm, f.gaveUp = l.clients, took, storm, int(l.fatal.Load())
	switch per := max(f.perConnection, f.perRested); {
	case per > maxPerConnection:
		return f, fmt.Errorf("an idle connection takes %d bytes, %d are allowed", per, maxPerConnection)
	case f.failed > 0 || f.gaveUp > 0:
		return f, fmt.Errorf("%d authorizations failed, %d devices gave up", f.failed, f.gaveUp)
	case f.p99 > maxRoundTrip:
		return f, fmt.Errorf("p99 of an authorization is %v, %v is allowed", f.p99, maxRoundTrip)
	}
	return f, nil
}
