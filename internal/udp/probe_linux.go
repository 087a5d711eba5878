package udp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Answer is what the kernel said about a feature.
type Answer uint8

// The answers. CouldNotAsk: the question itself failed, for example because loopback is down.
const (
	CouldNotAsk Answer = iota
	No
	Yes
)

// String returns the answer as a person would say it.
func (a Answer) String() string {
	switch a {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not ask"
}

// Feature is the answer about one kernel feature.
type Feature struct {
	Answer Answer
	// Since is the Linux release that introduced it.
	Since string
	// Err is why it could not be asked, or nil.
	Err error
}

// String returns, for example, "yes (Linux 5.0)".
func (f Feature) String() string {
	if f.Err != nil {
		return fmt.Sprintf("%v (Linux %s): %v", f.Answer, f.Since, f.Err)
	}
	return fmt.Sprintf("%v (Linux %s)", f.Answer, f.Since)
}

// Caps is what the running kernel can do for UDP.
type Caps struct {
	// GRO: received datagrams of one flow arrive as one train (UDP_GRO).
	GRO Feature
	// GSO: a train leaves in one message (UDP_SEGMENT).
	GSO Feature
	// Long: a message can carry 127 segments instead of 63.
	Long Feature
	// MaxSegments is how many segments one message may carry, 1 without GSO.
	MaxSegments int
}

// Segments per message: the kernel allows 64, and 128 since 6.9 (UDP_MAX_SEGMENTS,
// include/linux/udp.h), and has counted the UDP header against the budget, so the last segment
// is not ours.
const (
	shortTrain = 63
	longTrain  = 127
)

// Probe asks the kernel, with sockets of its own and by sending one train over loopback.
func Probe() Caps {
	c := Caps{
		GRO:         Feature{Since: "5.0"},
		GSO:         Feature{Since: "4.18"},
		Long:        Feature{Since: "6.9"},
		MaxSegments: 1,
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		c.GRO.Err, c.GSO.Err, c.Long.Err = err, err, err
		return c
	}
	defer func() { _ = unix.Close(fd) }()
	c.GRO.settle(unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1))
	_, err = unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
	c.GSO.settle(err)
	if c.GSO.Answer != Yes {
		c.Long.Answer, c.Long.Err = c.GSO.Answer, c.GSO.Err
		return c
	}
	c.MaxSegments = shortTrain
	c.Long.settle(sendLongTrain(fd))
	if c.Long.Answer == Yes {
		c.MaxSegments = longTrain
	}
	return c
}

// settle turns the outcome of trying a feature into an answer.
func (f *Feature) settle(err error) {
	switch {
	case err == nil:
		f.Answer = Yes
	case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EINVAL):
		f.Answer = No
	default:
		f.Answer, f.Err = CouldNotAsk, err
	}
}

// sendLongTrain sends fd, over loopback, a train that only kernels with the larger limit take.
func sendLongTrain(fd int) error {
	const stride = 16
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, loopback); err != nil {
		return errCouldNot{err}
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return errCouldNot{err}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, stride); err != nil {
		return errCouldNot{err}
	}
	return unix.Sendto(fd, make([]byte, longTrain*stride), unix.MSG_DONTWAIT, self)
}

// errCouldNot hides the error number of a step that is not the question.
type errCouldNot struct{ cause error }

func (e errCouldNot) Error() string { return "prepare the probe: " + e.cause.Error() }
