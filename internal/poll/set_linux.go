package poll

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// MaxTags is how many descriptors a set can tell apart: bits 0 to 62 of what Wait returns.
const MaxTags = 63

// Bell is the bit of Wait's result that says the bell was rung.
const Bell uint64 = 1 << 63

// Set is one epoll set with a bell. See the package comment for who may call what.
type Set struct {
	waiter
	events [MaxTags + 1]unix.EpollEvent
	fds    [MaxTags]int // by tag, -1 is free
}

// New returns an empty set.
func New() (*Set, error) {
	s := new(Set)
	for i := range s.fds {
		s.fds[i] = -1
	}
	if err := s.open(); err != nil {
		return nil, err
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
	n, rang, err := s.wait(s.events[:], timeout)
	if rang {
		ready = Bell
	}
	for i := range n {
		// The bell's own event is only a wake-up: whether it was rung stands in state.
		if tag := s.events[i].Fd; tag != bellTag {
			ready |= 1 << uint(tag)
		}
	}
	return ready, err
}
