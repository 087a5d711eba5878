package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/sample"
	"github.com/firelane/firelane/bench/topology"
)

// measure runs one row through a network whose tunnel is up, and samples the gateway around it.
func measure(ctx context.Context, n *topology.Network, r row, k knobs, s *report.Sample) error {
	pid, beside := n.Tunnel(topology.Gateway).PID(), n.Translator()
	if err := settle(ctx, pid); err != nil {
		return err
	}
	if err := sample.ResetPeak(pid); err != nil {
		return fmt.Errorf("reset peak memory: %w", err)
	}
	around, err := watch(n)
	if err != nil {
		return err
	}
	var before, translated sample.Usage
	if before, err = sample.Read(pid); err != nil {
		return err
	}
	if translated, err = read(beside); err != nil {
		return err
	}
	if err := r.run(ctx, n, k, s); err != nil {
		return errors.Join(err, died(n))
	}
	after, err := sample.Read(pid)
	if err != nil {
		return errors.Join(err, died(n))
	}
	end, err := read(beside)
	if err != nil {
		return errors.Join(err, died(n))
	}
	used := after.Since(before)
	s.Translator = end.Since(translated).CPU.Seconds()
	s.User, s.System = used.User.Seconds(), used.System.Seconds()
	s.Switches = used.Switches
	s.UDPErrors = report.UDPErrors(used.UDP)
	if s.Elsewhere, err = around.elsewhere(n); err != nil {
		return err
	}
	s.PeakRSS, err = sample.PeakRSS(pid)
	return err
}

// read is the usage of a process that there may not be.
func read(p *topology.Process) (sample.Usage, error) {
	if p == nil {
		return sample.Usage{}, nil
	}
	return sample.Read(p.PID())
}

// settle waits until the process is idle, so that the work of one row is not charged to the next.
// A process that never rests is measured all the same: that is its cost.
func settle(ctx context.Context, pid int) error {
	deadline := time.Now().Add(settleMost)
	last, err := sample.Read(pid)
	for err == nil && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(settleEvery):
		}
		var now sample.Usage
		if now, err = sample.Read(pid); now.CPU-last.CPU < settleEvery/20 {
			return err
		}
		last = now
	}
	return err
}

// died says which end of the tunnel, or its translator, is gone, if one is.
func died(n *topology.Network) error {
	for _, p := range []struct {
		name string
		*topology.Process
	}{
		{"the gateway's tunnel process", n.Tunnel(topology.Gateway)},
		{"the client's tunnel process", n.Tunnel(topology.Client)},
		{"the translator", n.Translator()},
	} {
		if p.Process == nil {
			continue
		}
		if ended, err := p.Ended(); ended {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

const (
	settleEvery = 50 * time.Millisecond
	settleMost  = 500 * time.Millisecond
)
