package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/sample"
)

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = o.main(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "relay: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rows         []Row
	relays       []contender
	reps         int
	length       time.Duration
	out          string
	record, more bool
	profile      bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("relay", flag.ContinueOnError)
	rows := f.String("rows", ".", "measure the rows whose name matches this expression")
	relays := f.String("relays", "firelane,coturn,pion,bare", "relays, in the order in which they alternate")
	f.IntVar(&o.reps, "reps", 3, "repetitions")
	f.DurationVar(&o.length, "length", time.Second, "length of one measurement")
	f.StringVar(&o.out, "out", "out/bench", "folder for the report, below the module's root")
	f.BoolVar(&o.more, "more", false, "add the repetitions to those of the report that is there; with -reps 0, only write it again")
	f.BoolVar(&o.record, "record", false, "make the report bench/relay/RESULTS.md too")
	f.BoolVar(&o.profile, "profile", false, "profile each relay in each row with perf")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.reps < 0 || o.reps == 0 && !o.more || o.length < minLength {
		return nil, fmt.Errorf("-reps must be at least 1, and -length %v", minLength)
	}
	which, err := regexp.Compile(*rows)
	if err != nil {
		return nil, fmt.Errorf("-rows: %w", err)
	}
	for _, r := range allRows() {
		if which.MatchString(r.Name) {
			o.rows = append(o.rows, r)
		}
	}
	if len(o.rows) == 0 {
		return nil, fmt.Errorf("-rows %v matches no row", which)
	}
	for name := range strings.SplitSeq(*relays, ",") {
		c, err := contenderNamed(name)
		if err != nil {
			return nil, err
		}
		o.relays = append(o.relays, c)
	}
	return o, nil
}

func contenderNamed(name string) (contender, error) {
	for _, c := range contenders {
		if c.name == name {
			return c, nil
		}
	}
	return contender{}, fmt.Errorf("-relays: no relay is called %q", name)
}

// main builds, measures and reports.
func (o *options) main(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	root, err := module.Root(ctx)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(o.out) {
		o.out = filepath.Join(root, o.out)
	}
	if err := raiseDescriptors(); err != nil {
		return err
	}
	bin := filepath.Join(o.out, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	var relays []built
	for _, c := range o.relays {
		fmt.Fprintf(os.Stderr, "build %s\n", c.name)
		b, err := c.build(ctx, root, bin)
		if err != nil {
			return err
		}
		relays = append(relays, b)
	}
	r, err := o.begin(relays)
	if err != nil {
		return err
	}
	if err := o.run(ctx, relays, r); err != nil {
		return err
	}
	if err := o.write(r, root); err != nil {
		return err
	}
	if n := len(r.failures()); n > 0 {
		return fmt.Errorf("%d of %d measurements failed; the report says why", n, len(r.Samples))
	}
	return nil
}

// begin is the report to which the run adds its samples.
func (o *options) begin(relays []built) (*Report, error) {
	r := &Report{}
	if o.more {
		var err error
		if *r, err = loadReport(o.json()); err != nil {
			return nil, err
		}
	}
	h := sample.ThisHost()
	r.Date, r.CPU, r.Kernel, r.Version, r.Cores, r.Length = time.Now(), h.CPU, h.Kernel, h.Go, h.Cores, o.length
	r.Relays = nil
	for _, b := range relays {
		r.Relays = append(r.Relays, Named{Name: b.name, What: b.what, Bound: b.bound})
	}
	return r, nil
}

// run measures every row with every relay in turn, as often as wanted.
func (o *options) run(ctx context.Context, relays []built, r *Report) (err error) {
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	k := knobs{length: o.length, warmUp: warmUp}
	if o.profile {
		k.profile = profiler(o.out)
	}
	for rep := range o.reps {
		for _, row := range o.rows {
			for _, b := range relays {
				if !b.measures(row) {
					continue
				}
				m, err := s.measure(ctx, b, row, k)
				if ctx.Err() != nil {
					return errors.New("interrupted; everything is cleaned up and no report written")
				}
				if err != nil {
					m.Error = err.Error()
				}
				fmt.Fprintf(os.Stderr, "%d/%d %s\n", rep+1, o.reps, m.line())
				r.Samples = append(r.Samples, m)
			}
		}
	}
	return nil
}

// line is a sample for those who watch.
func (s *Sample) line() string {
	if s.Error != "" {
		return fmt.Sprintf("%-60s %-9s FAILED: %s", s.Row.Name, s.Relay, s.Error)
	}
	if s.Row.Crowd > 0 {
		return fmt.Sprintf("%-60s %-9s %.0f bytes each", s.Row.Name, s.Relay, s.PerAllocation)
	}
	return fmt.Sprintf("%-60s %-9s %6.2f s/GB %8.0f/s lost %5.2f%% late %.0f waits %d", s.Row.Name, s.Relay,
		s.cpuPerGB(), s.perSecond(), s.lost(), s.late(), s.Usage.Switches)
}

// write leaves the report where it was wanted.
func (o *options) write(r *Report, root string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	text := []byte(r.markdown())
	err = errors.Join(os.WriteFile(o.json(), b, 0o644), os.WriteFile(filepath.Join(o.out, "relay.md"), text, 0o644))
	if o.record {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, "bench/relay/RESULTS.md"), text, 0o644))
	}
	fmt.Fprintf(os.Stderr, "report: %s\n", filepath.Join(o.out, "relay.md"))
	return err
}

func (o *options) json() string { return filepath.Join(o.out, "relay.json") }

// raiseDescriptors gives relays room for the sockets of a crowd, as far as permitted; they inherit
// the limit.
func raiseDescriptors() error {
	var have syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &have); err != nil {
		return err
	}
	want := syscall.Rlimit{Cur: descriptors, Max: max(descriptors, have.Max)}
	if syscall.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		return nil
	}
	want.Cur, want.Max = have.Max, have.Max
	if err := syscall.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("raise the limit on descriptors: %w", err)
	}
	return nil
}

const (
	minLength = 100 * time.Millisecond
	warmUp    = 200 * time.Millisecond
	// descriptors is more than three for each allocation of a crowd.
	descriptors = 1 << 16
)
