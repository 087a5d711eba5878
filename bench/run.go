package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// plan is what a run does.
type plan struct {
	gateways             []topology.Command
	tcpClient, udpClient topology.Command
	singlesClient        topology.Command
	rows                 []row
	// stations take turns at the rows by way of policy and translation. These have the least MTU
	// only, which is the one that clients of the network have.
	stations []station
	mtus     []int
	reps     int
	knobs    knobs
	progress io.Writer
	// profile, if set, is called around each row with the gateway's pid.
	profile func(ctx context.Context, pid int, name string) (stop func() error, err error)
}

// run measures everything, gateways alternating within each repetition. A row that fails is a
// sample that says why. It ends early when ctx does, without the
// cell that was under way.
func (p *plan) run(ctx context.Context) []report.Sample {
	cells := p.cells()
	eta := newETA(p.progress, p.reps*len(cells))
	var samples []report.Sample
	for rep := range p.reps {
		for _, c := range cells {
			eta.begin("repetition %d of %d, %s", rep+1, p.reps, c.name)
			got := c.measure(ctx)
			for i := range got {
				got[i].Rep = rep + 1
			}
			if ctx.Err() != nil {
				return samples
			}
			samples = append(samples, got...)
			eta.end(got)
		}
	}
	return samples
}

// cell is what is measured in one go.
type cell struct {
	name    string
	measure func(context.Context) []report.Sample
}

// cells are those of one repetition, in their order.
func (p *plan) cells() []cell {
	var cells []cell
	for _, mtu := range p.mtus {
		for _, g := range p.gateways {
			if !slices.ContainsFunc(p.rows, func(r row) bool { return r.besides(g.Name) }) {
				continue
			}
			cells = append(cells, cell{fmt.Sprintf("MTU %d, %s", mtu, g.Name), func(ctx context.Context) []report.Sample {
				return p.cell(ctx, g, mtu)
			}})
		}
	}
	if len(p.stations) > 0 {
		mtu := slices.Min(p.mtus)
		cells = append(cells, cell{fmt.Sprintf("MTU %d, policy and translation", mtu), func(ctx context.Context) []report.Sample {
			return p.through(ctx, mtu)
		}})
	}
	return cells
}

// cell measures all rows with one start of one gateway.
func (p *plan) cell(ctx context.Context, gateway topology.Command, mtu int) (samples []report.Sample) {
	st, err := p.open(ctx, station{name: gateway.Name, gateway: gateway}, mtu)
	defer p.close(st)
	for _, r := range p.rows {
		if r.besides(gateway.Name) {
			samples = append(samples, p.sample(ctx, st, err, r, mtu))
		}
	}
	return samples
}

// open builds the station's network and starts its gateway. Also with an error, the station is
// to be closed.
func (p *plan) open(ctx context.Context, st station, mtu int) (*open, error) {
	o := &open{station: st}
	var err error
	if o.Network, err = topology.New(ctx, topology.Config{MTU: mtu}); err != nil {
		return o, err
	}
	gateway := st.gateway
	if st.policy {
		file, err := o.PolicyFile()
		if err != nil {
			return o, err
		}
		gateway.Argv = slices.Concat(gateway.Argv, []string{"--policy", file})
	}
	if err := o.StartTunnel(ctx, topology.Gateway, gateway); err != nil {
		return o, err
	}
	if st.translator {
		return o, o.StartTranslator(ctx)
	}
	return o, nil
}

func (p *plan) close(o *open) {
	if o.Network == nil {
		return
	}
	if err := o.Close(); err != nil {
		fmt.Fprintf(p.progress, "\nclean up: %v\n", err)
	}
}

// sample measures a row in an open station, or fails it with the error that opening it gave.
func (p *plan) sample(ctx context.Context, o *open, err error, r row, mtu int) report.Sample {
	s := report.Sample{Row: r.Row, MTU: mtu, Gateway: o.name}
	if err == nil {
		err = p.useClient(ctx, o, r)
	}
	if err == nil {
		err = p.measure(ctx, o.Network, r, &s)
	}
	if err != nil {
		return report.Sample{Row: r.Row, MTU: mtu, Gateway: o.name, Error: err.Error()}
	}
	return s
}

// useClient makes sure the client that the row needs runs and reaches the server.
func (p *plan) useClient(ctx context.Context, o *open, r row) error {
	if r.Sealed {
		return nil // whichever client there is stays idle
	}
	want := p.tcpClient
	switch {
	case r.Singles:
		want = p.singlesClient
	case r.Kind == report.UDP, r.Kind == report.Ceiling:
		want = p.udpClient
	}
	if o.client == want.Name {
		return nil
	}
	o.client = ""
	if err := o.StartTunnel(ctx, topology.Client, want); err != nil {
		return err
	}
	if err := o.await(ctx); err != nil {
		return fmt.Errorf("%s as client: %w", want.Name, err)
	}
	o.client = want.Name
	return nil
}

func (p *plan) measure(ctx context.Context, n *topology.Network, r row, s *report.Sample) (err error) {
	if p.profile != nil {
		stop, err := p.profile(ctx, n.Tunnel(topology.Gateway).PID(), fmt.Sprintf("%s-%s-%d", s.Gateway, r.Name, s.MTU))
		if err != nil {
			return err
		}
		defer func() {
			if e := stop(); err == nil {
				err = e
			}
		}()
	}
	return measure(ctx, n, r, p.knobs, s)
}

// eta writes progress lines with the time that is probably left.
type eta struct {
	out         io.Writer
	total, done int
	start       time.Time
}

func newETA(out io.Writer, total int) *eta { return &eta{out: out, total: total, start: time.Now()} }

func (e *eta) begin(format string, args ...any) {
	fmt.Fprintf(e.out, "[%d/%d] %s", e.done+1, e.total, fmt.Sprintf(format, args...))
}

func (e *eta) end(cell []report.Sample) {
	e.done++
	spent := time.Since(e.start)
	left := spent / time.Duration(e.done) * time.Duration(e.total-e.done)
	failed := 0
	for _, s := range cell {
		if s.Error != "" {
			failed++
			fmt.Fprintf(e.out, "\n    %s failed: %s", s.Row.Name, s.Error)
		}
	}
	fmt.Fprintf(e.out, ": %d rows, %d failed, about %v left\n", len(cell), failed, left.Round(time.Second))
}
