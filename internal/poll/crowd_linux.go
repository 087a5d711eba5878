package poll

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// crowdEvents is how many ready descriptors one Wait of a Crowd reports at most. The kernel takes
// turns among those that are ready, so that a smaller number starves nobody.
const crowdEvents = 256

// Crowd is an epoll set for any number of descriptors with a bell: a Set for thousands. See the
// package comment for who may call what.
type Crowd struct {
	waiter
	events [crowdEvents]unix.EpollEvent
}

// NewCrowd returns an empty crowd.
func NewCrowd() (*Crowd, error) {
	s := new(Crowd)
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// Add watches fd for reading (level-triggered) under tag ≥ 0, which the caller keeps unique.
// Errors and hang-ups of fd count as readable. The descriptor stays the caller's and must be
// removed before it is closed.
func (s *Crowd) Add(fd, tag int) error {
	if tag < 0 || tag > 1<<31-1 {
		return fmt.Errorf("add descriptor %d to the poll set: tag %d is out of range", fd, tag)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(tag)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("add descriptor %d to the poll set: %w", fd, err)
	}
	return nil
}

// Remove stops watching fd.
func (s *Crowd) Remove(fd int) error {
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("remove descriptor %d from the poll set: %w", fd, err)
	}
	return nil
}

// Wait waits until a descriptor is ready, the bell rings or timeout is over. It appends the tags
// of some ready descriptors to into and returns them, and whether the bell was rung since the last
// Wait or Sleep. A negative timeout waits forever, 0 only looks. It may return early with nothing
// ready. It allocates nothing when into has room for 256 more.
func (s *Crowd) Wait(into []int32, timeout time.Duration) (ready []int32, bell bool, err error) {
	n, bell, err := s.wait(s.events[:], timeout)
	for i := range n {
		if tag := s.events[i].Fd; tag != bellTag {
			into = append(into, tag)
		}
	}
	return into, bell, err
}
