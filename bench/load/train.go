package load

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// train is a run of datagrams of one size that the kernel takes in one call and cuts up itself
// (UDP_SEGMENT), which costs a sender half of what single datagrams do.
type train struct {
	conn *net.UDPConn
	all  []byte
	cars [][]byte // the datagrams in all
}

// newTrain makes a train of n datagrams, or as many as the kernel takes, for the connection.
func newTrain(c *net.UDPConn, size, n int) (train, error) {
	n = min(n, maxTrain/size, maxCars)
	t := train{conn: c, all: make([]byte, n*size)}
	for at := 0; at < len(t.all); at += size {
		t.cars = append(t.cars, t.all[at:at+size:at+size])
	}
	return t, setUDPOption(c, unix.UDP_SEGMENT, size)
}

// send sends the train and counts it. One that the kernel has no room for counts as refused and
// uses up sequence numbers all the same.
func (t *train) send(s *Sent) error {
	_, err := t.conn.Write(t.all)
	if err == nil {
		s.Packets += uint64(len(t.cars))
		return nil
	}
	s.Refused += uint64(len(t.cars))
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return err
}

func setUDPOption(c *net.UDPConn, option, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_UDP, option, value) })
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("set UDP option %d: %w", option, err)
	}
	return nil
}

const (
	// maxTrain is a UDP datagram at most, headers included.
	maxTrain = 65535 - 48
	// maxCars is what Linux takes since UDP_SEGMENT exists (UDP_MAX_SEGMENTS, later doubled).
	maxCars = 64
)
