package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/bench/relay/traffic"
	"github.com/firelane/firelane/bench/sample"
	"github.com/firelane/firelane/bench/topology"
)

// stage is the network on which relays take turns.
type stage struct {
	network      *topology.Network
	client, peer traffic.Place
	server       traffic.Server
}

// newStage builds the network. The caller closes it, in the same goroutine, which keeps its thread
// until then: a relay is killed when the thread that started it ends, and threads that have been a
// sender's or a sink's do end.
func newStage(ctx context.Context) (*stage, error) {
	runtime.LockOSThread()
	n, err := topology.New(ctx, topology.Config{MTU: 1280})
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	s := &stage{network: n, server: traffic.Server{
		Addr: netip.AddrPortFrom(topology.GatewayOuter.V4.Addr(), relayPort), User: user, Password: password,
	}}
	s.client, err = place(n, topology.Client, topology.ClientOuter)
	if err == nil {
		s.peer, err = place(n, topology.Server, topology.ServerLAN)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// place is the namespace of h, learned from a process in it that is gone then.
func place(n *topology.Network, h topology.Host, at topology.Addr) (traffic.Place, error) {
	p, err := n.Start(h, topology.Spec{Argv: []string{"sleep", "60"}})
	if err != nil {
		return traffic.Place{}, err
	}
	defer p.Stop()
	ns, err := netns.GetFromPid(p.PID())
	if err != nil {
		return traffic.Place{}, fmt.Errorf("open the namespace of the %v: %w", h, err)
	}
	return traffic.Place{Namespace: ns, Addr: at.V4.Addr()}, nil
}

func (s *stage) close() error {
	defer runtime.UnlockOSThread()
	for _, ns := range []netns.NsHandle{s.client.Namespace, s.peer.Namespace} {
		if ns > 0 {
			_ = ns.Close()
		}
	}
	return s.network.Close()
}

// knobs are the figures that hold for every row.
type knobs struct {
	length, warmUp time.Duration
	// profile, if any, starts profiling a process and returns how to end that.
	profile func(pid int, name string) (func() error, error)
}

// measure starts a relay and measures it under a row's load.
func (s *stage) measure(ctx context.Context, b built, r Row, k knobs) (m Sample, err error) {
	m = Sample{Row: r, Relay: b.name}
	argv := b.argv
	if r.Crowd > 0 {
		argv = slices.Concat(argv, b.crowd)
	}
	p, err := s.network.Start(topology.Gateway, topology.Spec{Argv: argv})
	if err != nil {
		return m, err
	}
	// None of them has anything to lose, and one takes its time.
	defer func() {
		_ = unix.Kill(p.PID(), unix.SIGKILL)
		p.Stop()
	}()
	if err := p.AwaitPort(ctx, "udp", relayPort); err != nil {
		return m, err
	}
	if r.Crowd > 0 {
		return m, s.crowd(&m, p.PID())
	}
	if r.Plan.Train == 1 {
		undo, err := s.singly()
		defer func() { undo() }()
		if err != nil {
			return m, err
		}
	}
	w, err := traffic.Open(s.client, s.peer, s.server, r.Plan.Lines)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	err = s.load(&m, w, p.PID(), k)
	_, ended := p.Ended()
	return m, errors.Join(err, ended)
}

// singly keeps both ends' kernels from handing over several datagrams in one. undo ends that.
func (s *stage) singly() (undo func(), err error) {
	var undos []func() error
	for _, h := range []topology.Host{topology.Client, topology.Server} {
		u, e := s.network.Singly(h)
		if err = errors.Join(err, e); e == nil {
			undos = append(undos, u)
		}
	}
	return func() {
		for _, u := range undos {
			_ = u() // the next row would show it, and the network ends with the run
		}
	}, err
}

// load sends and samples.
func (s *stage) load(m *Sample, w *traffic.Network, pid int, k knobs) error {
	plan := m.Row.Plan
	plan.Length = k.warmUp
	if _, err := w.Run(plan, s.server.Addr); err != nil {
		return err
	}
	stop := func() error { return nil }
	if k.profile != nil {
		var err error
		if stop, err = k.profile(pid, m.fileName()); err != nil {
			return err
		}
	}
	if err := sample.ResetPeak(pid); err != nil {
		return err
	}
	before, err := sample.Read(pid)
	if err != nil {
		return err
	}
	plan.Length = k.length
	flows, err := w.Run(plan, s.server.Addr)
	if err != nil {
		return err
	}
	after, err := sample.Read(pid)
	if err != nil {
		return err
	}
	m.Up, m.Down, m.Usage = flows[traffic.Up], flows[traffic.Down], after.Since(before)
	m.Peak, err = sample.PeakRSS(pid)
	if err == nil && m.delivered() == 0 {
		err = fmt.Errorf("none of %d datagrams arrived", m.Up.Sent+m.Down.Sent)
	}
	if n := m.Up.Corrupt + m.Down.Corrupt; n > 0 {
		err = errors.Join(err, fmt.Errorf("%d datagrams arrived with other bytes than were sent", n))
	}
	return errors.Join(err, stop())
}

// crowd measures what an idle allocation with a channel costs in memory of the process.
func (s *stage) crowd(m *Sample, pid int) error {
	// The first allocation brings what all of them share.
	w, err := traffic.Open(s.client, s.peer, s.server, 1)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	before, err := resident(pid)
	if err != nil {
		return err
	}
	peer := netip.AddrPortFrom(s.peer.Addr, crowdPeerPort)
	if err := traffic.Crowd(s.client, peer, s.server, m.Row.Crowd); err != nil {
		return err
	}
	after, err := resident(pid)
	if err != nil {
		return err
	}
	m.PerAllocation = float64(after-before) / float64(m.Row.Crowd)
	m.Peak, err = sample.PeakRSS(pid)
	return err
}

// resident is the resident memory of a process in bytes; none of it is its sockets'.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("read memory of process %d: %q", pid, b)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// crowdPeerPort is where nobody listens.
const crowdPeerPort = 9
