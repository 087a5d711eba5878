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
	pid := n.Tunnel(topology.Gateway).PID()
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
	before, err := sample.Read(pid)
	if err != nil {
		return err
	}
	if err := r.run(ctx, n, k, s); err != nil {
		return errors.Join(err, died(n))
	}
	after, err := sample.Read(pid)
	if err != nil {
		return errors.Join(err, died(n))
	}
	used := after.Since(before)
	s.User, s.System = used.User.Seconds(), used.System.Seconds()
	s.Switches = used.Switches
	s.UDPErrors = report.UDPErrors(used.UDP)
	if s.Elsewhere, err = around.elsewhere(n); err != nil {
		return err
	}
	s.PeakRSS, err = sample.PeakRSS(pid)
	return err
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

// died says which end of the tunnel is gone, if one is.
func died(n *topology.Network) error {
	for _, h := range []topology.Host{topology.Gateway, topology.Client} {
		p := n.Tunnel(h)
		if p == nil {
			continue
		}
		if ended, err := p.Ended(); ended {
			return fmt.Errorf("the %v's tunnel process: %w", h, err)
		}
	}
	return nil
}

const (
	settleEvery = 50 * time.Millisecond
	settleMost  = 500 * time.Millisecond
)
