package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"github.com/firelane/firelane/internal/poll"
	"github.com/firelane/firelane/internal/udp"
)

// Settings say how a relay runs on this host.
type Settings struct {
	// Server says who may have what. A zero Seed is replaced by one from the system.
	Server Config
	// Bind4 and Bind6 are the addresses that the listening port and the relayed ports are bound
	// to; the zero Addr is all of the family. They may differ from the public ones, behind a NAT
	// that keeps ports.
	Bind4, Bind6 netip.Addr
	// Port is the listening port; 0 is any free one.
	Port uint16
	// Workers is the number of workers; 0 is one for each processor.
	Workers int
	// GSO and GRO let trains leave and arrive in one message, where the kernel can.
	GSO, GRO bool
	// RaiseLimits allows raising net.core.rmem_max and wmem_max, for the whole machine, and the
	// process's limit on descriptors, beyond what they are.
	RaiseLimits bool
	// Pin binds each worker to a processor, if there are several.
	Pin bool
	// WakeupDelay is the longest interval at which a busy worker looks for packets instead of
	// being woken for them; 0 for never.
	WakeupDelay time.Duration
	// Log gets state changes; nil for none.
	Log *slog.Logger
}

const (
	// listenBuffer is asked of the kernel for each listening socket and direction: 20 ms of
	// 3 Gbit/s.
	listenBuffer = 7 << 20
	// portBuffer likewise for each socket of a relayed port: 16 ms of 1 Gbit/s. It is a bound; the
	// kernel takes memory as datagrams wait.
	portBuffer = 2 << 20
	// slabsPerWorker is twice a batch, so that a cache refills without the shared ring.
	slabsPerWorker = 2 * batchSlabs
	// puntsPerTurn bounds how many requests are handled before their answers are sent.
	puntsPerTurn = 64
	// otherDescriptors is how many descriptors there are besides those of relayed ports.
	otherDescriptors = 1024
	// closeTimeout bounds the wait for a worker to close a port that is to be opened anew.
	closeTimeout = 100 * time.Millisecond
)

// Relay is a running relay: one control goroutine that owns the Server, and the workers.
type Relay struct {
	log     *slog.Logger
	server  *Server
	group   *udp.Group
	pool    *bufpool.Pool
	ports   udp.Options
	sources sources // of relayed ports
	workers []*Worker
	out4    *udp.Socket // control's own way out; nil for a family that is not served
	out6    *udp.Socket
	pin     bool
	start   time.Time
	bell    chan struct{}

	limits Limits // as they were at the start

	retirement retirement

	// The control goroutine's own.
	output  Output
	closing map[uint16]*port // ports that workers were told to close
	trains  []batch.Train
	own     *host    // this host, as last seen
	unread  failures // of attempts to see them again
	// portSeen: the buffers of a relayed port have been looked at.
	portSeen bool
}

// Run opens a relay and runs it until ctx is done, and returns nil then.
func Run(ctx context.Context, s Settings) error {
	r, err := Listen(s)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}

// Listen binds the listening port. Run must follow, which closes what Listen has opened.
func Listen(s Settings) (*Relay, error) {
	if s.Server.Seed == ([32]byte{}) {
		if _, err := unix.Getrandom(s.Server.Seed[:], 0); err != nil {
			return nil, fmt.Errorf("read entropy: %w", err)
		}
	}
	if s.Workers <= 0 {
		s.Workers = runtime.NumCPU()
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Server.Bind4, s.Server.Bind6 = s.Bind4, s.Bind6
	start := time.Now()
	server, err := NewServer(s.Server, start)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		log: s.Log, server: server, pin: s.Pin && s.Workers > 1, start: start,
		limits: server.cfg.Limits, retirement: retirement{asked: make(chan struct{})},
		bell: make(chan struct{}, 1), closing: make(map[uint16]*port),
		ports: udp.Options{GSO: s.GSO, GRO: s.GRO, RaiseLimits: s.RaiseLimits, Bind4: s.Bind4, Bind6: s.Bind6,
			ReceiveBuffer: portBuffer, SendBuffer: portBuffer},
	}
	if s.RaiseLimits {
		r.raiseDescriptors(2*server.cfg.Limits.Allocations + otherDescriptors)
	}
	if err := r.open(&s); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := r.readHost(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.reportListening()
	return r, nil
}

// open makes sockets, memory and workers.
func (r *Relay) open(s *Settings) (err error) {
	o := r.ports
	o.ReceiveBuffer, o.SendBuffer = listenBuffer, listenBuffer
	switch r.server.cfg.families() {
	case IPv4:
		o.Family = udp.OnlyIPv4
	case IPv6:
		o.Family = udp.OnlyIPv6
	}
	if r.group, err = udp.OpenGroup(s.Port, s.Workers, o); err != nil {
		return err
	}
	if err := lacksFamily(r.server.cfg.families(), r.group); err != nil {
		return err
	}
	if r.pool, err = bufpool.New(s.Workers * slabsPerWorker); err != nil {
		return err
	}
	for i := range s.Workers {
		v4, v6 := r.group.Worker(i)
		any := v4
		if any == nil {
			any = v6
		}
		w, err := newWorker(workerConfig{
			table: r.server.Table(), listen4: v4, listen6: v6, cache: r.pool.NewCache(slabsPerWorker),
			segments: any.MaxSegments(), bindings: r.server.Bindings(), pause: s.WakeupDelay,
			clock: func() int64 { return int64(time.Since(r.start)) }, bell: r.ring,
		})
		if err != nil {
			return fmt.Errorf("make worker %d: %w", i, err)
		}
		r.workers = append(r.workers, w)
	}
	if v4, v6 := r.group.Worker(0); v4 != nil || v6 != nil {
		if v4 != nil {
			r.out4 = v4.Twin()
		}
		if v6 != nil {
			r.out6 = v6.Twin()
		}
	}
	return nil
}

// raiseDescriptors lifts the process's limit on descriptors to at least n, as far as permitted.
func (r *Relay) raiseDescriptors(n int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= uint64(n) {
		return
	}
	want := unix.Rlimit{Cur: uint64(n), Max: max(limit.Max, uint64(n))}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		r.log.Warn("limit on descriptors is below what all allocations need", "want", n, "have", limit.Max, "error", err)
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}

// Port returns the listening port.
func (r *Relay) Port() uint16 { return r.group.Port() }

// Counters returns what the server counts. Any goroutine.
func (r *Relay) Counters() *Counters { return r.server.Counters() }

// Traffic returns what the workers count. Any goroutine.
func (r *Relay) Traffic() (t Traffic) {
	for _, w := range r.workers {
		t.add(&w.counts)
	}
	return t
}

// Listening returns what the listening sockets count, for each of them. Any goroutine, until Run
// has returned.
func (r *Relay) Listening() (all []udp.Stats) {
	for _, w := range r.workers {
		for i := range w.listen {
			if s := w.listen[i].socket; s != nil {
				all = append(all, s.Stats())
			}
		}
	}
	return all
}

// Run carries packets until ctx is done and returns nil then, or until a worker fails. It closes
// everything.
func (r *Relay) Run(ctx context.Context) error {
	// Workers hold on to their processors under load; the control goroutine gets its own.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(r.workers)+1))
	failed := make(chan error, len(r.workers))
	var running sync.WaitGroup
	for i, w := range r.workers {
		running.Go(func() {
			if err := r.thread(w, i); err != nil {
				failed <- err
			}
		})
	}
	r.log.Info("relay started", "port", r.Port(), "workers", len(r.workers))
	err := r.control(ctx, failed)
	for _, w := range r.workers {
		w.stop()
	}
	running.Wait()
	r.log.Info("relay ended")
	return errors.Join(err, r.close())
}

// thread is a worker's thread.
func (r *Relay) thread(w *Worker, i int) error {
	cpu := -1
	if r.pin {
		cpu = i
	}
	if err := poll.PinThread(cpu); err != nil && cpu >= 0 {
		_ = poll.PinThread(-1) // a processor that is not ours to use: better unpinned than not at all
	}
	return w.run()
}

// close closes what open has opened.
func (r *Relay) close() error {
	for _, w := range r.workers {
		w.close()
	}
	var errs []error
	if r.group != nil {
		errs = append(errs, r.group.Close())
	}
	if r.pool != nil {
		errs = append(errs, r.pool.Close())
	}
	return errors.Join(errs...)
}

// ring tells control that a worker has punts. Any goroutine; never waits.
func (r *Relay) ring() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}
