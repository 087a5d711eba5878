package main

import (
	"context"
	"fmt"
	"io"
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
	mtus                 []int
	reps                 int
	knobs                knobs
	progress             io.Writer
	// profile, if set, is called around each row with the gateway's pid.
	profile func(ctx context.Context, pid int, name string) (stop func() error, err error)
}

// run measures everything, gateways alternating within each repetition. A row that fails is a
// sample that says why. It ends early when ctx does, without the
// cell that was under way.
func (p *plan) run(ctx context.Context) []report.Sample {
	eta := newETA(p.progress, p.reps*len(p.mtus)*len(p.gateways))
	var samples []report.Sample
	for rep := range p.reps {
		for _, mtu := range p.mtus {
			for _, g := range p.gateways {
				eta.begin("repetition %d of %d, MTU %d, %s", rep+1, p.reps, mtu, g.Name)
				cell := p.cell(ctx, g, mtu)
				for i := range cell {
					cell[i].Rep = rep + 1
				}
				if ctx.Err() != nil {
					return samples
				}
				samples = append(samples, cell...)
				eta.end(cell)
			}
		}
	}
	return samples
}

// cell measures all rows with one start of one gateway.
func (p *plan) cell(ctx context.Context, gateway topology.Command, mtu int) (samples []report.Sample) {
	fail := func(rows []row, err error) {
		for _, r := range rows {
			samples = append(samples, report.Sample{Row: r.Row, MTU: mtu, Gateway: gateway.Name, Error: err.Error()})
		}
	}
	n, err := topology.New(ctx, topology.Config{MTU: mtu})
	if err != nil {
		fail(p.rows, err)
		return samples
	}
	defer func() {
		if err := n.Close(); err != nil {
			fmt.Fprintf(p.progress, "\nclean up: %v\n", err)
		}
	}()
	if err := n.StartTunnel(ctx, topology.Gateway, gateway); err != nil {
		fail(p.rows, err)
		return samples
	}
	var client string
	for _, r := range p.rows {
		if err := p.useClient(ctx, n, r, &client); err != nil {
			fail([]row{r}, err)
			continue
		}
		s := report.Sample{Row: r.Row, MTU: mtu, Gateway: gateway.Name}
		if err := p.measure(ctx, n, r, &s); err != nil {
			s = report.Sample{Row: r.Row, MTU: mtu, Gateway: gateway.Name, Error: err.Error()}
		}
		samples = append(samples, s)
	}
	return samples
}

// useClient makes sure the client that the row needs runs and reaches the server.
func (p *plan) useClient(ctx context.Context, n *topology.Network, r row, current *string) error {
	if r.Sealed {
		return nil // whichever client there is stays idle
	}
	want := p.tcpClient
	switch {
	case r.Singles:
		want = p.singlesClient
	case r.Kind == report.UDP:
		want = p.udpClient
	}
	if *current == want.Name {
		return nil
	}
	*current = ""
	if err := n.StartTunnel(ctx, topology.Client, want); err != nil {
		return err
	}
	if err := n.Await(ctx); err != nil {
		return fmt.Errorf("%s as client: %w", want.Name, err)
	}
	*current = want.Name
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
