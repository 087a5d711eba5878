package fastpath

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
	"golang.org/x/sys/unix"
)

// BenchmarkWorkers asks what sharing costs. Workers of one process share the tables, the pool and,
// in "both" and "one", a client: its send counter, its replay window with its lock, and its stamps.
// Beside them, at the same time of day and on the same cores, as many processes with one worker
// each. A turn carries a superpacket of each client in both directions through encap and decap.
//
// ratio is the packets per second of the workers of one process over those of the processes,
// median of the rounds. wait-ns/packet is how long workers waited for locks.
func BenchmarkWorkers(b *testing.B) {
	for _, workers := range []int{1, 2, 4, 8} {
		for _, clients := range []string{"own", "both", "one"} {
			b.Run(fmt.Sprintf("workers=%d/clients=%s", workers, clients), func(b *testing.B) {
				together := startCrews(b, 1, workers, clients)
				apart := startCrews(b, workers, 1, clients)
				var ratios, rates, waits, drops []float64
				for b.Loop() {
					for range 7 {
						one, many := together.round(b), apart.round(b)
						ratios = append(ratios, one.rate/many.rate)
						rates = append(rates, one.rate)
						waits = append(waits, one.wait)
						drops = append(drops, one.lost)
					}
				}
				b.ReportMetric(median(ratios), "ratio")
				b.ReportMetric(1e9/median(rates), "ns/packet")
				b.ReportMetric(median(waits), "wait-ns/packet")
				b.ReportMetric(median(drops)*1e6, "lost-ppm")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// crewEnv makes the test binary a crew of workers instead: "cores clients", cores joined by commas.
const crewEnv = "FIRELANE_BENCH_CREW"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(crewEnv); ok {
		if err := crewMain(how, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// crew is a process with workers, crews all that run at the same time.
type crew struct {
	in  io.Writer
	out *bufio.Scanner
}

type crews []crew

// result is packets per second, nanoseconds of waiting for locks per packet, and the share lost.
type result struct{ rate, wait, lost float64 }

func startCrews(b *testing.B, processes, workers int, clients string) (all crews) {
	b.Helper()
	for p := range processes {
		var cores []string
		for w := range workers {
			cores = append(cores, strconv.Itoa((p+w)%runtime.NumCPU()))
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crewEnv+"="+strings.Join(cores, ",")+" "+clients)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				b.Errorf("crew: %v", err)
			}
		})
		all = append(all, crew{in, bufio.NewScanner(out)})
	}
	all.round(b) // warms up
	return all
}

// round lets all crews run for the same 100 ms.
func (c crews) round(b *testing.B) (sum result) {
	b.Helper()
	at := time.Now().Add(5 * time.Millisecond).UnixNano()
	for _, m := range c {
		if _, err := fmt.Fprintln(m.in, at, at+int64(100*time.Millisecond)); err != nil {
			b.Fatal(err)
		}
	}
	for _, m := range c {
		var r result
		if !m.out.Scan() {
			b.Fatal("a crew is gone")
		}
		if _, err := fmt.Sscan(m.out.Text(), &r.rate, &r.wait, &r.lost); err != nil {
			b.Fatal(err)
		}
		sum.rate += r.rate
		sum.wait += r.wait / float64(len(c))
		sum.lost += r.lost / float64(len(c))
	}
	return sum
}

// crewMain runs workers on the given cores for each line of in, from and until two instants.
func crewMain(how string, in io.Reader, out io.Writer) error {
	list, clients, _ := strings.Cut(how, " ")
	var cores []int
	for c := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(c)
		if err != nil {
			return err
		}
		cores = append(cores, n)
	}
	if err := pinProcess(cores); err != nil {
		return err
	}
	runtime.GOMAXPROCS(len(slices.Compact(slices.Sorted(slices.Values(cores)))))
	var err error
	testing.Benchmark(func(b *testing.B) { // a testing.TB for the harness; does its work once
		if b.N == 1 {
			err = serveCrew(b, cores, clients, in, out)
		}
	})
	return err
}

func serveCrew(b *testing.B, cores []int, clients string, in io.Reader, out io.Writer) error {
	p := newPair(b, len(cores)+1)
	pool, err := bufpool.New(64 * len(cores))
	if err != nil {
		return err
	}
	var hands []*hand
	for i := range cores {
		var links []int
		if clients != "one" {
			links = append(links, i+1)
		}
		if clients != "own" {
			links = append(links, 0)
		}
		hands = append(hands, newHand(p, pool, i, links))
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var from, until int64
		if _, err := fmt.Sscan(lines.Text(), &from, &until); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, runHands(hands, cores, from, until)); err != nil {
			return err
		}
	}
	return nil
}

func runHands(hands []*hand, cores []int, from, until int64) string {
	wait, rates, lost := mutexWait(), make([]float64, len(hands)), make([]float64, len(hands))
	var wg sync.WaitGroup
	for i, h := range hands {
		wg.Go(func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			_ = pin(0, cores[i:i+1])
			for time.Now().UnixNano() < from {
			}
			rates[i], lost[i] = h.run(from, until)
		})
	}
	wg.Wait()
	var rate, gone float64
	for i := range rates {
		rate += rates[i]
		gone += lost[i] / float64(len(hands))
	}
	packets := rate * float64(until-from) / 1e9
	return fmt.Sprint(rate, (mutexWait()-wait)*1e9/packets, gone)
}

func mutexWait() float64 {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}

// pin binds a thread to cores, pinProcess all threads that there are; others inherit it.
func pin(tid int, cores []int) error {
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	return unix.SchedSetaffinity(tid, &set)
}

func pinProcess(cores []int) error {
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return err
		}
		if err := pin(tid, cores); err != nil {
			return err
		}
	}
	return nil
}

// hand is one worker's loops on both sides, joined in memory: what one side seals the other
// opens, where it lies.
type hand struct {
	loops   [2]*loopback
	read    *batch.SuperBatch
	packets [2][]batch.Packet
}

// loopback is one loop pair: encap of one side, whose trains go straight to decap of the other.
type loopback struct {
	encap *Encap
	decap *Decap
	in    *batch.Batch
	now   int64
}

// Send makes an loopback the sender of its own encap.
func (l *loopback) Send(trains []batch.Train) {
	l.in.Trains = trains
	l.decap.Batch(l.in, l.now)
}

func newLoop(p *pair, from int, cache *bufpool.Cache, lane int, inner, signals *Punts) *loopback {
	l := &loopback{in: batch.NewBatch(sendTrains, cache)}
	l.encap = NewEncap(p[from].table, lane, testSegments, cache, inner, l)
	l.decap = NewDecap(p[1-from].table, lane, sendTrains, signals, inner, Offloads{TSO: true, USO: true})
	return l
}

// benchSuper is how many packets of 1280 bytes a full superpacket stands for.
const benchSuper = 48

func newHand(p *pair, pool *bufpool.Pool, lane int, links []int) *hand {
	cache := pool.NewCache(32)
	h := &hand{read: batch.NewSuperBatch(8, cache)}
	for from := range 2 {
		h.loops[from] = newLoop(p, from, cache, lane, NewPunts(64), NewPunts(64))
		for _, link := range links {
			f := flow{from: from, link: link, payload: fill(benchSuper*1240, 3)}
			h.packets[from] = append(h.packets[from], f.asRead(1240))
		}
	}
	return h
}

// run turns until the instant, and returns packets per second and the share of packets lost.
func (h *hand) run(from, until int64) (rate, lost float64) {
	before, gone := h.carried()
	now := from
	for now < until {
		for side := range 2 {
			h.loops[side].now = now
			h.read.Packets = append(h.read.Packets[:0], h.packets[side]...)
			h.loops[side].encap.Batch(h.read, now)
		}
		now = time.Now().UnixNano()
	}
	after, goneNow := h.carried()
	return float64(after-before) * 1e9 / float64(now-from), float64(goneNow-gone) / float64(after-before+goneNow-gone)
}

func (h *hand) carried() (packets, lost uint64) {
	for _, l := range h.loops {
		var s Snapshot
		s.Add(l.decap.Counters())
		lost += s.Dropped()
		packets += s.Figures[Segments] - s.Dropped()
	}
	return packets, lost
}
