package poll

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the waiter is doing, and whether the bell was rung since it last returned. Ring pays for a
// system call only when the waiter sleeps.
const (
	awake   = iota // running; the next wait must not sleep past a ring
	waiting        // in epoll: woken by the eventfd
	napping        // in Sleep: woken by the futex on state
	rung
)

// bellTag is the tag of the bell's own events, which no descriptor has.
const bellTag = -1

// waiter is an epoll instance with a bell: what a Set and a Crowd have in common.
type waiter struct {
	epoll  int
	bell   int
	coarse bool // the kernel has no epoll_pwait2: timeouts are rounded up to milliseconds
	idle   int  // waits in a row that have kept the scheduler's processor and brought nothing

	_     [64]byte // ringers write here
	state atomic.Uint32
}

func (s *waiter) open() error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a poll set: %w", err)
	}
	s.epoll = epoll
	s.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return fmt.Errorf("make the bell of a poll set: %w", err)
	}
	// Edge-triggered: every ring is an event of its own, and nobody has to read the counter.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: bellTag}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, s.bell, &ev); err != nil {
		_ = s.Close()
		return fmt.Errorf("add the bell to a poll set: %w", err)
	}
	return nil
}

// wait fills events and returns their number, and whether the bell was rung since the last wait
// or Sleep.
func (s *waiter) wait(events []unix.EpollEvent, timeout time.Duration) (n int, rang bool, err error) {
	if timeout != 0 && !s.state.CompareAndSwap(awake, waiting) {
		timeout = 0 // rung already
	}
	n, errno := s.epollWait(events, timeout)
	rang = s.state.Swap(awake) == rung
	switch errno {
	case 0:
		return n, rang, nil
	case unix.EINTR:
		return 0, rang, nil
	}
	return 0, rang, errno
}

func (s *waiter) epollWait(into []unix.EpollEvent, timeout time.Duration) (int, unix.Errno) {
	events, slots := uintptr(unsafe.Pointer(&into[0])), uintptr(len(into))
	switch {
	case timeout == 0:
		// Only looks and never sleeps, so the scheduler need not know about this call.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), events, slots, 0, 0, 0)
		return int(n), errno
	case timeout < 0:
		if s.idle < keepWaits {
			n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), events, slots, keepMillis, 0, 0)
			s.idle++
			if int(n) > 0 {
				s.idle = 0
			}
			return int(n), errno
		}
		s.idle = 0
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), events, slots, ^uintptr(0), 0, 0)
		return int(n), errno
	}
	if !s.coarse {
		ts := unix.NsecToTimespec(timeout.Nanoseconds())
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(s.epoll), events, slots,
			uintptr(unsafe.Pointer(&ts)), 0, 0)
		if errno != unix.ENOSYS && errno != unix.EPERM { // EPERM: an old seccomp filter
			return int(n), errno
		}
		s.coarse = true
	}
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), events, slots, millis(timeout), 0, 0)
	return int(n), errno
}

// Sleep, and a wait for as long as it takes until nothing has come for a tenth of a second, keep
// the Go scheduler's processor: GOMAXPROCS has to leave one for everything else. To give it up in
// each pause between two packets has the scheduler's monitor thread (sysmon) take it away after
// 10 ms and look around every 20 µs for a while, which at 800 trains a second costs as much as
// carrying them. The collector can stop a loop all the same: it signals the thread, which ends the
// wait.
//
// Such a wait lasts keepMillis: less than the 10 after which the scheduler's monitor signals who
// does not let others run. After keepWaits of them without an event the next wait gives the
// processor up: by then to keep it has cost as much as to get it back.
const (
	keepMillis = 8
	keepWaits  = 12
)

// millis rounds up: to return early would make the caller spin until its deadline.
func millis(d time.Duration) uintptr {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return uintptr(min(ms, 1<<31-1))
}

// Ring wakes the waiter, or keeps its next Wait or Sleep from sleeping. Many rings before the
// waiter returns are one, and cost a system call only if it sleeps. What was written before Ring
// is seen by the waiter after it returns.
func (s *waiter) Ring() {
	switch s.state.Swap(rung) {
	case waiting:
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		// Fails only when the counter is full, after 2^64 rings. Never sleeps.
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(s.bell), uintptr(unsafe.Pointer(&one[0])), 8)
	case napping:
		_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.state)), futexWake, 1, 0, 0, 0)
	}
}

// The private futex operations of linux/futex.h.
const (
	futexPrivate = 128
	futexWait    = 0 | futexPrivate
	futexWake    = 1 | futexPrivate
)

// shortNap is up to which time Sleep keeps its processor of the Go scheduler. To give it up and
// take it back costs little in itself, but a locked thread, which is never scheduled anew, keeps
// the runtime's monitor looking for it every 20 µs (runtime.retake, Go 1.26): a sixth of a relay's
// processor time (2026-11-21). The collector need not wait: its signal ends the sleep.
const shortNap = 2 * time.Millisecond

// Sleep waits for the bell or for d, whichever is first, and for no descriptor: packets gather
// meanwhile and are fetched together (interrupt moderation). It reports whether the bell was rung
// since the last Wait or Sleep. It may return early without a ring (a signal).
func (s *waiter) Sleep(d time.Duration) (bell bool) {
	if d > 0 && s.state.CompareAndSwap(awake, napping) {
		ts := unix.NsecToTimespec(d.Nanoseconds())
		futex := uintptr(unsafe.Pointer(&s.state))
		// The kernel does not sleep unless state is still napping, so that no ring is missed.
		if d <= shortNap {
			_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, futex, futexWait, napping, uintptr(unsafe.Pointer(&ts)), 0, 0)
		} else {
			_, _, _ = unix.Syscall6(unix.SYS_FUTEX, futex, futexWait, napping, uintptr(unsafe.Pointer(&ts)), 0, 0)
		}
	}
	return s.state.Swap(awake) == rung
}

// Close frees the set and its bell; the descriptors in it stay open.
func (s *waiter) Close() error {
	return errors.Join(unix.Close(s.epoll), unix.Close(s.bell))
}
