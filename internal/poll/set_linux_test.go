package poll

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newSet(t testing.TB) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newPipe returns the two ends of a pipe.
func newPipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) })
	return p[0], p[1]
}

func mustAdd(t testing.TB, s *Set, fd, tag int) {
	t.Helper()
	if err := s.Add(fd, tag); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, s *Set, timeout time.Duration, want uint64) {
	t.Helper()
	if got, err := s.Wait(timeout); got != want || err != nil {
		t.Fatalf("ready %#x, %v, want %#x", got, err, want)
	}
}

func TestWaitReportsReadableTagsUntilTheyAreRead(t *testing.T) {
	s := newSet(t)
	r0, w0 := newPipe(t)
	r62, w62 := newPipe(t)
	mustAdd(t, s, r0, 0)
	mustAdd(t, s, r62, 62)
	expect(t, s, 0, 0)
	if _, err := unix.Write(w62, []byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, s, -1, 1<<62)
	expect(t, s, time.Second, 1<<62)
	if _, err := unix.Write(w0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	expect(t, s, 0, 1<<62|1)
	if err := s.Remove(62); err != nil {
		t.Fatal(err)
	}
	expect(t, s, time.Second, 1)
	if _, err := unix.Read(r0, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	expect(t, s, 0, 0)
}

func TestWriteInterestCanBeSwitched(t *testing.T) {
	s := newSet(t)
	_, w := newPipe(t)
	mustAdd(t, s, w, 5)
	expect(t, s, 0, 0)
	if err := s.SetWrite(5, true); err != nil {
		t.Fatal(err)
	}
	expect(t, s, -1, 1<<5)
	if err := s.SetWrite(5, false); err != nil {
		t.Fatal(err)
	}
	expect(t, s, 0, 0)
}

func TestTagsAreChecked(t *testing.T) {
	s := newSet(t)
	r, _ := newPipe(t)
	mustAdd(t, s, r, 1)
	for name, err := range map[string]error{
		"taken tag":          s.Add(r, 1),
		"negative tag":       s.Add(r, -1),
		"tag of the bell":    s.Add(r, MaxTags),
		"closed descriptor":  s.Add(-1, 2),
		"removing no tag":    s.Remove(9),
		"writing to no tag":  s.SetWrite(9, true),
		"removing the bell":  s.Remove(MaxTags),
		"a tag added, again": s.Add(r, 3),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	expect(t, s, 0, 0)
}

func TestARingBeforeTheWaitIsNotLost(t *testing.T) {
	s := newSet(t)
	for range 3 {
		s.Ring()
		s.Ring()
		expect(t, s, -1, Bell) // forever: would hang if the ring were lost
		expect(t, s, 0, 0)     // both rings were one
		s.Ring()
		if !s.Sleep(time.Hour) {
			t.Fatal("Sleep missed the bell")
		}
		s.Ring()
		expect(t, s, 0, Bell)
	}
}

// asleep waits until the waiter has announced that it sleeps in the given way.
func asleep(s *Set, how uint32) {
	for s.state.Load() != how {
		time.Sleep(10 * time.Microsecond)
	}
}

func TestTheBellWakesASleeper(t *testing.T) {
	s := newSet(t)
	for range 100 {
		go func() {
			asleep(s, waiting)
			s.Ring()
		}()
		for {
			ready, err := s.Wait(-1)
			if err != nil {
				t.Fatal(err)
			}
			if ready == Bell {
				break
			}
		}
		go func() {
			asleep(s, napping)
			s.Ring()
		}()
		for !s.Sleep(time.Hour) {
		}
	}
}

// Work handed over before a ring must be seen by the waiter, from many ringers at once.
func TestNoRingIsEverLost(t *testing.T) {
	s := newSet(t)
	const ringers, rings = 4, 5000
	var posted atomic.Uint64
	for range ringers {
		go func() {
			for range rings {
				posted.Add(1)
				s.Ring()
			}
		}()
	}
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; posted.Load() < ringers*rings; i++ {
		if time.Now().After(deadline) {
			t.Fatal("a ring was lost")
		}
		if i%2 == 0 {
			s.Sleep(5 * time.Second)
		} else if _, err := s.Wait(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSleepIsNotWokenByDescriptors(t *testing.T) {
	s := newSet(t)
	r, w := newPipe(t)
	mustAdd(t, s, r, 0)
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	const nap = 20 * time.Millisecond
	began := time.Now()
	for left := nap; left > 0; left = nap - time.Since(began) { // a signal may cut a sleep short
		if s.Sleep(left) {
			t.Fatal("the bell rang by itself")
		}
	}
	if took := time.Since(began); took > 50*nap {
		t.Errorf("slept %v, want %v", took, nap)
	}
	expect(t, s, -1, 1)
}

func TestTimeoutsAreNeitherEarlyNorLate(t *testing.T) {
	for _, coarse := range []bool{false, true} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := PinThread(-1); err != nil {
				t.Error(err)
			}
			s := newSet(t)
			s.coarse = coarse
			checkTimeout(t, s)
		}()
		<-done
	}
}

// checkTimeout looks at many waits: signals of the Go runtime cut single ones short, hence the
// median must not be early; a busy machine makes many late, hence the quickest full one must not be.
func checkTimeout(t *testing.T, s *Set) {
	const asked = 200 * time.Microsecond
	var took []time.Duration
	for range 51 {
		began := time.Now()
		if ready, err := s.Wait(asked); ready != 0 || err != nil {
			t.Errorf("ready %#x, %v", ready, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	full, _ := slices.BinarySearch(took, asked)
	if full > len(took)/2 {
		t.Fatalf("coarse=%v: %d of %d waits of %v were shorter", s.coarse, full, len(took), asked)
	}
	most := asked + 500*time.Microsecond
	if s.coarse {
		most += time.Millisecond
	}
	if took[full] > most {
		t.Errorf("coarse=%v: a wait of %v took %v at best", s.coarse, asked, took[full])
	}
}

func TestWaitingAllocatesNothing(t *testing.T) {
	s := newSet(t)
	r, w := newPipe(t)
	mustAdd(t, s, r, 0)
	if _, err := unix.Write(w, []byte("x")); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		for _, timeout := range []time.Duration{-1, 0, time.Second} {
			if ready, err := s.Wait(timeout); ready != 1 || err != nil {
				t.Errorf("ready %#x, %v", ready, err)
			}
		}
		s.Sleep(time.Nanosecond)
		s.Ring()
		s.Sleep(time.Second)
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestPinThreadRefusesACoreThatDoesNotExist(t *testing.T) {
	got := make(chan error, 1)
	go func() { got <- PinThread(1023) }()
	if err := <-got; !errors.Is(err, unix.EINVAL) {
		t.Errorf("pinning to core 1023 gives %v, want EINVAL", err)
	}
}

func TestMeasureWakeup(t *testing.T) {
	cpu, latency, err := MeasureWakeup(0, 0, 200)
	if err != nil || cpu <= 0 || latency <= 0 {
		t.Errorf("CPU %v, latency %v, %v", cpu, latency, err)
	}
	if _, _, err := MeasureWakeup(0, 1023, 1); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a core that does not exist gives %v", err)
	}
	if _, _, err := MeasureWakeup(0, 0, 0); err == nil {
		t.Error("no rounds give no error")
	}
}

// One operation is one wake-up; the CPU time of both threads is reported beside it.
func BenchmarkWakeup(b *testing.B) {
	for name, other := range map[string]int{"same core": 0, "other core": 1} {
		b.Run(name, func(b *testing.B) {
			cpu, latency, err := MeasureWakeup(0, other, min(max(b.N/2, 1), maxRounds))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpu.Nanoseconds()), "cpu-ns/wakeup")
			b.ReportMetric(float64(latency.Nanoseconds()), "ns/wakeup")
		})
	}
}

// One operation is one wait or sleep of 50 µs on a pinned thread: what is above that is lateness.
func BenchmarkFiftyMicroseconds(b *testing.B) {
	for name, wait := range map[string]func(*Set){
		"wait":  func(s *Set) { _, _ = s.Wait(50 * time.Microsecond) },
		"sleep": func(s *Set) { s.Sleep(50 * time.Microsecond) },
	} {
		b.Run(name, func(b *testing.B) {
			if err := PinThread(0); err != nil {
				b.Fatal(err)
			}
			s := newSet(b)
			for b.Loop() {
				wait(s)
			}
		})
	}
}
