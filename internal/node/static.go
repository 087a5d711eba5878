package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/fastpath"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/uapi"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/wireguard"
)

// StaticConfig is a WireGuard interface to run. Switches that are false turn a feature off that
// the kernel may have.
type StaticConfig struct {
	// Name is the interface's name, for messages.
	Name string
	// Tun is the tunnel, with at least Queues queues; RunStatic closes it.
	Tun *tun.Device
	// UAPI is the configuration socket; RunStatic closes it.
	UAPI net.Listener
	// Metrics is where to answer for metrics, nil for nowhere; RunStatic closes it.
	Metrics net.Listener
	// Queues is the number of workers, each with a tunnel queue and a socket per family.
	Queues int
	// GSO and GRO are UDP_SEGMENT and UDP_GRO on the outer sockets.
	GSO, GRO bool
	// Pin binds worker i to core i.
	Pin bool
	// WakeupDelay is the longest interval at which a busy worker looks for packets instead of
	// being woken for them; 0 for never.
	WakeupDelay time.Duration
	// RaiseLimits allows raising the machine's limits on socket buffers.
	RaiseLimits bool
	// PolicyFile is what peers are held to (see ReadPolicyFile), read again at every SIGHUP; empty
	// for their allowed IPs alone.
	PolicyFile string
	// Policy holds WireGuard's timers; the zero value means wireguard.PlainPolicy.
	Policy wireguard.Policy
	Log    *slog.Logger
}

// errInterfaceGone ends the driver when the interface was removed while it ran; RunStatic returns
// nil then, as after its context ended.
var errInterfaceGone = errors.New("the interface was removed")

// puntBudget bounds how many entries of each ring one turn of the driver takes.
const puntBudget = 256

// static is the driver of a control.Static.
type static struct {
	cfg   StaticConfig
	plane planeConfig
	link  tun.Event
	port  uint16 // asked for; 0 for any
	mark  uint32

	table   *fib.Table
	machine *control.Static
	running *plane // nil while the link is down
	spent   carried

	start    time.Time
	bell     chan struct{}
	requests chan func()
	ended    chan struct{} // closed when the driver answers no more requests
	jobs     chan wireguard.Job
	results  chan wireguard.JobResult
	retry    *time.Timer // when the sockets of a link that is up are tried again
	backlog  []wireguard.Job

	out    control.Output
	punted fastpath.Punted
}

// RunStatic runs the interface until ctx is done or the interface is removed, and returns nil
// then. It takes over cfg.Tun and cfg.UAPI. An error means that it could not start, or that a
// worker or the configuration socket failed.
func RunStatic(ctx context.Context, cfg StaticConfig) error {
	s, err := newStatic(cfg)
	if err != nil {
		if cfg.Metrics != nil {
			err = errors.Join(err, cfg.Metrics.Close())
		}
		return errors.Join(err, cfg.UAPI.Close(), cfg.Tun.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var background sync.WaitGroup
	// Before anyone can know that the interface is there: until it is asked for, SIGUSR1 is lost
	// and SIGHUP ends the process.
	background.Go(onSignal(ctx, syscall.SIGUSR1, func() { s.do(func() { s.report("counters") }) }))
	if cfg.PolicyFile != "" {
		background.Go(onSignal(ctx, syscall.SIGHUP, s.reload))
	}
	background.Go(func() {
		if err := uapi.Serve(ctx, cfg.UAPI, s, cfg.Log); err != nil {
			cancel(err)
		}
	})
	if cfg.Metrics != nil {
		background.Go(func() {
			if err := observe.Serve(ctx, cfg.Metrics, s.source); err != nil {
				cancel(err)
			}
		})
	}
	for range min(4, runtime.NumCPU()) {
		background.Go(func() { s.work(ctx) })
	}
	err = s.run(ctx)
	close(s.ended)
	cancel(err)
	background.Wait()
	cause := context.Cause(ctx)
	if errors.Is(cause, uapi.ErrRemoved) || errors.Is(err, errInterfaceGone) {
		cause, err = nil, nil // how tools ask a user-space WireGuard to end
	}
	s.stopPlane()
	s.report("data plane ended")
	if cause != nil && !errors.Is(cause, context.Canceled) && err == nil {
		err = cause
	}
	return errors.Join(err, cfg.Tun.Close(), s.plane.pool.Close())
}

func newStatic(cfg StaticConfig) (*static, error) {
	if cfg.Policy == (wireguard.Policy{}) {
		cfg.Policy = wireguard.PlainPolicy()
	}
	mtu, err := cfg.Tun.MTU()
	if err != nil {
		return nil, err
	}
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("read entropy: %w", err)
	}
	pool, err := bufpool.New(cfg.Queues * slabsPerWorker)
	if err != nil {
		return nil, err
	}
	// Workers hold on to their processors under load; the driver and the jobs get their own.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), cfg.Queues+2))
	start := time.Now()
	s := &static{
		cfg:      cfg,
		link:     tun.Event{MTU: mtu},
		table:    fib.NewTable(mtu),
		start:    start,
		bell:     make(chan struct{}, 1),
		requests: make(chan func()),
		ended:    make(chan struct{}),
		jobs:     make(chan wireguard.Job),
		results:  make(chan wireguard.JobResult),
		retry:    time.NewTimer(time.Hour),
	}
	s.machine = control.NewStatic(control.StaticConfig{
		Table:   s.table,
		Lanes:   cfg.Queues + 1,
		Policy:  cfg.Policy,
		Entropy: rand.Reader,
		Seed:    seed,
		Epoch:   start,
	}, start)
	s.plane = planeConfig{
		table:   s.table,
		tun:     cfg.Tun,
		tunnel:  cfg.Tun.Queue(0).Twin(),
		pool:    pool,
		workers: cfg.Queues,
		socket: udp.Options{
			GSO: cfg.GSO, GRO: cfg.GRO, RaiseLimits: cfg.RaiseLimits,
			ReceiveBuffer: socketBuffer, SendBuffer: socketBuffer,
		},
		pin:   cfg.Pin && cfg.Queues > 1,
		pause: cfg.WakeupDelay,
		clock: func() int64 { return int64(time.Since(start)) },
		bell:  s.ring,
		log:   cfg.Log,
	}
	if cfg.PolicyFile != "" {
		if err := s.loadPolicies(func(f func()) { f() }); err != nil {
			return nil, errors.Join(err, pool.Close())
		}
	}
	return s, nil
}

// ring tells the driver that a punt ring holds something. Any goroutine; never waits.
func (s *static) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}

// work runs jobs until ctx is done.
func (s *static) work(ctx context.Context) {
	for {
		select {
		case j := <-s.jobs:
			r := j.Run()
			select {
			case s.results <- r:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// run is the driver's loop.
func (s *static) run(ctx context.Context) error {
	events, err := s.cfg.Tun.Events(ctx)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer s.retry.Stop()
	for {
		var jobs chan<- wireguard.Job
		var next wireguard.Job
		if len(s.backlog) > 0 {
			jobs, next = s.jobs, s.backlog[0]
		}
		s.arm(timer)
		select {
		case <-ctx.Done():
			return nil
		case <-s.bell:
			s.punts(time.Now())
		case f := <-s.requests:
			f()
		case jobs <- next:
			s.backlog[0] = nil
			s.backlog = s.backlog[1:]
		case r := <-s.results:
			s.machine.HandleJob(r, time.Now())
		case <-timer.C:
			s.machine.HandleTimeout(time.Now())
		case e, ok := <-events:
			switch {
			case e.Removed:
				return errInterfaceGone
			case !ok && ctx.Err() == nil:
				return errors.New("watch the interface: the kernel's notifications ended")
			case ok:
				s.linkChanged(e)
			}
		case <-s.retry.C:
			s.linkChanged(s.link)
		case err := <-s.failures():
			return err
		}
		s.carryOut()
	}
}

// arm sets the timer to the machine's next deadline.
func (s *static) arm(t *time.Timer) {
	at, ok := s.machine.NextTimeout()
	if !ok {
		t.Stop()
		return
	}
	t.Reset(time.Until(at))
}

func (s *static) failures() <-chan error {
	if s.running == nil {
		return nil
	}
	return s.running.failed
}

// punts feeds the machine what the loops handed up, and comes back for the rest.
func (s *static) punts(now time.Time) {
	if s.running == nil {
		return
	}
	for _, w := range s.running.workers {
		left := s.drain(w.signals, now)
		if s.drain(w.inner, now) || left {
			s.ring()
		}
	}
}

// drain feeds one ring's entries and reports whether more may be left.
func (s *static) drain(r *fastpath.Punts, now time.Time) bool {
	for range puntBudget {
		if !r.Pop(&s.punted) {
			return false
		}
		p := &s.punted
		from := control.Datagram{Local: p.Local, Remote: p.Remote, Bytes: p.Payload}
		switch p.Kind {
		case fastpath.PuntOuter:
			s.machine.HandleDatagram(from, now)
		case fastpath.PuntInner:
			s.machine.HandlePacket(p.Peer, p.Payload, now)
		case fastpath.PuntRefused:
			s.machine.HandleRefused(p.Peer, p.Verdict, p.Payload, now)
		case fastpath.PuntWish:
			s.machine.HandleWish(p.Peer, p.Session, p.Wish, now)
		}
	}
	return true
}

// carryOut does what the machine wants, in the order it asks for.
func (s *static) carryOut() {
	s.machine.Drain(&s.out)
	s.table.Apply(s.out.Changes)
	s.backlog = append(s.backlog, s.out.Jobs...)
	if s.running != nil {
		s.running.send(s.out.Datagrams)
		s.plane.write(s.out.Packets)
	}
}
