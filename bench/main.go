package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/firelane/firelane/bench/load"
	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/sample"
	"github.com/firelane/firelane/bench/topology"
)

func main() {
	if code, mine := load.Main(os.Args[1:]); mine {
		os.Exit(code)
	}
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
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rows                 *regexp.Regexp
	gateways             []contender
	tcpClient, udpClient contender
	reps, seconds, burst int
	mtus                 []int
	out, baseline        string
	record, profile      bool
	memory, demo         bool
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := f.String("rows", ".", "measure the rows whose name matches this expression")
	gateways := f.String("gateways", "firelane,wireguard-go,tailscale", "gateways, in the order they alternate")
	tcpClient := f.String("tcp-client", wireguardGo, "the tunnel's other end in TCP and ping rows")
	udpClient := f.String("udp-client", firelane, "the tunnel's other end in UDP rows")
	mtus := f.String("mtu", "1280,1420", "inner MTUs")
	f.IntVar(&o.reps, "reps", 5, "repetitions")
	f.IntVar(&o.seconds, "seconds", 3, "length of one measurement in seconds")
	f.IntVar(&o.burst, "burst", 64, "packets per system call of a saturating UDP sender")
	f.StringVar(&o.out, "out", "out/bench", "folder for the report, below the module's root")
	f.StringVar(&o.baseline, "baseline", "bench/results.json", "recorded run to compare with; none if the file does not exist")
	f.BoolVar(&o.record, "record", false, "make this the recorded run: bench/RESULTS.md and bench/results.json")
	f.BoolVar(&o.profile, "profile", false, "profile the gateway in each row with perf")
	f.BoolVar(&o.memory, "memory", true, "run the in-memory benchmarks too")
	f.BoolVar(&o.demo, "demo", false, "only show the gateway at work beside wireguard-go, in about a minute")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.reps < 1 || o.seconds < 1 {
		return nil, errors.New("-reps and -seconds must be at least 1")
	}
	var err error
	if o.rows, err = regexp.Compile(*rows); err != nil {
		return nil, fmt.Errorf("-rows: %w", err)
	}
	if o.tcpClient, err = contenderNamed(*tcpClient); err != nil {
		return nil, fmt.Errorf("-tcp-client: %w", err)
	}
	if o.udpClient, err = contenderNamed(*udpClient); err != nil {
		return nil, fmt.Errorf("-udp-client: %w", err)
	}
	for name := range strings.SplitSeq(*gateways, ",") {
		c, err := contenderNamed(name)
		if err != nil {
			return nil, fmt.Errorf("-gateways: %w", err)
		}
		o.gateways = append(o.gateways, c)
	}
	for s := range strings.SplitSeq(*mtus, ",") {
		mtu, err := strconv.Atoi(s)
		if err != nil || mtu < 1280 || mtu > 1420 {
			return nil, fmt.Errorf("-mtu: %q is not between 1280 and 1420", s)
		}
		o.mtus = append(o.mtus, mtu)
	}
	return o, o.recordable()
}

// recordable refuses to record less than a whole run: later runs could not be compared with it.
func (o *options) recordable() error {
	every := regexp.MustCompile("")
	whole := len(matching(o.rows)) == len(allRows()) && len(legs(o.rows)) == len(legs(every)) && len(o.gateways) == len(contenders) && len(o.mtus) == 2 && o.reps >= 5 && o.memory
	if o.record && !whole {
		return errors.New("-record needs all rows, gateways, MTUs and in-memory benchmarks, and at least 5 repetitions")
	}
	return nil
}

// main builds, measures and reports. The report is written also when rows have failed.
func (o *options) main(ctx context.Context) error {
	if err := prerequisites(); err != nil {
		return err
	}
	root, err := module.Root(ctx)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(o.out) {
		o.out = filepath.Join(root, o.out)
	}
	if o.demo {
		o.gateways, o.udpClient = demoGateways(), o.tcpClient
	}
	built, err := o.build(ctx, root)
	if err != nil {
		return err
	}
	if o.demo {
		return o.showDemo(ctx, built)
	}
	r, err := o.describe(ctx, root)
	if err != nil {
		return err
	}
	p := o.plan(built)
	r.Translators = translators(ctx, p.stations)
	if len(p.rows)+len(p.stations) == 0 {
		return fmt.Errorf("-rows %v matches no row", o.rows)
	}
	if o.memory {
		fmt.Fprintln(os.Stderr, "in-memory benchmarks")
		if r.InMemory, err = inMemory(ctx, root); err != nil {
			r.InMemoryError = err.Error()
		}
	}
	r.Samples = p.run(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted; everything is cleaned up and no report written")
	}
	if err := o.write(r, root); err != nil {
		return err
	}
	if n := len(r.Failures()); n > 0 {
		return fmt.Errorf("%d of %d measurements failed; the report says why", n, len(r.Samples))
	}
	if r.InMemoryError != "" {
		return fmt.Errorf("in-memory benchmarks: %s", r.InMemoryError)
	}
	return nil
}

// build compiles every gateway and client once.
func (o *options) build(ctx context.Context, root string) (map[string]topology.Command, error) {
	dir := filepath.Join(o.out, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	built := map[string]topology.Command{}
	needed := append([]contender{o.tcpClient, o.udpClient, singlesClient}, o.gateways...)
	if o.stationed() {
		needed = append(needed, contenders...)
	}
	for _, c := range needed {
		if _, ok := built[c.name]; ok {
			continue
		}
		fmt.Fprintf(os.Stderr, "build %s\n", c.name)
		cmd, err := c.build(ctx, root, dir)
		if err != nil {
			return nil, err
		}
		built[c.name] = cmd
	}
	return built, nil
}

// stationed reports whether rows through policy and translation are measured: they are firelane's.
func (o *options) stationed() bool {
	return !o.demo && len(legs(o.rows)) > 0 && slices.ContainsFunc(o.gateways, func(c contender) bool { return c.name == firelane })
}

func (o *options) plan(built map[string]topology.Command) *plan {
	p := &plan{
		tcpClient: built[o.tcpClient.name], udpClient: built[o.udpClient.name], singlesClient: built[singlesClient.name],
		rows: matching(o.rows), mtus: o.mtus, reps: o.reps,
		knobs: knobs{length: time.Duration(o.seconds) * time.Second, burst: o.burst}, progress: os.Stderr,
	}
	for _, g := range o.gateways {
		p.gateways = append(p.gateways, built[g.name])
	}
	if o.stationed() {
		p.stations = stationsFor(o.rows, built)
	}
	if o.profile {
		p.profile = profiler(o.out)
	}
	return p
}

// describe is the run without its samples.
func (o *options) describe(ctx context.Context, root string) (*report.Run, error) {
	r := &report.Run{
		Machine: report.Machine(sample.ThisHost()), Date: time.Now(), Seconds: o.seconds, Reps: o.reps, Burst: o.burst,
		TCPClient: o.tcpClient.name, UDPClient: o.udpClient.name,
	}
	var err error
	if r.Wakeup, err = wakeup(); err != nil {
		return nil, err
	}
	for _, g := range o.gateways {
		v, err := g.version(ctx, root)
		if err != nil {
			return nil, err
		}
		r.Gateways = append(r.Gateways, v)
	}
	return r, nil
}
