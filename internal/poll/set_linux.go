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

// MaxTags is how many descriptors a set can tell apart: bits 0 to 62 of what Wait returns.
const MaxTags = 63

// Bell is the bit of Wait's result that says the bell was rung.
const Bell uint64 = 1 << 63

// What the waiter is doing, and whether the bell was rung since it last returned. Ring pays for a
// system call only when the waiter sleeps.
const (
	awake   = iota // running; the next wait must not sleep past a ring
	waiting        // in epoll: woken by the eventfd
	napping        // in Sleep: woken by the futex on state
	rung
)

// Set is one epoll set with a bell. See the package comment for who may call what.
type Set struct {
	epoll  int
	bell   int
	coarse bool // the kernel has no epoll_pwait2: timeouts are rounded up to milliseconds
	events [MaxTags + 1]unix.EpollEvent
	fds    [MaxTags]int // by tag, -1 is free

	_     [64]byte // ringers write here
	state atomic.Uint32
}

// New returns an empty set.
func New() (*Set, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a poll set: %w", err)
	}
	s := &Set{epoll: epoll}
	for i := range s.fds {
		s.fds[i] = -1
	}
	s.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("make the bell of a poll set: %w", err)
	}
	// Edge-triggered: every ring is an event of its own, and nobody has to read the counter.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: MaxTags}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, s.bell, &ev); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("add the bell to a poll set: %w", err)
	}
	return s, nil
}

// Add watches fd for reading (level-triggered: Wait reports it as long as there is something to
// read) under tag, 0 ≤ tag < MaxTags, which must be free. Errors and hang-ups of fd count as
// readable. The descriptor stays the caller's and must be removed before it is closed.
func (s *Set) Add(fd, tag int) error {
	if tag < 0 || tag >= MaxTags {
		return fmt.Errorf("add descriptor %d to the poll set: tag %d is not below %d", fd, tag, MaxTags)
	}
	if s.fds[tag] >= 0 {
		return fmt.Errorf("add descriptor %d to the poll set: tag %d is taken", fd, tag)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(tag)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("add descriptor %d to the poll set: %w", fd, err)
	}
	s.fds[tag] = fd
	return nil
}

// SetWrite also reports tag when its descriptor can be written, or stops doing so.
func (s *Set) SetWrite(tag int, on bool) error {
	fd, err := s.fd(tag)
	if err != nil {
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(tag)}
	if on {
		ev.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("change descriptor %d in the poll set: %w", fd, err)
	}
	return nil
}

// Remove stops watching the descriptor of tag and frees the tag.
func (s *Set) Remove(tag int) error {
	fd, err := s.fd(tag)
	if err != nil {
		return err
	}
	s.fds[tag] = -1
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("remove descriptor %d from the poll set: %w", fd, err)
	}
	return nil
}

func (s *Set) fd(tag int) (int, error) {
	if tag < 0 || tag >= MaxTags || s.fds[tag] < 0 {
		return 0, fmt.Errorf("poll set: tag %d is not in use", tag)
	}
	return s.fds[tag], nil
}

// Wait waits until a descriptor is ready, the bell rings or timeout is over, and returns the ready
// tags as bits, with Bell if it was rung since the last Wait or Sleep. A negative timeout waits
// forever, 0 only looks. It may return early with nothing ready (a signal, a late ring).
func (s *Set) Wait(timeout time.Duration) (ready uint64, err error) {
	if timeout != 0 && !s.state.CompareAndSwap(awake, waiting) {
		timeout = 0 // rung already
	}
	n, errno := s.epollWait(timeout)
	if s.state.Swap(awake) == rung {
		ready = Bell
	}
	if errno != 0 {
		if errno == unix.EINTR {
			return ready, nil
		}
		return ready, errno
	}
	for i := range n {
		// The bell's own event is only a wake-up: whether it was rung stands in state.
		if tag := s.events[i].Fd; tag < MaxTags {
			ready |= 1 << uint(tag)
		}
	}
	return ready, nil
}

func (s *Set) epollWait(timeout time.Duration) (int, unix.Errno) {
	events := uintptr(unsafe.Pointer(&s.events[0]))
	const slots = uintptr(MaxTags + 1)
	switch {
	case timeout == 0:
		// Only looks and never sleeps, so the scheduler need not know about this call.
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epoll), events, slots, 0, 0, 0)
		return int(n), errno
	case timeout < 0:
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

// millis rounds up: to return early would make the caller spin until its deadline.
func millis(d time.Duration) uintptr {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return uintptr(min(ms, 1<<31-1))
}

// Ring wakes the waiter, or keeps its next Wait or Sleep from sleeping. Many rings before the
// waiter returns are one, and cost a system call only if it sleeps. What was written before Ring
// is seen by the waiter after it returns.
func (s *Set) Ring() {
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

// Sleep waits for the bell or for d, whichever is first, and for no descriptor: packets gather
// meanwhile and are fetched together (interrupt moderation). It reports whether the bell was rung
// since the last Wait or Sleep. It may return early without a ring (a signal).
func (s *Set) Sleep(d time.Duration) (bell bool) {
	if d > 0 && s.state.CompareAndSwap(awake, napping) {
		ts := unix.NsecToTimespec(d.Nanoseconds())
		// The kernel does not sleep unless state is still napping, so that no ring is missed.
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.state)), futexWait, napping,
			uintptr(unsafe.Pointer(&ts)), 0, 0)
	}
	return s.state.Swap(awake) == rung
}

// Close frees the set and its bell; the descriptors in it stay open.
func (s *Set) Close() error {
	return errors.Join(unix.Close(s.epoll), unix.Close(s.bell))
}
