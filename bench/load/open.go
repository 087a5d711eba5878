package load

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/protocol/wireguard"
)

// open counts the messages of a WireGuard session that bring datagrams of one run, like
// receive. The sink is client and tunnel in one. To cost little it only opens every
// openEvery-th message; one that is not genuine, or not of the run, is an error.
// When the session is up it listens at c.to, which is how its starter knows.
func open(ctx context.Context, c sendConfig) (Arrivals, error) {
	s, err := c.peer.dial(c.run)
	if err != nil {
		return Arrivals{}, err
	}
	defer s.conn.Close()
	if err := errors.Join(forceReceiveBuffer(s.conn), setUDPOption(s.conn, unix.UDP_GRO, 1)); err != nil {
		return Arrivals{}, err
	}
	ready, err := net.ListenPacket("udp", c.to)
	if err != nil {
		return Arrivals{}, err
	}
	defer ready.Close()
	o := &opener{session: s, run: c.run, payload: c.payload}
	r := newReader(s.conn)
	err = o.gather(ctx, s.conn, func() error {
		if err := r.read(o.datagram); !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		return nil // of an earlier send; the gateway is there now
	})
	return o.Arrivals, err
}

type opener struct {
	Arrivals
	*session
	run     uint64
	payload int
	// one message, for Keypair.Open
	message [1][]byte
	counter [1]uint64
	ok      [1]bool
}

// datagram counts a message of the session that is as long as those of the run.
func (o *opener) datagram(b []byte, now int64) error {
	plain := innerHeaders + o.payload
	if n := len(b) - wireguard.DataMinSize; n != plain && n != (plain+15)&^15 {
		return nil
	}
	if wireguard.Kind(b) != wireguard.KindData || wireguard.ReceiverIndex(b) != o.keys.LocalIndex() {
		return nil
	}
	counter := wireguard.Counter(b)
	o.order(counter & (1<<flowShift - 1))
	o.count(o.payload, now)
	if o.Packets%openEvery != 1 {
		return nil
	}
	o.message[0], o.counter[0] = b, counter
	o.keys.Open(&o.scratch, o.message[:], o.counter[:], o.ok[:])
	if !o.ok[0] {
		return errForged
	}
	f, ok := innerFrame(b[wireguard.HeaderSize : len(b)-wireguard.TagSize])
	if !ok || f.run != o.run {
		return errStranger
	}
	o.delay(now - f.sent)
	return nil
}

var (
	errForged   = errors.New("a message of the gateway does not open")
	errStranger = errors.New("a message of the gateway holds no packet of the run")
)

// openEvery: a sample is enough to know that the messages are real.
const openEvery = 64
