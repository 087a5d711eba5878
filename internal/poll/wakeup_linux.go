package poll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxRounds bounds a measurement: at 50 µs a round it takes under a minute.
const maxRounds = 1_000_000

// MeasureWakeup lets two threads, pinned to cpuA and cpuB, wake each other in turn, rounds times
// each way, and returns what one wake-up costs: CPU time of both threads together (user and system,
// from the write that wakes to the read that returns) and latency, per wake-up. It goes
// through the Go scheduler's bookkeeping of blocking calls, as a worker's waiting does, and
// includes one write and one read of an eventfd.
func MeasureWakeup(cpuA, cpuB, rounds int) (cpuPerWakeup, latency time.Duration, err error) {
	if rounds < 1 || rounds > maxRounds {
		return 0, 0, fmt.Errorf("measure %d wake-ups: want 1 to %d", rounds, maxRounds)
	}
	var fds [2]int
	for i := range fds {
		if fds[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			return 0, 0, fmt.Errorf("make an eventfd: %w", err)
		}
		defer func() { _ = unix.Close(fds[i]) }()
	}
	results := make(chan rally, 2)
	ready := make(chan error, 2)
	start := make(chan bool)
	go play(cpuA, fds[0], fds[1], rounds, true, ready, start, results)
	go play(cpuB, fds[1], fds[0], rounds, false, ready, start, results)
	if err := errors.Join(<-ready, <-ready); err != nil {
		close(start)
		return 0, 0, err
	}
	start <- true
	start <- true
	a, b := <-results, <-results
	if err := errors.Join(a.err, b.err); err != nil {
		return 0, 0, err
	}
	wakeups := time.Duration(2 * rounds)
	return (a.cpu + b.cpu) / wakeups, max(a.wall, b.wall) / wakeups, nil
}

// rally is one side's account of a measurement.
type rally struct {
	cpu, wall time.Duration
	err       error
}

// play is one side: it reads from in and writes to out, rounds times; the one that serves writes
// first. A side that cannot start says so in ready, and then start is closed and neither plays.
func play(cpu, in, out, rounds int, serves bool, ready chan<- error, start <-chan bool, result chan<- rally) {
	err := PinThread(cpu)
	ready <- err
	if err != nil {
		return
	}
	if !<-start {
		return
	}
	var r rally
	began, used := time.Now(), threadTime()
	one, buf := binary.NativeEndian.AppendUint64(nil, 1), make([]byte, 8)
	for range rounds {
		if serves {
			r.err = errors.Join(r.err, write(out, one), read(in, buf))
		} else {
			r.err = errors.Join(r.err, read(in, buf), write(out, one))
		}
	}
	r.cpu, r.wall = threadTime()-used, time.Since(began)
	result <- r
}

func write(fd int, b []byte) error {
	_, err := unix.Write(fd, b)
	return err
}

func read(fd int, b []byte) error {
	for {
		_, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return err
		}
	}
}

// threadTime returns the CPU time the calling thread has used.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
